"""The metrics of the daemon. Counters move once for each batch, not for each message.

received = committed + duplicate + dead_lettered + in_flight holds whenever it is read. Every series is there from the
start, as 0: Prometheus does not see the first step of a counter that begins with it.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import accumulate, product
from typing import Final, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from ingestd.model.alert import KINDS
from ingestd.model.claims import SessionState
from ingestd.model.dead_letter import UNKNOWN_STREAM, Reason, Source
from ingestd.model.stream import STREAMS, WITH_ENERGY, Stream

FLUSH_BUCKETS: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
COMMIT_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0)  # seconds
BATCH_BUCKETS: Final = (1, 10, 50, 100, 500, 1000, 2500, 5000, 10_000, 20_000, 32_000)  # messages
REQUEST_BUCKETS: Final = (0.005, 0.02, 0.1, 0.4, 1.0, 5.0)  # seconds
STATUS_CLASSES: Final = ("2xx", "4xx", "5xx")
"""Those that are there from the start."""

_SOURCES: Final = get_args(Source)
_STORED: Final = (tuple(stream.name for stream in STREAMS), _SOURCES)
_ALL: Final = ((*_STORED[0], UNKNOWN_STREAM), _SOURCES)
_REFUSED: Final = (*_ALL, get_args(Reason))

disable_created_metrics()  # type: ignore[no-untyped-call]  # a timestamp beside every counter doubles the page and says nothing new


class Metrics:
    """Every metric of one daemon, in a registry of its own. All counts are in readings."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._received = self._counter("ingestd_received", "Messages that were received", _ALL)
        self._committed = self._counter("ingestd_committed", "Readings committed as new rows", _STORED)
        self._duplicate = self._counter("ingestd_duplicate", "Readings that had been stored before", _STORED)
        self._dead_lettered = self._counter(
            "ingestd_dead_lettered", "Messages that became dead letters, stored or not", _REFUSED
        )
        self._suppressed = self._counter(
            "ingestd_dead_letters_suppressed",
            "Dead letters beyond a limit, which were counted and not stored; ingestd_dead_lettered counts them too",
            _REFUSED,
        )
        self._receipt_to_commit = _BatchHistogram(
            "ingestd_receipt_to_commit_seconds",
            "Seconds from the receipt of a message to the end of the flush that stored it",
            COMMIT_BUCKETS,
        )
        self.registry.register(self._receipt_to_commit)
        self._flush_messages = Histogram(
            "ingestd_flush_messages", "Messages in a flush", buckets=BATCH_BUCKETS, registry=self.registry
        )
        self.requests = Requests(self.registry)
        self._flush_seconds = Histogram(
            "ingestd_flush_seconds",
            "Seconds from the beginning of a flush to its end",
            buckets=FLUSH_BUCKETS,
            registry=self.registry,
        )
        self.flush_retries = Counter(
            "ingestd_flush_retries", "Transactions that failed and were repeated", registry=self.registry
        )
        self.stale_acks = Counter(
            "ingestd_stale_acks",
            "Acknowledgements that were not sent, because their connection was lost",
            registry=self.registry,
        )
        self.connections = Counter("ingestd_broker_connections", "Connections to the broker", registry=self.registry)
        self.broker_sessions_lost = Counter(
            "ingestd_broker_sessions_lost",
            "Connections at which the broker had lost our session, with the messages that waited in it",
            registry=self.registry,
        )
        self.broker_dropped = Gauge(
            "ingestd_broker_dropped_messages",
            "Messages that the broker has dropped since its start, as it says",
            registry=self.registry,
        )
        self._alerts_active = Gauge("ingestd_alerts_active", "Active alerts", ["kind"], registry=self.registry)
        self.alerts_active({})
        self._last_commit = Gauge(
            "ingestd_last_commit_timestamp_seconds", "Unix time of the last commit", registry=self.registry
        )

    def received(self, stream: str, source: str, count: int) -> None:
        self._received.labels(stream, source).inc(count)

    def committed(self, stream: str, source: str, count: int) -> None:
        self._committed.labels(stream, source).inc(count)

    def duplicate(self, stream: str, source: str, count: int) -> None:
        self._duplicate.labels(stream, source).inc(count)

    def dead_lettered(self, stream: str, source: str, reason: str, count: int) -> None:
        self._dead_lettered.labels(stream, source, reason).inc(count)

    def suppressed(self, stream: str, source: str, reason: str, count: int) -> None:
        self._suppressed.labels(stream, source, reason).inc(count)

    def flushed(self, seconds: float, receipts: Iterable[tuple[Source, float, int]]) -> None:
        """A flush has just ended. Each of `receipts`: source, seconds since receipt, messages that came together."""
        self._flush_seconds.observe(seconds)
        messages = 0
        for source, since, count in receipts:
            messages += count
            self._receipt_to_commit.observe(source, since, count)
        self._flush_messages.observe(messages)
        self._last_commit.set_to_current_time()

    def alerts_active(self, counts: Mapping[str, int]) -> None:
        """Number of active alerts by kind; 0 for a kind that is left out."""
        for kind in KINDS:
            self._alerts_active.labels(kind).set(counts.get(kind, 0))

    def expose_condition(self, *, is_ready: Callable[[], bool], is_backlog: Callable[[], bool]) -> None:
        """Whether readings flow, and whether old ones do, when scraped."""
        Gauge(
            "ingestd_ready",
            "1 while readings can flow from the broker to the database; 0 also while another daemon is active",
            registry=self.registry,
        ).set_function(lambda: float(is_ready()))
        Gauge(
            "ingestd_backlog",
            "1 while the readings that arrive are more than 15 minutes old, as after an outage",
            registry=self.registry,
        ).set_function(lambda: float(is_backlog()))

    def expose_clock_difference(self, difference: Callable[[], timedelta | None]) -> None:
        """How far this machine's clock is ahead of the database's, when scraped; NaN before it is known."""
        gauge = Gauge(
            "ingestd_clock_difference_seconds",
            "Seconds by which the clock of ingestd is ahead of the clock of the database",
            registry=self.registry,
        )

        def seconds() -> float:
            known = difference()
            return math.nan if known is None else known.total_seconds()

        gauge.set_function(seconds)

    def expose_replica(self, *, is_away: Callable[[], bool], lag: Callable[[], timedelta | None]) -> None:
        """Whether the replica for reading answers, and how far it is behind, when scraped; NaN before it is known."""
        Gauge("ingestd_replica_up", "1 while the replica for reading answers", registry=self.registry).set_function(
            lambda: float(not is_away())
        )

        def seconds() -> float:
            known = lag()
            return math.nan if known is None else known.total_seconds()

        Gauge(
            "ingestd_replica_lag_seconds",
            "Seconds by which what the replica for reading shows is behind the database",
            registry=self.registry,
        ).set_function(seconds)

    def expose_archive(self, is_failing: Callable[[], bool]) -> None:
        """Whether days of history cannot be archived, when scraped."""
        Gauge(
            "ingestd_archive_failing",
            "1 while days of history that are past their retention cannot be archived, and so are not dropped",
            registry=self.registry,
        ).set_function(lambda: float(is_failing()))

    def expose_ledger(
        self,
        made_until: Callable[[], Mapping[Stream, datetime | None]],
        stale_devices: Callable[[], Mapping[Stream, int | None]],
    ) -> None:
        """How far the ledger of each stream is, when scraped; NaN before it is known."""
        until = Gauge(
            "ingestd_ledger_made_until_timestamp_seconds",
            "Unix time up to which the ledger has the quarters of all devices",
            ["stream"],
            registry=self.registry,
        )
        stale = Gauge(
            "ingestd_ledger_stale_devices",
            "Devices with quarters that are made anew, because readings came late",
            ["stream"],
            registry=self.registry,
        )

        def seconds(stream: Stream) -> float:
            known = made_until()[stream]
            return math.nan if known is None else known.timestamp()

        def devices(stream: Stream) -> float:
            known = stale_devices()[stream]
            return math.nan if known is None else known

        for stream in WITH_ENERGY:
            until.labels(stream.name).set_function(partial(seconds, stream))
            stale.labels(stream.name).set_function(partial(devices, stream))

    def expose_in_flight(self, in_flight: Callable[[], Mapping[tuple[str, Source], int]]) -> None:
        """Read the readings held, by (stream, source), when scraped."""
        self.registry.register(_InFlight(in_flight))

    def expose_sessions(self, states: Callable[[], Sequence[SessionState]]) -> None:
        """The sessions of the broker, when scraped."""
        self.registry.register(_Sessions(states))

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def totals(self) -> dict[str, float]:
        """The counters of the balance, over all labels."""
        counters = {
            "received": self._received,
            "committed": self._committed,
            "duplicate": self._duplicate,
            "dead_lettered": self._dead_lettered,
        }
        return {
            name: sum(s.value for m in counter.collect() for s in m.samples if s.name.endswith("_total"))
            for name, counter in counters.items()
        }

    def _counter(self, name: str, documentation: str, values: tuple[tuple[str, ...], ...]) -> Counter:
        """A counter by stream, source and, where there are values for it, reason; 0 for each combination."""
        labels = ("stream", "source", "reason")[: len(values)]
        counter = Counter(name, documentation, labels, registry=self.registry)
        for combination in product(*values):
            counter.labels(*combination)
        return counter


class Requests:
    """The requests of the HTTP API by route. A route is its path with the names of its parameters."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._count = Counter(
            "ingestd_http_requests", "Requests answered", ["route", "method", "status"], registry=registry
        )
        self._seconds = Histogram(
            "ingestd_http_request_seconds",
            "Seconds from a request to its answer",
            ["route", "method"],
            buckets=REQUEST_BUCKETS,
            registry=registry,
        )

        self.event_streams = Gauge(
            "ingestd_http_event_streams", "Clients that read /v1/stream at the moment", registry=registry
        )
        self.event_streams_dropped = Counter(
            "ingestd_http_event_streams_dropped",
            "Clients of /v1/stream that were too slow, and whose connection was closed",
            registry=registry,
        )

    def expect(self, route: str, method: str) -> None:
        """Show a route before its first request."""
        self._seconds.labels(route, method)
        for status in STATUS_CLASSES:
            self._count.labels(route, method, status)

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        self._count.labels(route, method, f"{status // 100}xx").inc()
        self._seconds.labels(route, method).observe(seconds)


class _BatchHistogram(Collector):
    """A histogram by source. Messages that came together are one step, however many they are."""

    def __init__(self, name: str, documentation: str, bounds: tuple[float, ...]) -> None:
        self._name = name
        self._documentation = documentation
        self._bounds = bounds
        self._counts = {source: [0] * (len(bounds) + 1) for source in _SOURCES}
        self._sums = dict.fromkeys(_SOURCES, 0.0)

    def observe(self, source: Source, value: float, count: int) -> None:
        """`count` messages with the same value."""
        self._counts[source][bisect_left(self._bounds, value)] += count
        self._sums[source] += value * count

    def collect(self) -> Iterable[Metric]:
        family = HistogramMetricFamily(self._name, self._documentation, labels=["source"])
        bounds = [*map(str, self._bounds), "+Inf"]
        for source, counts in self._counts.items():
            family.add_metric([source], list(zip(bounds, accumulate(counts), strict=True)), self._sums[source])
        yield family


class _InFlight(Collector):
    def __init__(self, in_flight: Callable[[], Mapping[tuple[str, Source], int]]) -> None:
        self._in_flight = in_flight

    def collect(self) -> Iterable[Metric]:
        gauge = GaugeMetricFamily(
            "ingestd_in_flight", "Readings received and not settled yet", labels=["stream", "source"]
        )
        held = self._in_flight()
        for stream, source in product(*_ALL):
            gauge.add_metric([stream, source], held.get((stream, source), 0))
        yield gauge


class _Sessions(Collector):
    def __init__(self, states: Callable[[], Sequence[SessionState]]) -> None:
        self._states = states

    def collect(self) -> Iterable[Metric]:
        states = self._states()
        for name, documentation, value in _OF_A_SESSION:
            gauge = GaugeMetricFamily(name, documentation, labels=["session"])
            for state in states:
                gauge.add_metric([state.session], value(state))
            yield gauge


_OF_A_SESSION: Final[tuple[tuple[str, str, Callable[[SessionState], float]], ...]] = (
    (
        "ingestd_session_held",
        "1 while this daemon holds the session of the broker",
        lambda state: state.holder == "this daemon",
    ),
    (
        "ingestd_session_connected",
        "1 while this daemon holds the session and telemetry can arrive in it",
        lambda state: state.holder == "this daemon" and state.reason is None,
    ),
    (
        "ingestd_session_in_flight",
        "Messages of the session that were received and are not settled yet",
        lambda state: state.in_flight,
    ),
    (
        "ingestd_session_free_seconds",
        "Seconds for which no daemon has held the session, so that its messages wait in the broker",
        lambda state: state.free_seconds,
    ),
)
