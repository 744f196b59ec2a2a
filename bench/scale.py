"""`python -m bench.scale JSON`: what 10,000 to ten million devices need, from what one machine was measured to take.

A calculation and a simulated day. Beyond one machine, nothing of it was measured.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from bench.costs import Costs
from bench.day import AVERAGE, DAY_SECONDS, PEAK, Day, Machines, simulate
from bench.errors import BenchError
from bench.report import markdown, read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

FLEETS: Final = (10_000, 100_000, 1_000_000, 10_000_000)
BUSY: Final = 0.6
"""The share of a core, a disk or a connection that is used at most in the busiest hour."""
HISTORY_DAYS: Final = 30
LEDGER_DAYS: Final = 400
SHARDS: Final = 32
CITUS_CPU: Final = 50.0
"""Microseconds of all workers a message, with so many shards: measured once, 10,000 devices, both workers on one
machine. It grows with the shards: 18 with 8 of them."""
COORDINATOR_CPU: Final = 7.5
"""The same, of Citus's coordinator."""
DATABASE_CORES: Final = 16
"""Of a database machine."""
DISK_BYTES: Final = 8e12
"""Of a database machine."""
WAL_BYTES_A_SECOND: Final = 300e6
"""That the disk of a database machine takes in the long run."""
BROKER_CONNECTIONS: Final = 200_000
"""Of a broker node."""
WAITING_BYTES: Final = 400
"""Of a message that waits in the broker: payload, topic and the broker's own."""


class Limit(NamedTuple):
    """What is full at so many devices where there is one of it, and what follows."""

    of: str
    devices: float
    then: str


class Fleet(NamedTuple):
    """What a fleet needs, and what its day is like."""

    devices: int
    machines: Machines
    database_machines: int
    """Without the coordinator that there is if they are several."""
    stored_bytes: float
    day: Day


def limits(costs: Costs) -> list[Limit]:
    """The one that is reached first comes first."""
    of_core = BUSY * 1e6 / (AVERAGE * PEAK)  # devices for a microsecond a message
    citus = "Citus: more workers"
    found = [
        Limit("a daemon's core", of_core / costs.own_cpu, "more daemons of a shared group"),
        Limit("the broker's thread (Mosquitto)", of_core / costs.mosquitto_cpu, "a broker that is a cluster"),
        Limit("a broker node's connections", BROKER_CONNECTIONS, "more broker nodes"),
        Limit("the database's cores", DATABASE_CORES * of_core / costs.postgres_cpu, citus),
        Limit("the coordinator's cores", DATABASE_CORES * of_core / COORDINATOR_CPU, "several databases, not tried"),
        Limit("the database's WAL", BUSY * WAL_BYTES_A_SECOND / (AVERAGE * PEAK * costs.wal), citus),
        Limit("the database's disk", BUSY * DISK_BYTES / _stored_bytes(costs), f"fewer days in the database; {citus}"),
        Limit(
            "closing, on one connection of one daemon",
            BUSY * 1e6 / (AVERAGE * costs.closing_time),
            "several daemons that close shares of the devices, which is not built",
        ),
    ]
    return sorted(found, key=lambda limit: limit.devices)


def fleet(costs: Costs, devices: int) -> Fleet:
    """On one database server if that does, else on Citus, where a message costs more."""
    if _database_machines(costs, devices) > 1:
        costs = replace(costs, postgres_cpu=max(costs.postgres_cpu, CITUS_CPU))
    peak, average = devices * AVERAGE * PEAK, devices * AVERAGE
    closing_core = min(1.0, average * costs.closing_own_cpu / 1e6)
    machines = Machines(
        daemons=math.ceil((peak * costs.own_cpu / 1e6 + closing_core) / BUSY),
        brokers=math.ceil(max(peak * costs.mosquitto_cpu / 1e6 / BUSY, devices / BROKER_CONNECTIONS)),
        database_cores=math.ceil(_database_cores(costs, devices)),
    )
    stored = devices * _stored_bytes(costs)
    return Fleet(devices, machines, _database_machines(costs, devices), stored, simulate(costs, machines, devices))


def _database_machines(costs: Costs, devices: int) -> int:
    of_disk = devices * _stored_bytes(costs) / DISK_BYTES / BUSY
    of_wal = devices * AVERAGE * PEAK * costs.wal / WAL_BYTES_A_SECOND / BUSY
    return math.ceil(max(_database_cores(costs, devices) / DATABASE_CORES, of_disk, of_wal))


def _database_cores(costs: Costs, devices: int) -> float:
    return devices * AVERAGE * (PEAK * costs.postgres_cpu + costs.closing_postgres_cpu) / 1e6 / BUSY


def _stored_bytes(costs: Costs) -> float:
    """Of a device: history and ledger for as long as they are kept."""
    return HISTORY_DAYS * DAY_SECONDS * AVERAGE * costs.history + LEDGER_DAYS * costs.ledger


def _size(size: float) -> str:
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:,.1f} {unit}"
    return f"{size / 1e3:,.1f} kB"


def _minutes(seconds: float | None) -> str:
    return "not on this day" if seconds is None or math.isinf(seconds) else f"{seconds / 60:,.1f} min"


def rows(costs: Costs) -> dict[str, Callable[[Fleet], str]]:
    """The figures of a fleet by what they are called."""
    readings = AVERAGE * DAY_SECONDS
    return {
        "readings a second, average": lambda fleet: f"{fleet.devices * AVERAGE:,.0f}",
        "readings a second, busiest hour": lambda fleet: f"{fleet.devices * AVERAGE * PEAK:,.0f}",
        "daemons, one core each": lambda fleet: f"{fleet.machines.daemons:,}",
        "sessions (`INGESTD_MQTT_SESSIONS`)": lambda fleet: f"{_sessions(fleet):,}",
        "broker nodes": lambda fleet: f"{fleet.machines.brokers:,}",
        "broker's memory for connections": lambda fleet: _size(fleet.devices * costs.broker_connection),
        "database cores": lambda fleet: f"{fleet.machines.database_cores:,}",
        "database machines": lambda fleet: f"{fleet.database_machines:,}",
        "cores of Citus's coordinator": _coordinator,
        "WAL a second, busiest hour": lambda fleet: _size(fleet.devices * AVERAGE * PEAK * costs.wal),
        "history a day": lambda fleet: _size(fleet.devices * readings * costs.history),
        "ledger a day": lambda fleet: _size(fleet.devices * costs.ledger),
        "disk in all": lambda fleet: _size(fleet.stored_bytes),
        "history's tables": lambda fleet: f"{_tables(fleet):,}",
        "a quarter is closed within, outage included": lambda fleet: _minutes(fleet.day.longest_closing_seconds),
        "most messages that wait": lambda fleet: f"{fleet.day.most_waiting:,.0f}",
        "memory for them in the broker": lambda fleet: _size(fleet.day.most_waiting * WAITING_BYTES),
        "drained after the outage": lambda fleet: _minutes(fleet.day.drained_seconds),
    }


def _sessions(fleet: Fleet) -> int:
    """Two for each daemon, so that what one leaves can be spread; one where a daemon is enough."""
    return 1 if fleet.machines.daemons == 1 else 2 * fleet.machines.daemons


def _coordinator(fleet: Fleet) -> str:
    cores = fleet.devices * AVERAGE * PEAK * COORDINATOR_CPU / 1e6 / BUSY
    return "none" if fleet.database_machines == 1 else f"{math.ceil(cores):,}"


def _tables(fleet: Fleet) -> int:
    """A partition a day and stream, with today and tomorrow; on several machines each has shards."""
    return 2 * (HISTORY_DAYS + 2) * (SHARDS if fleet.database_machines > 1 else 1)


def document(costs: Costs) -> str:
    """Two tables in Markdown."""
    fleets = [fleet(costs, devices) for devices in FLEETS]
    needs: Iterable[list[str]] = ([name, *map(figure, fleets)] for name, figure in rows(costs).items())
    full = ([limit.of, f"{limit.devices:,.0f}", limit.then] for limit in limits(costs))
    return "\n".join(
        [
            markdown(["devices", *(f"{devices:,}" for devices in FLEETS)], needs),
            "",
            markdown(["full first", "at devices", "then"], full),
        ]
    )


@click.command()
@click.argument("results", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def scale(results: Path) -> None:
    """Print what fleets of several sizes need, from the JSON of the benchmarks."""
    try:
        print(document(Costs.of(read_json(results))))
    except BenchError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    scale()
