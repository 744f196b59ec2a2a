"""What the energy of readings is, said in Python a second time: what the database computes is held against it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from typing import TYPE_CHECKING

from ingestd.telemetry import METER, to_microseconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ingestd.telemetry import Row, Stream


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What one reading counts for."""

    at: datetime
    kwh: float = 0.0
    resets: int = 0
    excluded: int = 0


def counted(samples: Iterable[Sample], plausible_kw: float) -> Iterator[Counted]:
    """Of all the readings of one device there ever were, in order of time."""
    in_order = sorted(samples, key=lambda sample: sample.at)
    yield from (Counted(at=sample.at, kwh=sample.interval) for sample in in_order if sample.interval is not None)
    registers = [(sample.at, sample.register) for sample in in_order if sample.register is not None]
    mark: float | None = None
    good_at = None
    for (at, value), following in zip_longest(registers, registers[1:]):
        if mark is None or good_at is None:
            mark, good_at = value, at
            yield Counted(at=at)
            continue

        def flows(until: datetime, since: datetime = good_at) -> float:
            return plausible_kw * (until - since).total_seconds() / 3600

        if value > mark:
            if value - mark <= flows(at):
                yield Counted(at=at, kwh=value - mark)
                mark, good_at = value, at
            elif following is None or following[1] <= mark + flows(following[0]):
                yield Counted(at=at, excluded=1)
            else:
                yield Counted(at=at, excluded=1)
                mark, good_at = value, at
        elif value >= 0.9 * mark or mark - value <= 0.2:
            yield Counted(at=at)
            good_at = at
        elif following is None or following[1] >= 0.9 * mark:
            yield Counted(at=at, excluded=1)
        else:
            yield Counted(at=at, kwh=value if value <= flows(at) else 0.0, resets=1)
            mark, good_at = value, at
