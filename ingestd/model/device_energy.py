"""What one device did in a window: stored rows where they are final, readings where they are not, or at edges.

Pure. Times are microseconds, energy is kWh.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ingestd.model.energy import QUARTER, CountedReading
from ingestd.model.quarters import Quarter, Quarters, add_between, quarters


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedRange:
    """What readings count for in (start, end]. There are all that have a part in it."""

    start: int
    end: int
    counted: Sequence[CountedReading] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEnergy:
    """Of one device in (start, end]: whole quarters from rows, all else from counted readings."""

    start: int
    end: int
    rows: Quarters = field(repr=False)
    """None of them lies in a fold. The last holds what is before `end`, where that is inside of it."""
    counted_ranges: Sequence[CountedRange] = ()

    def quarters(self, start: int, end: int) -> dict[int, Quarter]:
        """Those of (start, end], a part of the window; where an edge is inside a quarter, there has to be a fold."""
        made = {at: row for at, row in self.rows.items() if start <= at and min(at + QUARTER, self.end) <= end}
        for counted_range in self.counted_ranges:
            since, until = max(start, counted_range.start), min(end, counted_range.end)
            if since < until:
                for at, part in quarters(counted_range.counted, since, until).items():
                    made.setdefault(at, Quarter()).add(part)
        return made

    def total(self, start: int, end: int) -> Quarter:
        """The sum of it."""
        return total(self.quarters(start, end).values())

    def between(self, edges: Sequence[int]) -> list[Quarter]:
        """The sum of each stretch (edges[n], edges[n + 1]] of the window, in one pass; edges as for `quarters`."""
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
    """Their sum."""
    whole = Quarter()
    for part in parts:
        whole.add(part)
    return whole
