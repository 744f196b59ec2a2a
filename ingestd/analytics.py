"""What the analytics say and how it is judged. Pure: figures come from the store, words from here.

Efficiency is DC energy into the battery over AC energy from the grid; below the threshold it hints at a fault.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

Status: TypeAlias = Literal["ok", "below-threshold", "insufficient-data", "unmapped", "implausible"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeRange:
    """Half-open: from start up to but not including end. Both aware."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterShare:
    """What one meter gave to the vehicle while it was mapped to it, clipped to the window asked for."""

    meter_id: str
    valid: TimeRange
    ac_kwh: float
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """A vehicle's charging in a window."""

    vehicle_id: str
    window: TimeRange
    dc_kwh: float
    average_temperature: float | None  # °C
    samples: int
    meters: tuple[MeterShare, ...]

    @property
    def ac_kwh(self) -> float:
        return sum(meter.ac_kwh for meter in self.meters)

    @property
    def meter_samples(self) -> int:
        return sum(meter.samples for meter in self.meters)

    @property
    def efficiency_ratio(self) -> float | None:
        """DC over AC. None where either is missing; never clamped: more than 1 is shown as it is."""
        return self.dc_kwh / self.ac_kwh if self.ac_kwh > 0 and self.samples else None

    def status(self, threshold: float) -> Status:
        ratio = self.efficiency_ratio
        if not self.meters:
            return "unmapped"
        if ratio is None:
            return "insufficient-data"
        if ratio > 1:
            return "implausible"
        return "below-threshold" if ratio < threshold else "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetEnergy:
    """Energy of all meters and all vehicles in a window, whatever is mapped to what."""

    window: TimeRange
    ac_kwh: float
    dc_kwh: float
    meters: int
    vehicles: int

    @property
    def efficiency_ratio(self) -> float | None:
        return self.dc_kwh / self.ac_kwh if self.ac_kwh > 0 and self.vehicles else None


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveReading:
    """The newest reading of a device, by timestamp. `figures` has the payload's keys."""

    device_id: str
    timestamp: datetime
    received_at: datetime
    figures: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """Which meter feeds a vehicle, from valid_from up to but not including valid_to; None: until further notice."""

    vehicle_id: str
    meter_id: str
    valid_from: datetime
    valid_to: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterFilter:
    """Which dead letters; None lets everything through. Times are those of receipt, until exclusive."""

    reason: str | None = None
    device: str | None = None
    since: datetime | None = None
    until: datetime | None = None
