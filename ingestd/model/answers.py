"""The answers of the analytics: energy of devices, of the fleet, over time.

Efficiency is DC energy into the battery divided by AC energy from the grid. A low value points to a fault.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from ingestd.model.efficiency import Compared, Judgement, Status, ratio_of
from ingestd.model.periods import TimeRange


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedMeter:
    """The energy that one meter delivered to the vehicle while mapped to it, within the window."""

    meter_id: str
    valid: TimeRange
    ac_kwh: float | None = None
    samples: int | None = None
    shared: bool  # with another vehicle at the same time


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """A vehicle's charging in a window, and how reliable its figures are.

    Figures are None if they are not known: the window cuts a quarter-hour whose readings are deleted.
    """

    vehicle_id: str
    window: TimeRange
    dc_kwh: float | None = None
    average_temperature: float | None = None  # °C; None also without a reading
    samples: int | None = None
    meters: tuple[MappedMeter, ...]
    compared: Compared | None = None  # None also if no meter is mapped
    coverage: float | None = None
    """The part of the window up to now that is known: of the vehicle or of its meters, whichever is less."""
    gaps: int | None = None
    longest_gap: float | None = None  # seconds
    resets: int | None = None
    excluded: int | None = None
    judgement: Judgement
    threshold: float
    as_of: datetime | None = None
    """If a replica answers: what was stored after this may be missing."""

    @property
    def ac_kwh(self) -> float | None:
        parts = [meter.ac_kwh for meter in self.meters if meter.ac_kwh is not None]
        return None if self.dc_kwh is None else sum(parts, 0.0)

    @property
    def meter_samples(self) -> int | None:
        return None if self.samples is None else sum(meter.samples or 0 for meter in self.meters)

    @property
    def efficiency_ratio(self) -> float | None:
        """DC divided by AC of the compared units, if they are enough. More than 1 is shown as it is."""
        return self.judgement.ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class VehicleEfficiency:
    """A vehicle's energy in a window, in a list of vehicles. Status and ratio are those of its `Performance`."""

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
    """Readings that were taken or stored after this are not included."""
    ac_kwh: float
    dc_kwh: float
    meters: int
    vehicles: int
    mapped: Compared
    """The energy of mapped vehicles and of their meters, and the part of it that can be compared."""
    mapped_ratio: float | None
    statuses: dict[Status, int]
    worst: tuple[VehicleEfficiency, ...]
    reason: str | None = None
    """Why some of it is not known; None: all of it is."""

    @property
    def efficiency_ratio(self) -> float | None:
        return ratio_of(dc=self.dc_kwh, ac=self.ac_kwh) if self.ac_kwh > 0 and self.vehicles else None


_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Generic[_Item]):
    """The items of a window, in order of time."""

    items: list[_Item]
    reason: str | None
    """Why some of it is not known; None: all of it is."""
    as_of: datetime | None = None
    """If a replica answers: what was stored after this may be missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A device's figures in one bucket; energy and power are None without a reading."""

    start: datetime  # of the bucket, also if it began before the window
    kwh: float | None
    kw: float | None  # the mean over the bucket, or over its part in the window
    spread: bool | None  # whether it has a part of a reading that is spread; None if it is not known
    soc: float | None  # %, the last one; None for a meter
    averaged: float | None  # the mean of the stream's averaged figure
    samples: int | None  # None if it is not known


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPoint:
    """Energy of all meters and all vehicles in one bucket; None if none of them sent a reading."""

    start: datetime
    ac_kwh: float | None
    dc_kwh: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSeries:
    """The buckets of a window, without readings that were taken or stored after `as_of`."""

    as_of: datetime
    points: list[FleetPoint]
    reason: str | None = None
    """Why some of it is not known; None: all of it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """A device's energy in a day, week, month or year, or in its part in the window."""

    label: str  # 2026-03-29, 2026-W13, 2026-03 or 2026
    within: TimeRange
    kwh: float | None  # None without a reading
    samples: int | None  # None if it is not known


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargingSession:
    """A charge of a vehicle, short pauses included, or its part in the window."""

    start: datetime
    end: datetime
    open: bool  # no later reading shows that it is over
    ac_kwh: float
    dc_kwh: float
    soc_from: float | None  # %; None without a reading
    soc_to: float | None
    max_temperature: float | None  # °C; None without a reading in the window
    samples: int

    @property
    def is_empty(self) -> bool:
        return not (self.samples or self.dc_kwh or self.ac_kwh)

    @property
    def loss_kwh(self) -> float | None:
        return self.ac_kwh - self.dc_kwh if self.ac_kwh > 0 else None

    @property
    def efficiency_ratio(self) -> float | None:
        return ratio_of(dc=self.dc_kwh, ac=self.ac_kwh) if self.ac_kwh > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionUnderWay:
    """The session of a vehicle that charges now."""

    vehicle_id: str
    session: ChargingSession
    kw: float | None  # of the newest reading, a mean over its interval; 0 in a pause; None if the interval is unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionsUnderWay:
    """A page of the sessions under way, in order of the vehicles' ids."""

    as_of: datetime
    window: TimeRange
    """Energy from before it is not included."""
    items: list[SessionUnderWay]
    next_after: str | None
    """The vehicle after which the following page begins; None on the last page."""
