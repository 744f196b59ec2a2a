"""Latency: from the moment a message is handed to the network until its row can be seen in the database."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, LiteralString

from bench.daemon import running
from bench.errors import BenchError
from bench.load import Load
from bench.report import Column, Table, medians, percentile, progress

if TYPE_CHECKING:
    import psycopg

    from bench.sizes import Sizes
    from bench.stage import Place, Stage

INTERVALS: Final = (1.0, 0.2, 0.05)
"""Of INGESTD_FLUSH_INTERVAL, in seconds; the first is the default."""
RATE: Final = 1000.0
DEVICES: Final = 1000
PART: Final = 1 / 10
"""Of the time that the sustained rate is held for: how long each run is."""
SETTLING_SECONDS: Final = 1.0
GIVE_UP_SECONDS: Final = 30.0
LOOK_SECONDS: Final = 0.002

# A transaction holds all that came before, in both streams, up to the newest reading it holds: so the newest
# timestamp that can be seen says what else can be. The live tables are small.
_NEWEST: LiteralString = "SELECT greatest((SELECT max(ts) FROM meter_live), (SELECT max(ts) FROM vehicle_live))"
_ROWS: LiteralString = "SELECT (SELECT count(*) FROM meter_history) + (SELECT count(*) FROM vehicle_history)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One run; all in seconds. `resolution` is the time between two looks, by which a latency may be overstated."""

    p50: float
    p99: float
    highest: float
    resolution: float


def measure(stage: Stage, sizes: Sizes) -> dict[str, Any]:
    """Rounds in alternation; a row's timestamp is the time at which it was published."""
    print(f"Latency: publish to commit at {RATE:,.0f} messages/s")
    milliseconds = "{:.3f} s".format
    table = Table(
        [
            Column("round"),
            Column("flush interval", "{:g} s".format),
            Column("p50", milliseconds),
            Column("p99", milliseconds),
            Column("max", milliseconds),
            Column("resolution", milliseconds),
        ]
    )
    table.head()
    runs: dict[float, list[dict[str, float | None]]] = {interval: [] for interval in INTERVALS}
    for number in range(1, sizes.rounds + 1):
        for interval in INTERVALS if number % 2 else INTERVALS[::-1]:
            progress(f"latency, round {number} of {sizes.rounds}: flush interval {interval:g} s")
            runs[interval].append(asdict(_run(stage, interval, sizes.seconds * PART)))
            table.row(number, interval, *runs[interval][-1].values())
    middle = {interval: medians(of_interval) for interval, of_interval in runs.items()}
    for interval in INTERVALS:
        table.row("median", interval, *middle[interval].values())
    return {
        "rate": RATE,
        "intervals": [
            {"flush_interval": interval, **middle[interval], "rounds": runs[interval]} for interval in INTERVALS
        ],
    }


def _run(stage: Stage, interval: float, seconds: float) -> Seen:
    with stage.place() as place, running(place, flush_interval=interval) as daemon, place.connect() as watch:
        watch.prepare_threshold = 0
        with Load(place.broker.url, rate=RATE, devices=DEVICES) as load:
            time.sleep(SETTLING_SECONDS)
            seen = _observe(watch, load, seconds)
        daemon.stop()
        _verify(place, load.published)
    return seen


def _observe(watch: psycopg.Connection, load: Load, seconds: float) -> Seen:
    latencies: list[float] = []
    looks: list[float] = []
    first = number = len(load.parts)
    ending = time.monotonic() + seconds
    before = None
    while time.monotonic() < ending + GIVE_UP_SECONDS:
        (newest,) = watch.execute(_NEWEST).fetchone() or (None,)
        now = datetime.now(UTC)
        if before is not None:
            looks.append((now - before).total_seconds())
        before = now
        while newest is not None and number < len(load.parts) and load.parts[number].at <= newest:
            latencies.append((now - load.parts[number].at).total_seconds())
            number += 1
        if time.monotonic() > ending:
            load.stop()
            if number == len(load.parts):
                break
        time.sleep(LOOK_SECONDS)
    else:
        raise BenchError(f"{len(load.parts) - number:,} parts of {len(load.parts) - first:,} were not seen in the end")
    return Seen(
        p50=percentile(latencies, 0.5),
        p99=percentile(latencies, 0.99),
        highest=max(latencies),
        resolution=percentile(looks, 0.99),
    )


def _verify(place: Place, messages: int) -> None:
    rows = place.query(_ROWS)
    if rows != messages:
        raise BenchError(f"{rows:,} rows of {messages:,} messages")
