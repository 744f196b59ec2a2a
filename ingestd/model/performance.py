"""Energy from the grid and energy into the battery of one vehicle, in a window.

Pure. Times are microseconds, energy is kWh.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from ingestd.model.allocation import allocate
from ingestd.model.device_energy import DeviceEnergy, total
from ingestd.model.efficiency import Compared, EfficiencyPolicy, Judgement, SegmentEnergy, compare
from ingestd.model.quarters import Quarter, Quarters

_OWN: Final = ""
"""Stands for the vehicle itself. No vehicle has this id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherVehicle:
    """Another vehicle that is mapped to the same meter in (start, end], and its energy there."""

    vehicle: str
    start: int
    end: int
    energy: DeviceEnergy = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """A meter that feeds the vehicle in (start, end], and the other vehicles that it feeds in this time.

    (start, end] is the segment of the mapping within the whole hours around the window: a spread meter is divided by
    the DC of whole hours.
    """

    meter: str
    start: int
    end: int
    energy: DeviceEnergy = field(repr=False)
    others: Sequence[OtherVehicle] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterPart:
    """The energy of a meter for the vehicle in a part (start, end] of the window."""

    meter: str
    start: int
    end: int
    whole: Quarter
    """With the vehicle's part of the energy only."""
    is_shared: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """A vehicle's charging in a window."""

    vehicle: Quarter
    meters: Sequence[MeterPart]
    compared: Compared | None
    """None: no meter is mapped to the vehicle."""
    judgement: Judgement
    coverage: float
    """The part of the time up to now that is known: of the vehicle or of its meters, whichever is less."""


def performance(
    start: int, end: int, now: int, *, vehicle: DeviceEnergy, feeds: Sequence[Feed], policy: EfficiencyPolicy
) -> Performance:
    """The performance in (start, end]. All energies must be divisible at its edges and at those of all segments."""
    parts = list(_parts(start, end, vehicle, feeds))
    meters = [meter for _, meter in parts]
    whole = vehicle.total(start, end)
    compared = compare([segment for segment, _ in parts], all_dc=whole.kwh, policy=policy)
    return Performance(
        vehicle=whole,
        meters=meters,
        compared=compared,
        judgement=policy.judge(compared),
        coverage=_coverage(start, min(end, now), whole, meters),
    )


def compared_of(
    start: int, end: int, *, vehicle: DeviceEnergy, feeds: Sequence[Feed], policy: EfficiencyPolicy
) -> Compared | None:
    """The compared energy in (start, end]. `vehicle` needs only the time of `feeds`; `all_dc` is left 0."""
    return compare([segment for segment, _ in _parts(start, end, vehicle, feeds)], all_dc=0.0, policy=policy)


def _parts(
    start: int, end: int, vehicle: DeviceEnergy, feeds: Sequence[Feed]
) -> Iterator[tuple[SegmentEnergy, MeterPart]]:
    """What each feed has in (start, end]."""
    for feed in feeds:
        since, until = max(start, feed.start), min(end, feed.end)
        if since >= until:
            continue
        rows = _part_of_vehicle(feed, vehicle, since, until)
        shared = any(other.start < until and since < other.end for other in feed.others)
        yield (
            SegmentEnergy(start=since, end=until, meter=rows, vehicle=vehicle.quarters(since, until)),
            MeterPart(meter=feed.meter, start=since, end=until, whole=total(rows.values()), is_shared=shared),
        )


def _part_of_vehicle(feed: Feed, vehicle: DeviceEnergy, start: int, end: int) -> dict[int, Quarter]:
    """The meter's quarters of (start, end]; while the meter is shared, only the vehicle's part."""
    result: dict[int, Quarter] = {}
    for since, until, others in _constant_ranges(feed):
        if min(until, end) <= max(since, start):
            continue
        part: Quarters = feed.energy.quarters(max(since, start), min(until, end))
        if others:
            vehicles = {_OWN: vehicle.quarters(since, until)}
            vehicles |= {other.vehicle: other.energy.quarters(since, until) for other in others}
            part = allocate(feed.energy.quarters(since, until), vehicles, part=part)[_OWN]
        for at, row in part.items():
            result.setdefault(at, Quarter()).add(row)
    return result


def _constant_ranges(feed: Feed) -> Iterator[tuple[int, int, list[OtherVehicle]]]:
    """Ranges of time in which the same vehicles are mapped to the meter."""
    edges = {feed.start, feed.end, *(edge for other in feed.others for edge in (other.start, other.end))}
    for since, until in pairwise(sorted(edge for edge in edges if feed.start <= edge <= feed.end)):
        yield since, until, [other for other in feed.others if other.start <= since and until <= other.end]


def _coverage(start: int, end: int, vehicle: Quarter, meters: Sequence[MeterPart]) -> float:
    if start >= end:
        return 0.0
    shares = [1.0, vehicle.known / (end - start)]
    mapped = sum(max(0, min(end, meter.end) - meter.start) for meter in meters)
    if mapped:
        shares.append(sum(meter.whole.known for meter in meters) / mapped)
    return min(shares)
