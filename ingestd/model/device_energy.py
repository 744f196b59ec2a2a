"""What one device did in a window: stored rows where they are final, readings where they are not, or at edges.

Pure. Times are microseconds, energy is kWh.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ingestd.model.energy import QUARTER, Counted
from ingestd.model.quarters import Quarter, Quarters, merged, quarters


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """What readings count for in (start, end]. There are all that have a part in it."""

    start: int
    end: int
    counted: Sequence[Counted] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEnergy:
    """Of one device in (start, end]: whole quarters from rows, all else from folds."""

    start: int
    end: int
    rows: Quarters = field(repr=False)
    """None of them lies in a fold. The last holds what is before `end`, where that is inside of it."""
    folds: Sequence[Fold] = ()

    def quarters(self, start: int, end: int) -> dict[int, Quarter]:
        """Those of (start, end], a part of the window; where an edge is inside a quarter, there has to be a fold."""
        made = {at: row for at, row in self.rows.items() if start <= at and min(at + QUARTER, self.end) <= end}
        for fold in self.folds:
            since, until = max(start, fold.start), min(end, fold.end)
            if since < until:
                for at, part in quarters(fold.counted, since, until).items():
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
        for fold in self.folds:
            _add_fold(sums, edges, fold)
        return sums

    def readings(self) -> list[Counted]:
        """All that have a part in the window, in order of time. There have to be folds of all of it."""
        found = [one for fold in self.folds for one in fold.counted if fold.start < one.at <= fold.end]
        last = self.folds[-1] if self.folds else None
        if last is not None:
            found += [one for one in last.counted if one.at > last.end and one.at - one.length < last.end]
        return found


def total(parts: Iterable[Quarter]) -> Quarter:
    """Their sum."""
    whole = Quarter()
    for part in parts:
        whole.add(part)
    return whole


def _add_fold(sums: Sequence[Quarter], edges: Sequence[int], fold: Fold) -> None:
    known: list[tuple[int, int]] = []
    for one in fold.counted:
        if one.since is not None and one.is_spread:
            power = one.kwh / one.length
            for number, start, end in _parts(edges, max(one.since, fold.start), min(one.at, fold.end)):
                sums[number].kwh += power * (end - start)
                sums[number].parts += -(-end // QUARTER) - start // QUARTER
        number = bisect_left(edges, one.at) - 1
        if fold.start < one.at <= fold.end and 0 <= number < len(sums):
            into = sums[number]
            into.samples += 1
            into.averaged += one.averaged
            into.resets += one.is_reset
            into.excluded += one.is_excluded
            if not one.is_spread:
                into.kwh += one.kwh
        if one.known is not None:
            known.append((max(one.known[0], fold.start), min(one.known[1], fold.end)))
    for since, until in merged(known):
        for number, start, end in _parts(edges, since, until):
            sums[number].known += end - start


def _parts(edges: Sequence[int], start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """What of (start, end] lies in each stretch between edges: its number, and from when to when."""
    for number in range(max(0, bisect_right(edges, start) - 1), len(edges) - 1):
        since, until = max(start, edges[number]), min(end, edges[number + 1])
        if edges[number] >= end:
            return
        if since < until:
            yield number, since, until
