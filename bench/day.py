"""A simulated day of a fleet, in steps: a quiet day with one busy hour, and a database that is away within it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from bench.costs import Costs

STEP_SECONDS: Final = 5
DAY_SECONDS: Final = 86_400
QUARTER_SECONDS: Final = 900
AVERAGE: Final = 1 / 60
"""Readings of a device and second."""
PEAK: Final = 6.0
"""The busiest hour by the average: the design load has peaks of 1,000 messages a second, and 167 on average."""
PEAK_SECONDS: Final = range(18 * 3600, 19 * 3600)
OUTAGE_SECONDS: Final = range(18 * 3600 + 1800, 18 * 3600 + 2400)
"""Ten minutes without a database, amid the busiest hour."""
OFF_PEAK: Final = (24 - PEAK) / 23
"""The other hours by the average, so that the day has its readings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """How many there are. A daemon has one core, as its event loop uses one."""

    daemons: int
    brokers: int
    database_cores: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """What happened."""

    most_waiting: float
    """Messages in the brokers' sessions and in the daemons."""
    drained_seconds: float | None
    """From the end of the outage until no more waits than after a usual step; None: not on this day."""
    longest_closing_seconds: float
    """From when a quarter is due until its rows are made, an outage included; infinite where one was not made."""


def rate(devices: int, second: int) -> float:
    """Messages a second."""
    return devices * AVERAGE * (PEAK if second in PEAK_SECONDS else OFF_PEAK)


def simulate(costs: Costs, machines: Machines, devices: int) -> Day:
    """Ingestion comes first; the ledger gets what it leaves."""
    waiting = most_waiting = 0.0
    arrived = 0.0
    due: list[tuple[int, float]] = []  # when, and how many readings are left to read
    longest = 0.0
    drained: float | None = None
    for second in range(0, DAY_SECONDS, STEP_SECONDS):
        arriving = rate(devices, second) * STEP_SECONDS
        arrived += arriving
        waiting += arriving
        if second % QUARTER_SECONDS == 0 and second:
            due.append((second, arrived))
            arrived = 0.0
        if second in OUTAGE_SECONDS:
            most_waiting = max(most_waiting, waiting)
            continue
        stored = min(waiting, _capacity(costs, machines))
        waiting -= stored
        most_waiting = max(most_waiting, waiting)
        if drained is None and second >= OUTAGE_SECONDS.stop and waiting < 1:
            drained = float(second + STEP_SECONDS - OUTAGE_SECONDS.stop)
        closable = _closable(costs, machines, stored)
        while due and closable > 0:
            since, left = due[0]
            read = min(left, closable)
            closable -= read
            if read < left:
                due[0] = (since, left - read)
            else:
                due.pop(0)
                longest = max(longest, float(second + STEP_SECONDS - since))
    return Day(
        most_waiting=most_waiting,
        drained_seconds=drained,
        longest_closing_seconds=float("inf") if len(due) > 1 else longest,
    )


def _capacity(costs: Costs, machines: Machines) -> float:
    """Messages of a step that brokers, daemons and database can pass on."""
    return min(
        machines.brokers * STEP_SECONDS / costs.mosquitto_cpu * 1e6,
        machines.daemons * STEP_SECONDS / costs.own_cpu * 1e6,
        machines.database_cores * STEP_SECONDS / costs.postgres_cpu * 1e6,
    )


def _closable(costs: Costs, machines: Machines, stored: float) -> float:
    """Readings of a step that one daemon's connection can close beside the messages that are stored."""
    own_left = STEP_SECONDS - stored / machines.daemons * costs.own_cpu / 1e6
    database_left = machines.database_cores * STEP_SECONDS - stored * costs.postgres_cpu / 1e6
    return max(
        0.0,
        min(
            STEP_SECONDS / costs.closing_time * 1e6,
            own_left / costs.closing_own_cpu * 1e6,
            database_left / costs.closing_postgres_cpu * 1e6,
        ),
    )
