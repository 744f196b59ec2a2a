"""Sustained: the highest rate at which the backlog does not grow."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from statistics import linear_regression
from typing import TYPE_CHECKING, Any, Final, LiteralString

from bench.daemon import Daemon, running
from bench.errors import BenchError
from bench.load import Load
from bench.meter import Meter
from bench.processes import wait_until
from bench.report import Column, Table, progress

if TYPE_CHECKING:
    from bench.sizes import Sizes
    from bench.stage import Place, Stage

AS_FAST_AS_IT_GOES: Final = 200_000.0  # messages a second
AHEAD: Final = 65_000
"""Messages that the publisher may be ahead of the commits while the rate is estimated."""
STEP: Final = 0.05
MOST_GROWTH: Final = 0.01
"""The part of the rate by which a backlog may grow and still counts as constant."""
MOST_TRIES: Final = 10
MOST_SECONDS_BEHIND: Final = 3.0
"""The most messages that may be published and not committed: those of a waiting flush, of two that are written, and
some more."""
WARM_UP: Final = 0.2
"""The part of a run at its beginning that does not count."""
SAMPLE_SECONDS: Final = 0.25
CATCH_UP_SECONDS: Final = 300.0
_WAL: LiteralString = "SELECT pg_current_wal_insert_lsn() - '0/0'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One try at a rate. Rates and growth are in messages a second; CPU in microseconds a message."""

    rate: float
    seconds: float
    growth: float
    backlog: int
    """The most messages that were published and not committed."""
    held: bool
    publisher_cpu: float
    mosquitto_cpu: float
    postgres_cpu: float
    own_cpu: float
    wal_bytes: float
    """Written by PostgreSQL for a message."""


def measure(stage: Stage, sizes: Sizes) -> dict[str, Any]:
    """An estimate first; from there up or down in steps by short tries; then one of full length, until it is held."""
    print(f"Sustained: the highest rate held for {sizes.seconds:.0f} s without a growing backlog")
    table = Table(
        [
            Column("msg/s", "{:,.0f}".format),
            Column("s", "{:.0f}".format),
            Column("growth", "{:+,.0f}/s".format),
            Column("backlog", "{:,}".format),
            Column("held", lambda held: "yes" if held else "no"),
            Column("publisher", "{:.1f} µs".format),
            Column("Mosquitto", "{:.1f} µs".format),
            Column("PostgreSQL", "{:.1f} µs".format),
            Column("ingestd", "{:.1f} µs".format),
            Column("WAL", "{:.0f} bytes".format),
        ]
    )
    table.head()
    tries: list[Held] = []
    with stage.place() as place, running(place) as daemon:

        def held(rate: float, seconds: float) -> bool:
            tries.append(_hold(place, daemon, rate, seconds))
            table.row(*asdict(tries[-1]).values())
            return tries[-1].held

        rate = _estimate(place, daemon, sizes.seconds / 4)
        short = sizes.seconds / 5
        if held(rate, short):
            while held(rate * (1 + STEP), short):
                rate *= 1 + STEP
        else:
            rate *= 1 - STEP
        while not held(rate, sizes.seconds):
            if len(tries) > MOST_TRIES:
                raise BenchError(f"no rate was held for {sizes.seconds:.0f} s in {len(tries)} tries")
            rate = min((1 - STEP) * rate, tries[-1].rate - tries[-1].growth)
        daemon.stop()
    return {**asdict(tries[-1]), "tries": list(map(asdict, tries))}


def _estimate(place: Place, daemon: Daemon, seconds: float) -> float:
    """Commits a second while the publisher goes as far ahead of them as it may."""
    progress("sustained, estimating the rate")
    before = daemon.committed()
    with Load(place.broker.url, rate=AS_FAST_AS_IT_GOES) as load:
        started = time.monotonic()
        counted_from: tuple[float, int] | None = None
        while True:
            load.check()
            committed, now = daemon.committed() - before, time.monotonic()
            load.limit = committed + AHEAD
            if counted_from is None and now > started + WARM_UP * seconds:
                counted_from = (now, committed)
            if counted_from is not None and now > started + seconds and committed > counted_from[1]:
                break
            time.sleep(SAMPLE_SECONDS / 10)
        load.limit = 0
        load.stop()
    _catch_up(daemon, before + load.published)
    return (committed - counted_from[1]) / (now - counted_from[0])


def _hold(place: Place, daemon: Daemon, rate: float, seconds: float) -> Held:
    progress(f"sustained, {rate:,.0f} messages/s for {seconds:.0f} s")
    before = daemon.committed()
    samples: list[tuple[float, int]] = []
    with Load(place.broker.url, rate=rate) as load:
        time.sleep(WARM_UP * seconds)
        started, published = time.monotonic(), load.published
        meter, wal = Meter(place, daemon), place.query(_WAL)
        while (now := time.monotonic()) < started + (1 - WARM_UP) * seconds:
            load.check()
            samples.append((now, load.published - (daemon.committed() - before)))
            time.sleep(SAMPLE_SECONDS)
        cpu = meter.cpu_a_message(load.published - published)
        wal_bytes = float(place.query(_WAL) - wal) / (load.published - published)
        reached = (load.published - published) / (time.monotonic() - started)
        load.stop()
    _catch_up(daemon, before + load.published)
    growth = linear_regression(*zip(*samples, strict=True)).slope if len(samples) > 1 else 0.0
    allowed = MOST_GROWTH * rate
    highest = max(backlog for _, backlog in samples)
    return Held(
        rate=reached,
        seconds=seconds,
        growth=growth,
        backlog=highest,
        held=growth <= allowed and reached >= rate - allowed and highest <= MOST_SECONDS_BEHIND * rate,
        **cpu,
        wal_bytes=wal_bytes,
    )


def _catch_up(daemon: Daemon, messages: int) -> None:
    """Wait until all of it is committed, so that the next try begins without a backlog."""
    wait_until(lambda: daemon.committed() >= messages, "what was published to be committed", within=CATCH_UP_SECONDS)
