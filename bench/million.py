"""Million: so many devices report once a minute, through the closing of a quarter-hour; memory, backlog and ledger."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from statistics import linear_regression
from typing import TYPE_CHECKING, Any, Final

import psutil

from bench.daemon import Daemon, running
from bench.history import DUE_AFTER, due_quarter, make_history
from bench.load import Load
from bench.meter import Meter
from bench.report import Column, Table, progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.sizes import Sizes
    from bench.stage import Place, Stage

TIMES: Final = 2
"""The messages of a drain: that is how many devices there are."""
PART: Final = 20.0
"""Of the time that the sustained rate is held for: ten minutes."""
SAMPLES: Final = 120
ROWS: Final = 10
BEFORE: Final = timedelta(minutes=3)
"""How long the devices have reported before the quarter that is closed, which is then not their first."""
WARM_UP: Final = 0.5
"""The part of a run at its beginning in which memory may grow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What is there at a time, in seconds since the beginning."""

    seconds: float
    published: int
    committed: int
    daemon_rss: int
    broker_rss: int
    made_until: float | None
    """The end of the newest quarter that the ledger has of all devices, in Unix seconds; None before it is known."""

    @property
    def in_flight(self) -> int:
        return self.published - self.committed


def measure(stage: Stage, sizes: Sizes) -> dict[str, Any]:
    """A quarter of them all waits to be closed when it begins. CPU is in microseconds a message, closing included."""
    devices = TIMES * sizes.messages
    print(f"Million: {devices:,} devices report once a minute for {PART * sizes.seconds:.0f} s")
    with stage.place() as place:
        return run(place, devices=devices, seconds=PART * sizes.seconds)


def run(place: Place, *, devices: int, seconds: float) -> dict[str, Any]:
    progress("million, making history")
    now = datetime.now(UTC)
    start, end = due_quarter(now)
    make_history(place, devices=devices, days=0, before=now - start + BEFORE, now=now, closed_at=start + DUE_AFTER)
    place.checkpoint()
    progress("million, encoding the readings")
    load = Load(place.broker.url, rate=devices / 60, devices=devices)
    table = _table()
    table.head()
    samples: list[Sample] = []
    printed = 0
    with running(place) as daemon, load:
        meter = Meter(place, daemon)
        while meter.seconds < seconds:
            time.sleep(seconds / SAMPLES)
            load.check()
            samples.append(_sample(place, daemon, load, meter.seconds))
            if samples[-1].seconds > printed * seconds / ROWS:
                _print(table, samples[-1])
                printed += 1
        cpu, elapsed, messages = meter.cpu_seconds(), meter.seconds, load.published
        load.stop()
        daemon.stop()
    return {
        "devices": devices,
        "rate": messages / elapsed,
        "seconds": elapsed,
        "messages": messages,
        "most_in_flight": max(sample.in_flight for sample in samples),
        **{name: spent / messages * 1e6 for name, spent in cpu.items()},
        "ledger_made_seconds": next(
            (sample.seconds for sample in samples if (sample.made_until or 0) >= end.timestamp()), None
        ),
        "daemon_bytes_a_minute": _growth([(sample.seconds, sample.daemon_rss) for sample in samples]),
        "broker_bytes_a_minute": _growth([(sample.seconds, sample.broker_rss) for sample in samples]),
        "samples": [asdict(sample) for sample in samples],
    }


def _sample(place: Place, daemon: Daemon, load: Load, seconds: float) -> Sample:
    committed, made_until = daemon.progress()
    return Sample(
        seconds=seconds,
        published=load.published,
        committed=committed,
        daemon_rss=psutil.Process(daemon.pid).memory_info().rss,
        broker_rss=psutil.Process(place.broker.pid).memory_info().rss,
        made_until=made_until,
    )


def _growth(sizes: Sequence[tuple[float, int]]) -> float:
    """Of memory, in bytes a minute, after the warm-up."""
    steady = sizes[round(WARM_UP * len(sizes)) :]
    return 60 * linear_regression(*zip(*steady, strict=True)).slope


def _table() -> Table:
    mebibytes = lambda size: f"{size / 2**20:.0f} MiB"  # noqa: E731 - the format of two columns
    return Table(
        [
            Column("s", "{:.0f}".format),
            Column("committed", "{:,}".format),
            Column("in flight", "{:,}".format),
            Column("ingestd", mebibytes),
            Column("Mosquitto", mebibytes),
            Column("ledger", "{:.0f} s behind".format),
        ]
    )


def _print(table: Table, sample: Sample) -> None:
    behind = None if sample.made_until is None else time.time() - sample.made_until
    table.row(sample.seconds, sample.committed, sample.in_flight, sample.daemon_rss, sample.broker_rss, behind)
