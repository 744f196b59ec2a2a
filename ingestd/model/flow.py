"""The energy of one device over time, reading by reading, by columns: there are many.

Pure. Times are microseconds, energy is kWh.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate

from ingestd.model.energy import QUARTER, CountedReading


class Flow:
    """The readings that have energy, in order of time, to be found by bisection."""

    def __init__(self, starts: Sequence[int], ends: Sequence[int], kwh: Sequence[float]) -> None:
        """Of an unknown interval the start is a microsecond before its end."""
        self.starts = starts
        self.ends = ends
        self.kwh = kwh
        self._earliest = list(accumulate(reversed(starts), min))[::-1]
        """The earliest start of a reading and of all that follow it: intervals may overlap."""

    @classmethod
    def of(cls, counted: Iterable[CountedReading]) -> "Flow":
        """What readings count for."""
        ones = [one for one in counted if one.kwh > 0]
        return cls([one.at - max(one.length, 1) for one in ones], [one.at for one in ones], [one.kwh for one in ones])

    def overlapping(self, start: int, end: int) -> list[int]:
        """The numbers of the readings whose energy, or a part of it, flowed in (start, end]."""
        starts = self.starts
        last = bisect_left(self._earliest, end)
        return [number for number in range(bisect_right(self.ends, start), last) if starts[number] < end]

    def span(self, start: int, end: int) -> tuple[int, int] | None:
        """From when to when the intervals of these last; None where there is none."""
        numbers = self.overlapping(start, end)
        return (min(self.starts[number] for number in numbers), self.ends[numbers[-1]]) if numbers else None

    def undivided_until(self, end: int) -> int:
        """Before that, nothing of what is told after `end` has flowed."""
        behind = bisect_right(self.ends, end)
        return min(end, self._earliest[behind]) if behind < len(self.ends) else end

    def counts(self, number: int, start: int, end: int) -> float:
        """kWh of a reading that count in (start, end]: of a longer one its part, of another all or nothing."""
        begin, at = self.starts[number], self.ends[number]
        if at - begin <= QUARTER:
            return self.kwh[number] if start < at <= end else 0.0
        return self.kwh[number] * (max(0, min(end, at) - max(start, begin)) / (at - begin))

    def energy(self, start: int, end: int) -> float:
        """kWh that count in (start, end]."""
        return sum(self.counts(number, start, end) for number in self.overlapping(start, end))

    def within(self, start: int, end: int, of: tuple[int, int] | None = None) -> float:
        """kWh that flowed in (start, end], each reading's spread evenly over its interval, however short.

        Of a stretch (since, until] only what counts in it: its readings, and of those that are spread the part in it.
        """
        if start >= end:
            return 0.0
        total = 0.0
        for number in self.overlapping(start, end):
            begin, at = self.starts[number], self.ends[number]
            since, until = start, end
            if of is not None and at - begin > QUARTER:
                since, until = max(start, of[0]), min(end, of[1])
            elif of is not None and not of[0] < at <= of[1]:
                continue
            total += self.kwh[number] * max(0, min(until, at) - max(since, begin)) / (at - begin)
        return total
