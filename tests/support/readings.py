"""Readings as devices send them, and what of them is in the database."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.support.devices import Acknowledged

NOBODY_SUBSCRIBED = 0x10
"""A PUBACK with this reason promises nothing to anyone (MQTT 5.0 §3.4.2.1)."""


def rfc3339(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def meter_message(
    meter_id: str, at: datetime, *, kwh: float = 0.5, register: float | None = None, voltage: float = 230.0
) -> tuple[str, bytes]:
    """Of the interval, or of the register where one is given."""
    energy = {"kwhConsumedAc": kwh} if register is None else {"kwhConsumedAcRegister": register}
    payload = {"meterId": meter_id, **energy, "voltage": voltage, "timestamp": rfc3339(at)}
    return f"meters/{meter_id}/telemetry", json.dumps(payload).encode()


def vehicle_message(
    vehicle_id: str,
    at: datetime,
    *,
    kwh: float = 0.4,
    register: float | None = None,
    soc: float = 50.0,
    temperature: float = 20.0,
) -> tuple[str, bytes]:
    """Of the interval, or of the register where one is given."""
    payload = {
        "vehicleId": vehicle_id,
        "soc": soc,
        **({"kwhDeliveredDc": kwh} if register is None else {"kwhDeliveredDcRegister": register}),
        "batteryTemp": temperature,
        "timestamp": rfc3339(at),
    }
    return f"vehicles/{vehicle_id}/telemetry", json.dumps(payload).encode()


def endless(until: Callable[[], bool], *, devices: int = 50) -> Iterator[tuple[str, bytes]]:
    """Readings of meters and vehicles in turn, no two with the same key, until told otherwise."""
    start = datetime.now(UTC) - timedelta(hours=1)
    number = 0
    while not until():
        at = start + timedelta(milliseconds=number)
        device = number % devices
        yield meter_message(f"m-{device}", at) if number % 2 else vehicle_message(f"v-{device}", at)
        number += 1


def keys_promised(acknowledged: Iterable[Acknowledged]) -> set[tuple[str, datetime]]:
    """(device, timestamp) of all that the broker has taken over for a subscriber."""
    keys = set()
    for message in acknowledged:
        if message.reason_code != NOBODY_SUBSCRIBED:
            reading = json.loads(message.payload)
            device = reading.get("meterId") or reading["vehicleId"]
            keys.add((device, datetime.fromisoformat(reading["timestamp"])))
    return keys


def keys_stored(database_url: str) -> list[tuple[str, datetime]]:
    """(device, timestamp) of every row of both histories; a list, so that a double would show."""
    with psycopg.connect(database_url) as connection:
        return connection.execute(
            "SELECT meter_id, ts FROM meter_history UNION ALL SELECT vehicle_id, ts FROM vehicle_history"
        ).fetchall()


def count(database_url: str, table: str) -> int:
    with psycopg.connect(database_url) as connection:
        row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
        assert row is not None
        number: int = row[0]
        return number


def ledger_has_begun(database_url: str) -> bool:
    """What comes from then on is late where it is of another day, and shows in figures of the fleet within seconds."""
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT bool_and(isfinite(made_until)) FROM ledger_share").fetchall()
        return rows == [(True,)]
