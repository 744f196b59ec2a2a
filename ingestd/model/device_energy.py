"""The energy of one device in a window: from rows where they are final, else and at edges from readings.

Pure. Times are microseconds, energy is kWh.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ingestd.model.energy import QUARTER, CountedReading
from ingestd.model.quarters import Quarter, Quarters, add_between, quarters


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedRange:
    """What readings count for in (start, end]. All readings with energy in this range are there."""

    start: int
    end: int
    counted: Sequence[CountedReading] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEnergy:
    """The energy of one device in (start, end]: whole quarters from rows, all else from counted readings."""

    start: int
    end: int
    rows: Quarters = field(repr=False)
    """None of them lies in a counted range. If `end` is inside the last one, that row has only what is before `end`."""
    counted_ranges: Sequence[CountedRange] = ()

    def quarters(self, start: int, end: int) -> dict[int, Quarter]:
        """The quarters of (start, end]. An edge inside a quarter has to be in a counted range."""
        made = {at: row for at, row in self.rows.items() if start <= at and min(at + QUARTER, self.end) <= end}
        for counted_range in self.counted_ranges:
            since, until = max(start, counted_range.start), min(end, counted_range.end)
            if since < until:
                for at, part in quarters(counted_range.counted, since, until).items():
                    made.setdefault(at, Quarter()).add(part)
        return made

    def total(self, start: int, end: int) -> Quarter:
        """The sum of these quarters."""
        return total(self.quarters(start, end).values())

    def between(self, edges: Sequence[int]) -> list[Quarter]:
        """The sum of each range (edges[n], edges[n + 1]] of the window, in one pass; edges as for `quarters`."""
        sums = [Quarter() for _ in edges[1:]]
        for start, row in self.rows.items():
            number = bisect_right(edges, start) - 1
            if 0 <= number < len(sums) and start + QUARTER <= edges[number + 1]:
                sums[number].add(row)
        for counted_range in self.counted_ranges:
            within = [min(max(edge, counted_range.start), counted_range.end) for edge in edges]
            add_between(within, counted_range.counted, sums)
        return sums


def total(parts: Iterable[Quarter]) -> Quarter:
    """The sum of quarters."""
    whole = Quarter()
    for part in parts:
        whole.add(part)
    return whole
