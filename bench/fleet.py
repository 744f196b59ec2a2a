"""Fleet: what a message costs where it comes from a thousand devices, or from a million; and the memory it takes."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from bench.backlog import Backlog
from bench.contestants import INGESTD
from bench.drain import drain
from bench.history import report
from bench.report import Column, Figures, Table, medians, progress

if TYPE_CHECKING:
    from bench.sizes import Sizes
    from bench.stage import Stage

DEVICES: Final = (1_000, 10_000, 100_000)
SHARE: Final = 0.2
"""Of the messages of a drain, for each of these."""
LARGEST: Final = 2
"""Times the messages of a drain, each from a device of its own: a million. Run once, as it takes long."""


def measure(stage: Stage, sizes: Sizes) -> dict[str, Any]:
    """Every device has reported before: live rows are there, as in the field. CPU is in microseconds a message."""
    print("Fleet: the same drain from more devices; the last run is also the one that memory is judged by")
    table = _table()
    table.head()
    progress("encoding the backlogs")
    messages = max(2, round(sizes.messages * SHARE))
    backlogs = [Backlog(messages=messages, devices=devices) for devices in DEVICES if devices <= messages]
    runs: dict[int, list[Figures]] = {backlog.devices: [] for backlog in backlogs}
    for number in range(1, sizes.rounds + 1):
        for backlog in backlogs if number % 2 else backlogs[::-1]:
            runs[backlog.devices].append(_run(stage, backlog, f"fleet, round {number} of {sizes.rounds}"))
            _print(table, str(number), backlog, runs[backlog.devices][-1])
    rows: list[dict[str, Any]] = []
    for backlog in backlogs:
        middle = medians(runs[backlog.devices])
        _print(table, "median", backlog, middle)
        rows.append({"devices": backlog.devices, "messages": messages, **middle, "rounds": runs[backlog.devices]})
    backlogs.clear()
    progress("encoding the largest backlog")
    largest = Backlog(messages=LARGEST * sizes.messages, devices=LARGEST * sizes.messages)
    figures = _run(stage, largest, "fleet, the largest")
    _print(table, "once", largest, figures)
    rows.append({"devices": largest.devices, "messages": largest.messages, **figures})
    return {"fleets": rows}


def _run(stage: Stage, backlog: Backlog, where: str) -> Figures:
    where = f"{where}: {backlog.devices:,} devices"
    with stage.place() as place:
        progress(f"{where}, making live rows")
        report(place, devices=backlog.devices, since=backlog.before, until=backlog.before)
        figures: Figures = asdict(drain(place, INGESTD, backlog, where))
    return figures


def _table() -> Table:
    return Table(
        [
            Column("round"),
            Column("devices", "{:,}".format),
            Column("messages", "{:,}".format),
            Column("msg/s", "{:,.0f}".format),
            Column("own CPU", "{:.1f} µs".format),
            Column("PostgreSQL", "{:.1f} µs".format),
            Column("peak RSS", lambda size: f"{size / 2**20:.0f} MiB"),
        ]
    )


def _print(table: Table, number: str, backlog: Backlog, figures: Figures) -> None:
    names = ("messages_per_second", "own_cpu", "postgres_cpu", "peak_rss_bytes")
    table.row(number, backlog.devices, backlog.messages, *(figures[name] for name in names))
