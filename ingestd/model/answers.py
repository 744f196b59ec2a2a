"""What the analytics answer: energy of devices, of the fleet, over time.

Efficiency is DC energy into the battery over AC energy from the grid; below the threshold it hints at a fault.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from ingestd.model.efficiency import Compared, Judgement, Status, ratio_of
from ingestd.model.periods import TimeRange


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedMeter:
    """What one meter gave to the vehicle while it was mapped to it, clipped to the window asked for."""

    meter_id: str
    valid: TimeRange
    ac_kwh: float | None = None
    samples: int | None = None
    shared: bool  # with another vehicle at the same time


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """A vehicle's charging in a window, and how far its figures can be relied on.

    Figures are None where they cannot be told: where the window cuts a quarter-hour of which history is gone.
    """

    vehicle_id: str
    window: TimeRange
    dc_kwh: float | None = None
    average_temperature: float | None = None  # °C; None also where there was no reading
    samples: int | None = None
    meters: tuple[MappedMeter, ...]
    compared: Compared | None = None  # None also where no meter is mapped
    coverage: float | None = None
    """Share of the window up to now that is known, of the vehicle or of its meters: the lesser."""
    gaps: int | None = None
    longest_gap: float | None = None  # seconds
    resets: int | None = None
    excluded: int | None = None
    judgement: Judgement
    threshold: float

    @property
    def ac_kwh(self) -> float | None:
        parts = [meter.ac_kwh for meter in self.meters if meter.ac_kwh is not None]
        return None if self.dc_kwh is None else sum(parts, 0.0)

    @property
    def meter_samples(self) -> int | None:
        return None if self.samples is None else sum(meter.samples or 0 for meter in self.meters)

    @property
    def efficiency_ratio(self) -> float | None:
        """DC over AC of what is compared, where that is enough; never clamped: more than 1 is shown as it is."""
        return self.judgement.ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class VehicleEfficiency:
    """One of many: a vehicle's energy in a window. Status and ratio as in its `Performance`."""

    vehicle_id: str
    efficiency_ratio: float | None
    ac_kwh: float
    dc_kwh: float
    status: Status
    threshold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetEnergy:
    """Energy of all meters and all vehicles in a window, and of those mapped to each other."""

    window: TimeRange
    as_of: datetime
    """Readings that were stored later are not in it, nor those that were taken later."""
    ac_kwh: float
    dc_kwh: float
    meters: int
    vehicles: int
    mapped: Compared
    """All energy of mapped vehicles and of their meters, and what of it can be compared."""
    mapped_ratio: float | None
    statuses: dict[Status, int]
    worst: tuple[VehicleEfficiency, ...]
    reason: str | None = None
    """Why some of it cannot be told; None: all of it is."""

    @property
    def efficiency_ratio(self) -> float | None:
        return ratio_of(dc=self.dc_kwh, ac=self.ac_kwh) if self.ac_kwh > 0 and self.vehicles else None


_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Generic[_Item]):
    """What can be told of a window, in order of time."""

    items: list[_Item]
    reason: str | None
    """Why some of it cannot be told; None: all of it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What a device did in one bucket; energy and power are None where nothing tells of them."""

    start: datetime  # of the bucket, also where that began before the window
    kwh: float | None
    kw: float | None  # the mean over the bucket, or over its part in the window
    soc: float | None  # %, the last one; None for a meter
    averaged: float | None  # the mean of the stream's averaged figure
    samples: int | None  # None where it cannot be told


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPoint:
    """Energy of all meters and all vehicles in one bucket; None where none of them sent anything."""

    start: datetime
    ac_kwh: float | None
    dc_kwh: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSeries:
    """Those of a window; readings that were stored later, or taken later, are not in it."""

    as_of: datetime
    points: list[FleetPoint]
    reason: str | None = None
    """Why some of it cannot be told; None: all of it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """What a device did in a day, week, month or year, as far as that lies in the window."""

    label: str  # 2026-03-29, 2026-W13, 2026-03 or 2026
    within: TimeRange
    kwh: float | None  # None where nothing tells of it
    samples: int | None  # None where it cannot be told


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargingSession:
    """A vehicle charging, with short pauses, as far as that lies in the window."""

    start: datetime
    end: datetime
    open: bool  # nothing that came later says that it is over
    ac_kwh: float
    dc_kwh: float
    soc_from: float | None  # %; None where no reading tells of it
    soc_to: float | None
    max_temperature: float | None  # °C; None where it has no reading in the window
    samples: int

    @property
    def loss_kwh(self) -> float | None:
        return self.ac_kwh - self.dc_kwh if self.ac_kwh > 0 else None

    @property
    def efficiency_ratio(self) -> float | None:
        return ratio_of(dc=self.dc_kwh, ac=self.ac_kwh) if self.ac_kwh > 0 else None
