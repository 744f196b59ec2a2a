"""Compares the energy from the grid with the energy into the batteries, and judges the ratio.

Pure. Times are microseconds, energy is kWh.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from ingestd.model.energy import HOUR, QUARTER
from ingestd.model.quarters import Quarter, Quarters, hours

Status: TypeAlias = Literal["ok", "below-threshold", "insufficient-data", "unmapped", "implausible"]

ENOUGH: Final = 0.95
"""The part of a unit that has to be known."""
DIGITS: Final = 12
"""Ratios, and energies before they are judged, are rounded to this: sums of doubles differ in the last place."""


def ratio_of(*, dc: float, ac: float) -> float:
    """DC divided by AC, as every answer has it. AC must not be 0."""
    return round(dc / ac, DIGITS)


@dataclass(frozen=True, slots=True, kw_only=True)
class EfficiencyPolicy:
    """The settings by which a vehicle's efficiency is judged."""

    threshold: float
    """An efficiency below this is `below-threshold`."""
    min_kwh: float
    """With less compared AC than this there is no ratio."""
    min_share: float
    """With a lower compared share than this there is no ratio."""
    session_min_kw: float
    """A vehicle with at least this power is charging."""

    def judge(self, compared: "Compared | None") -> "Judgement":
        """The status and the ratio of a vehicle; None: no meter is mapped to it."""
        if compared is None:
            return Judgement(status="unmapped", ratio=None, reason="no meter is mapped to the vehicle in this window")
        ac, share = round(compared.ac, DIGITS), compared.share
        if ac <= 0 or ac < self.min_kwh:
            reason = f"{ac:.3g} kWh of AC can be compared, at least {self.min_kwh:g} needed"
            return Judgement(status="insufficient-data", ratio=None, reason=reason)
        if share < self.min_share:
            reason = f"{share:.0%} of the energy can be compared, at least {self.min_share:.0%} needed"
            return Judgement(status="insufficient-data", ratio=None, reason=reason)
        ratio = ratio_of(dc=compared.dc, ac=ac)
        if ratio > 1:
            return Judgement(
                status="implausible", ratio=ratio, reason=f"more DC than AC: {compared.dc:.3f} of {ac:.3f} kWh"
            )
        if ratio < self.threshold:
            reason = f"{ratio:.1%} of the AC arrived, {self.threshold:.1%} expected"
            return Judgement(status="below-threshold", ratio=ratio, reason=reason)
        return Judgement(status="ok", ratio=ratio, reason=f"{ratio:.1%} of the AC arrived")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The status of a vehicle in a window, with the reason in words."""

    status: Status
    ratio: float | None
    """DC divided by AC of the compared units."""
    reason: str


@dataclass(slots=True, kw_only=True)
class Compared:
    """The energy of the compared units, and all energy. Units are quarters, or hours where the meter is spread."""

    ac: float = 0.0
    dc: float = 0.0
    all_ac: float = 0.0
    all_dc: float = 0.0

    def add(self, other: "Compared") -> None:
        """Add the figures of another one."""
        self.ac += other.ac
        self.dc += other.dc
        self.all_ac += other.all_ac
        self.all_dc += other.all_dc

    @property
    def share(self) -> float:
        """Compared energy divided by all energy, of AC or of DC, whichever is less; 0 of 0 is 1."""
        of_ac = self.ac / self.all_ac if self.all_ac else 1.0
        of_dc = self.dc / self.all_dc if self.all_dc else 1.0
        return round(min(of_ac, of_dc), DIGITS)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentEnergy:
    """A meter that feeds the vehicle in (start, end], within the window, and the energy of both."""

    start: int
    end: int
    meter: Quarters = field(repr=False)
    """Only the vehicle's part, if the meter feeds several vehicles."""
    vehicle: Quarters = field(repr=False)


def compare(segments: Sequence[SegmentEnergy], *, all_dc: float, policy: EfficiencyPolicy) -> Compared | None:
    """Compare a vehicle with its meters. `all_dc` is its DC in the window, mapped or not. None without a segment."""
    if not segments:
        return None
    result = Compared(all_dc=all_dc, all_ac=sum(row.kwh for segment in segments for row in segment.meter.values()))
    for segment in segments:
        for meter, vehicle in _units(segment, policy):
            result.ac += meter.kwh
            result.dc += vehicle.kwh
    return result


def _units(segment: SegmentEnergy, policy: EfficiencyPolicy) -> Iterator[tuple[Quarter, Quarter]]:
    """The compared units, meter and vehicle: quarters, or whole hours where the meter is spread."""
    spread = {start // HOUR * HOUR for start, row in segment.meter.items() if row.parts}
    quarters = [start for start in segment.meter if start // HOUR * HOUR not in spread] if spread else segment.meter
    yield from _compared(segment, quarters, QUARTER, segment.meter, segment.vehicle, policy)
    if spread:
        whole = [start for start in sorted(spread) if segment.start <= start and start + HOUR <= segment.end]
        yield from _compared(segment, whole, HOUR, hours(segment.meter), hours(segment.vehicle), policy)


def _compared(
    segment: SegmentEnergy,
    starts: Iterable[int],
    length: int,
    meters: Quarters,
    vehicles: Quarters,
    policy: EfficiencyPolicy,
) -> Iterator[tuple[Quarter, Quarter]]:
    """The units of this length that can be compared."""
    for start in starts:
        meter, vehicle = meters[start], vehicles.get(start)
        if vehicle is None:
            continue
        within = min(start + length, segment.end) - max(start, segment.start)
        if _is_compared(meter, vehicle, within) and not _is_edge_of_hole(
            start, length, within, meters, vehicles, policy
        ):
            yield meter, vehicle


def is_whole(meter: Quarter, vehicle: Quarter, within: int) -> bool:
    """Whether a unit is compared whatever its neighbours are: both sides are known, the meter is not spread."""
    return (
        meter.samples > 0
        and meter.parts == 0
        and not vehicle.is_empty
        and meter.known >= ENOUGH * within
        and vehicle.known >= ENOUGH * within
    )


def _is_compared(meter: Quarter, vehicle: Quarter, within: int) -> bool:
    """Whether both sides have readings, and the meter is known in enough of the unit or of the vehicle's known time."""
    return not meter.is_empty and not vehicle.is_empty and meter.known >= ENOUGH * min(within, vehicle.known)


def _is_edge_of_hole(
    start: int, length: int, within: int, meters: Quarters, vehicles: Quarters, policy: EfficiencyPolicy
) -> bool:
    """Whether the vehicle is silent in a part of the unit, and in all of a neighbour with a charge by the meter."""
    if vehicles[start].known >= ENOUGH * within:
        return False
    for other in (start - length, start + length):
        is_silent = other not in vehicles or vehicles[other].is_empty
        if is_silent and other in meters and meters[other].kwh * HOUR / length >= policy.session_min_kw:
            return True
    return False
