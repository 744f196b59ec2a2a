"""The window of a fleet's answer in hours and quarters, and which segments of the mapping are compared by sums.

Pure. Times are microseconds, energy is kWh.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ingestd.model.energy import HOUR, QUARTER
from ingestd.model.mapping import MappingSegment


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """(start, end], divided into whole hours in the middle, quarters at both ends, and parts of quarters."""

    start: int
    end: int
    """The answer reaches up to here."""
    asked_end: int
    made_until: int
    """Rows are made up to here; the end of a quarter."""

    @property
    def since(self) -> int:
        """The start of the first whole quarter."""
        return -(-self.start // QUARTER) * QUARTER

    @property
    def until(self) -> int:
        """The end of the last whole quarter with rows."""
        return max(self.since, min(self.end, self.made_until) // QUARTER * QUARTER)

    @property
    def hours_from(self) -> int:
        return min(-(-self.since // HOUR) * HOUR, self.until)

    @property
    def hours_until(self) -> int:
        return max(self.until // HOUR * HOUR, self.hours_from)

    @property
    def units(self) -> int:
        """The number of rows, of hours and of quarters, of a device that always reports."""
        quarters = self.hours_from - self.since + self.until - self.hours_until
        return (self.hours_until - self.hours_from) // HOUR + quarters // QUARTER

    def unit(self, start: int) -> range:
        """The quarters of the unit with this quarter: all of its hour in the middle, itself at the ends."""
        is_hour = self.hours_from <= start < self.hours_until
        return hour_of(start) if is_hour else range(start, start + QUARTER, QUARTER)

    @property
    def parts(self) -> list[tuple[int, int]]:
        """The parts of quarters at both edges, if they have rows."""
        first = self.start, min(self.since, self.end)
        last = max(self.until, self.end // QUARTER * QUARTER), self.end
        parts = (first, last)
        return [part for part in parts if part[0] < part[1] and -(-part[1] // QUARTER) * QUARTER <= self.made_until]

    @property
    def since_of_open(self) -> int:
        """The start of the window for open readings. `parts` has their energy in the first part of a quarter."""
        return self.since if self.start < self.made_until else self.start


def hour_of(start: int) -> range:
    """The quarters of the hour of this quarter."""
    hour = start // HOUR * HOUR
    return range(hour, hour + HOUR, QUARTER)


def divided_segments(
    segments: Iterable[MappingSegment], *, start: int, end: int
) -> tuple[list[MappingSegment], set[str]]:
    """The segments that are compared by sums, and the vehicles that are compared one by one.

    A segment is compared by sums if its meter feeds one vehicle at a time, and if it begins and ends with the window or
    with a whole hour. All segments of a vehicle are compared in the same way.
    """
    segments = list(segments)
    by_meter: defaultdict[str, list[MappingSegment]] = defaultdict(list)
    for segment in segments:
        by_meter[segment.meter].append(segment)
    by_vehicle: set[str] = set()
    for of_meter in by_meter.values():
        by_vehicle |= _sharing_a_meter(sorted(of_meter, key=lambda segment: segment.start))
    for segment in segments:
        if (segment.start != start and segment.start % HOUR) or (segment.end != end and segment.end % HOUR):
            by_vehicle.add(segment.vehicle)
    return [segment for segment in segments if segment.vehicle not in by_vehicle], by_vehicle


def _sharing_a_meter(segments: Sequence[MappingSegment]) -> set[str]:
    """Vehicles that share the meter with another one at the same time; the segments are in order of their start."""
    found: set[str] = set()
    last: MappingSegment | None = None
    for segment in segments:
        if last is not None and segment.start < last.end:
            found |= {segment.vehicle, last.vehicle}
        if last is None or segment.end > last.end:
            last = segment
    return found
