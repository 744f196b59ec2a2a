"""The energy of one device over time, reading by reading. Stored in columns, because there are many readings.

Pure. Times are microseconds, energy is kWh.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate

from ingestd.model.energy import HOUR, QUARTER, CountedReading


class Flow:
    """The readings with energy, in order of time. They are found by bisection."""

    def __init__(self, starts: Sequence[int], ends: Sequence[int], kwh: Sequence[float]) -> None:
        """An unknown interval starts a microsecond before its end."""
        self.starts = starts
        self.ends = ends
        self.kwh = kwh
        self._earliest = list(accumulate(reversed(starts), min))[::-1]
        """The earliest start of a reading and of all later ones: intervals may overlap."""

    @classmethod
    def of(cls, counted: Iterable[CountedReading]) -> "Flow":
        """The flow of counted readings."""
        ones = [one for one in counted if one.kwh > 0]
        return cls([one.at - max(one.length, 1) for one in ones], [one.at for one in ones], [one.kwh for one in ones])

    def overlapping(self, start: int, end: int) -> list[int]:
        """The numbers of the readings whose interval overlaps (start, end]."""
        starts = self.starts
        last = bisect_left(self._earliest, end)
        return [number for number in range(bisect_right(self.ends, start), last) if starts[number] < end]

    def span(self, start: int, end: int) -> tuple[int, int] | None:
        """The start and end of all intervals that overlap (start, end]; None if there are none."""
        numbers = self.overlapping(start, end)
        return (min(self.starts[number] for number in numbers), self.ends[numbers[-1]]) if numbers else None

    def power(self, until: int) -> tuple[int, float | None]:
        """The time and the kW of the last reading up to `until`, or of the first one if all are later.

        The power is a mean over its interval; None if that is unknown.
        """
        number = max(0, bisect_right(self.ends, until) - 1)
        length = self.ends[number] - self.starts[number]
        return self.ends[number], self.kwh[number] * HOUR / length if length > 1 else None

    def undivided_until(self, end: int) -> int:
        """No reading after `end` has energy before the returned time, which is at most `end`."""
        after = bisect_right(self.ends, end)
        return min(end, self._earliest[after]) if after < len(self.ends) else end

    def counts(self, number: int, start: int, end: int) -> float:
        """kWh of a reading that count in (start, end]: its part if it is spread, else all or nothing."""
        begin, at = self.starts[number], self.ends[number]
        if at - begin <= QUARTER:
            return self.kwh[number] if start < at <= end else 0.0
        return self.kwh[number] * (max(0, min(end, at) - max(start, begin)) / (at - begin))

    def energy(self, start: int, end: int) -> float:
        """kWh that count in (start, end]."""
        return sum(self.counts(number, start, end) for number in self.overlapping(start, end))

    def within(self, start: int, end: int, of: tuple[int, int] | None = None) -> float:
        """kWh that flowed in (start, end], with each reading spread evenly over its interval, however short.

        With `of` = (since, until] only energy that counts in that range: readings in it, and of spread ones their part.
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
