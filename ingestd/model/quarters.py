"""The figures of a device in each quarter of an hour, summed up from its counted readings.

Pure. A quarter-hour is named by its start and holds (start, start + 15 min]. Times are microseconds, energy is kWh.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from ingestd.model.energy import HOUR, QUARTER, CountedReading


@dataclass(slots=True, kw_only=True)
class Quarter:
    """The figures of a device in a quarter of an hour, in a part of one, in an hour, or in another range of time."""

    kwh: float = 0.0
    samples: int = 0
    """The number of readings."""
    parts: int = 0
    """The number of parts of readings whose interval is longer than a quarter."""
    known: int = 0
    """Known time, in microseconds."""
    averaged: float = 0.0
    """The sum of the averaged figure over the readings."""
    resets: int = 0
    excluded: int = 0

    def add(self, other: "Quarter") -> None:
        """Add the figures of another one."""
        self.kwh += other.kwh
        self.samples += other.samples
        self.parts += other.parts
        self.known += other.known
        self.averaged += other.averaged
        self.resets += other.resets
        self.excluded += other.excluded

    def without(self, other: "Quarter") -> "Quarter":
        """The difference: these figures minus those of another one."""
        return Quarter(
            kwh=self.kwh - other.kwh,
            samples=self.samples - other.samples,
            parts=self.parts - other.parts,
            known=self.known - other.known,
            averaged=self.averaged - other.averaged,
            resets=self.resets - other.resets,
            excluded=self.excluded - other.excluded,
        )

    @property
    def is_spread(self) -> bool:
        """Whether it has parts of readings whose interval is longer than a quarter."""
        return self.parts > 0

    @property
    def is_empty(self) -> bool:
        return self.samples == 0 and self.parts == 0


Quarters: TypeAlias = Mapping[int, Quarter]
"""By start. A quarter that is left out is empty."""


def quarter_of(at: int) -> int:
    """The start of the quarter that a reading of this time belongs to."""
    return (at - 1) // QUARTER * QUARTER


def quarters(counted: Sequence[CountedReading], start: int, end: int) -> dict[int, Quarter]:
    """The quarters of (start, end]; the first and the last only with their part in it."""
    earliest = [one.at - max(one.length, 1) if one.rest_since is None else one.rest_since for one in counted]
    since, until = max(start, min(earliest, default=end)), min(end, counted[-1].at if counted else start)
    if since >= until:
        return {}
    edges = [since, *range(since // QUARTER * QUARTER + QUARTER, until, QUARTER), until]
    sums = [Quarter() for _ in edges[1:]]
    add_between(edges, counted, sums)
    return {edge // QUARTER * QUARTER: row for edge, row in zip(edges, sums, strict=False) if row != _EMPTY}


def add_between(edges: Sequence[int], counted: Iterable[CountedReading], sums: Sequence[Quarter]) -> None:
    """Add what readings count for in each range (edges[n], edges[n + 1]] to sums[n]."""
    known: list[tuple[int, int]] = []
    for one in counted:
        if one.is_spread:  # evenly over its interval; an edge inside it gets its part
            power = one.kwh / one.length  # kWh in a microsecond
            for number, start, end in _parts(edges, one.at - one.length, one.at):
                sums[number].kwh += power * (end - start)
                sums[number].parts += -(-end // QUARTER) - start // QUARTER
        number = bisect_left(edges, one.at) - 1
        if 0 <= number < len(sums):
            row = sums[number]
            row.samples += 1
            row.averaged += one.averaged
            row.resets += one.is_reset
            row.excluded += one.is_excluded
            if not one.is_spread:
                row.kwh += one.kwh
        if one.known is not None:
            known.append(one.known)
    for since, until in merged(known):
        for number, start, end in _parts(edges, since, until):
            sums[number].known += end - start


def hours(rows: Quarters) -> dict[int, Quarter]:
    """The hours: each is the sum of its quarters."""
    sums: dict[int, Quarter] = {}
    for start, row in rows.items():
        sums.setdefault(start // HOUR * HOUR, Quarter()).add(row)
    return sums


def merged(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The union of ranges, in order and without overlaps."""
    result: list[tuple[int, int]] = []
    for start, end in sorted(one for one in ranges if one[0] < one[1]):
        if result and start <= result[-1][1]:
            result[-1] = result[-1][0], max(result[-1][1], end)
        else:
            result.append((start, end))
    return result


def _parts(edges: Sequence[int], start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The part of (start, end] in each range between edges: (number of the range, start, end)."""
    for number in range(max(0, bisect_right(edges, start) - 1), min(bisect_left(edges, end), len(edges) - 1)):
        since, until = max(start, edges[number]), min(end, edges[number + 1])
        if since < until:
            yield number, since, until


_EMPTY: Final = Quarter()
