"""The metrics of the daemon. Counters move once for each batch, not for each message.

received = committed + duplicate + dead_lettered + in_flight holds whenever it is read.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ingestd.model.alert import KINDS
from ingestd.model.dead_letter import Source
from ingestd.model.stream import WITH_ENERGY, Stream

FLUSH_BUCKETS: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds


disable_created_metrics()  # type: ignore[no-untyped-call]  # a timestamp beside every counter doubles the page and says nothing new


class Metrics:
    """Every metric of one daemon, in a registry of its own. All counts are in readings."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._received = self._balance_counter("ingestd_received", "Messages that were received")
        self._committed = self._balance_counter("ingestd_committed", "Readings committed as new rows")
        self._duplicate = self._balance_counter("ingestd_duplicate", "Readings that had been stored before")
        self._dead_lettered = self._balance_counter(
            "ingestd_dead_lettered", "Messages that became dead letters, stored or not", "reason"
        )
        self._suppressed = self._balance_counter(
            "ingestd_dead_letters_suppressed",
            "Dead letters beyond a limit, which were counted and not stored; ingestd_dead_lettered counts them too",
            "reason",
        )
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

    def flushed(self, seconds: float) -> None:
        """A flush has just ended."""
        self._flush_seconds.observe(seconds)
        self._last_commit.set_to_current_time()

    def alerts_active(self, counts: Mapping[str, int]) -> None:
        """Number of active alerts by kind; 0 for a kind that is left out."""
        for kind in KINDS:
            self._alerts_active.labels(kind).set(counts.get(kind, 0))

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

    def _balance_counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(name, documentation, ["stream", "source", *labels], registry=self.registry)


class _InFlight(Collector):
    def __init__(self, in_flight: Callable[[], Mapping[tuple[str, Source], int]]) -> None:
        self._in_flight = in_flight

    def collect(self) -> Iterable[Metric]:
        gauge = GaugeMetricFamily(
            "ingestd_in_flight", "Readings received and not settled yet", labels=["stream", "source"]
        )
        for (stream, source), count in self._in_flight().items():
            gauge.add_metric([stream, source], count)
        yield gauge
