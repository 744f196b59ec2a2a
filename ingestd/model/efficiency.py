"""How much of the energy from the grid reached the batteries: like compared with like, and judged in one place.

Pure. Times are microseconds, energy is kWh.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from ingestd.model.energy import HOUR, QUARTER
from ingestd.model.quarters import Quarter, Quarters, hours

Status: TypeAlias = Literal["ok", "below-threshold", "insufficient-data", "unmapped", "implausible"]

ENOUGH: Final = 0.95
"""Share of a unit that has to be known."""
DIGITS: Final = 12
"""To which ratios and what is judged are rounded: sums of doubles differ in the last place."""


def ratio_of(*, dc: float, ac: float) -> float:
    """As every answer gives it: never clamped. There has to be some AC."""
    return round(dc / ac, DIGITS)


@dataclass(frozen=True, slots=True, kw_only=True)
class EfficiencyPolicy:
    """By what a vehicle's figures are judged."""

    threshold: float
    """Efficiency below which something may be wrong."""
    min_kwh: float
    """Of AC compared, without which there is no ratio."""
    min_share: float
    """Of the energy that has to be compared, likewise."""
    session_min_kw: float
    """Power from which on a vehicle charges."""

    def judge(self, compared: "Compared | None") -> "Judgement":
        """None: no meter is mapped to the vehicle."""
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
    """DC over AC of what is compared; never clamped."""
    reason: str


@dataclass(slots=True, kw_only=True)
class Compared:
    """The energy of units in which both sides are known, beside all of it."""

    ac: float = 0.0
    dc: float = 0.0
    all_ac: float = 0.0
    all_dc: float = 0.0

    def add(self, other: "Compared") -> None:
        """All that the other one has."""
        self.ac += other.ac
        self.dc += other.dc
        self.all_ac += other.all_ac
        self.all_dc += other.all_dc

    @property
    def share(self) -> float:
        """The lesser of both; 0 of 0 is 1."""
        of_ac = self.ac / self.all_ac if self.all_ac else 1.0
        of_dc = self.dc / self.all_dc if self.all_dc else 1.0
        return round(min(of_ac, of_dc), DIGITS)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentEnergy:
    """A meter that feeds the vehicle in (start, end], within the window, and what both did there."""

    start: int
    end: int
    meter: Quarters = field(repr=False)
    """The vehicle's part of it, where the meter feeds several."""
    vehicle: Quarters = field(repr=False)


def compare(segments: Sequence[SegmentEnergy], *, all_dc: float, policy: EfficiencyPolicy) -> Compared | None:
    """`all_dc` is the vehicle's DC in the window, mapped or not. None where there is no segment."""
    if not segments:
        return None
    result = Compared(all_dc=all_dc, all_ac=sum(row.kwh for segment in segments for row in segment.meter.values()))
    for segment in segments:
        for meter, vehicle in _units(segment, policy):
            result.ac += meter.kwh
            result.dc += vehicle.kwh
    return result


def _units(segment: SegmentEnergy, policy: EfficiencyPolicy) -> Iterator[tuple[Quarter, Quarter]]:
    """What is compared: quarters, or whole hours where the meter has a part of a longer reading in them."""
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
    """What can be, of units of this length."""
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
    """Whether a unit is compared whatever lies around it: both know nearly all of it, and the meter tells it apart."""
    return (
        meter.samples > 0
        and meter.parts == 0
        and not vehicle.is_empty
        and meter.known >= ENOUGH * within
        and vehicle.known >= ENOUGH * within
    )


def _is_compared(meter: Quarter, vehicle: Quarter, within: int) -> bool:
    """Whether there is something of both, and the meter knows enough of it, or of what the vehicle knows of it."""
    return not meter.is_empty and not vehicle.is_empty and meter.known >= ENOUGH * min(within, vehicle.known)


def _is_edge_of_hole(
    start: int, length: int, within: int, meters: Quarters, vehicles: Quarters, policy: EfficiencyPolicy
) -> bool:
    """Whether the vehicle is silent for a part of the unit, and of a neighbour in which its meter shows a charge."""
    if vehicles[start].known >= ENOUGH * within:
        return False
    for other in (start - length, start + length):
        is_silent = other not in vehicles or vehicles[other].is_empty
        if is_silent and other in meters and meters[other].kwh * HOUR / length >= policy.session_min_kw:
            return True
    return False
