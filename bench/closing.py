"""Closing: what it costs to make the ledger's rows of a quarter-hour out of history."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from bench.history import DUE_AFTER, RULES, due_quarter, make_history
from bench.processes import cpu_seconds
from bench.report import Column, Figures, Table, medians, progress
from ingestd.store.closing import Closing

if TYPE_CHECKING:
    from bench.sizes import Sizes
    from bench.stage import Place, Stage

TIMES: Final = (1, 10)
"""The devices whose history is read, by these."""
QUARTER_MINUTES: Final = 15
BEFORE: Final = timedelta(minutes=40)
"""How long the devices have reported, so that the quarter is not their first."""


def measure(stage: Stage, sizes: Sizes) -> dict[str, Any]:
    """Nothing else happens meanwhile. CPU is user and system time in microseconds a reading."""
    print("Closing: CPU time a reading of a quarter-hour in which each device reported every minute")
    table = Table(
        [
            Column("round"),
            Column("devices", "{:,}".format),
            Column("readings", "{:,}".format),
            Column("took", "{:.2f} s".format),
            Column("ingestd", "{:.1f} µs".format),
            Column("PostgreSQL", "{:.1f} µs".format),
        ]
    )
    table.head()
    fleets: list[dict[str, Any]] = []
    for devices in (times * sizes.devices for times in TIMES):
        rounds: list[Figures] = []
        for number in range(1, sizes.rounds + 1):
            progress(f"closing, {devices:,} devices, round {number} of {sizes.rounds}")
            with stage.place() as place:
                rounds.append(close_a_quarter(place, devices=devices))
            table.row(number, devices, QUARTER_MINUTES * devices, *rounds[-1].values())
        middle = medians(rounds)
        table.row("median", devices, QUARTER_MINUTES * devices, *middle.values())
        fleets.append({"devices": devices, "readings": QUARTER_MINUTES * devices, **middle, "rounds": rounds})
    return {"fleets": fleets}


def close_a_quarter(place: Place, *, devices: int) -> Figures:
    """Make its rows, as the daemon does, in this process."""
    now = datetime.now(UTC)
    start, end = due_quarter(now)
    make_history(place, devices=devices, days=0, before=BEFORE, now=end + DUE_AFTER, closed_at=start + DUE_AFTER)
    place.checkpoint()
    began, own, postgres = time.monotonic(), time.process_time(), cpu_seconds(place.postgres_pid)
    asyncio.run(_catch_up(place.dsn, now))
    readings = QUARTER_MINUTES * devices
    return {
        "seconds": time.monotonic() - began,
        "own_cpu": (time.process_time() - own) / readings * 1e6,
        "postgres_cpu": (cpu_seconds(place.postgres_pid) - postgres) / readings * 1e6,
    }


async def _catch_up(dsn: str, now: datetime) -> None:
    closing = Closing(dsn, rules=RULES)
    try:
        await closing.catch_up(now)
    finally:
        await closing.close()
