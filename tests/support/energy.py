"""Readings to test with, as a device sends them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ingestd.model.stream import METER
from ingestd.model.timestamps import to_microseconds

if TYPE_CHECKING:
    from ingestd.model.stream import Row, Stream


START = datetime(2026, 11, 18, 22, 7, 30, tzinfo=UTC)
"""Neither on a quarter of an hour nor far from midnight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One reading: the energy of an interval or a register's value, kWh."""

    device: str
    at: datetime
    interval: float | None = None
    register: float | None = None
    soc: float = 50.0
    temperature: float = 25.0
    voltage: float = 230.0

    def row(self, stream: Stream) -> Row:
        key = (self.device, to_microseconds(self.at))
        if stream is METER:
            return (*key, self.interval, self.voltage, self.register, 0)
        return (*key, self.soc, self.interval, self.temperature, self.register, 0)


def minutes(number: float) -> datetime:
    """So long after START."""
    return START + timedelta(minutes=number)


def intervals(*values: float, every: float = 1.0, device: str = "v") -> list[Sample]:
    """Energies, kWh, so many minutes apart from START on."""
    return [Sample(device=device, at=minutes(n * every), interval=value) for n, value in enumerate(values)]


def register(*values: float, every: float = 1.0, device: str = "v") -> list[Sample]:
    """A register's readings, kWh, so many minutes apart from START on."""
    return [Sample(device=device, at=minutes(n * every), register=value) for n, value in enumerate(values)]
