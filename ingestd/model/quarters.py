"""The ledger's rows: what a device did in each quarter of an hour, made of what its readings count for.

Pure. A quarter-hour is named by its start and holds (start, start + 15 min]. Times are microseconds, energy is kWh.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ingestd.model.energy import HOUR, QUARTER, Counted


@dataclass(slots=True, kw_only=True)
class Quarter:
    """What is known of a device in a quarter of an hour, or in a part of one, or in an hour."""

    kwh: float = 0.0
    samples: int = 0
    """Readings."""
    parts: int = 0
    """Parts of longer readings; with the samples, whether there is anything in it."""
    known: int = 0
    """Of its time, in microseconds."""
    averaged: float = 0.0
    """Sum over the readings of the figure whose mean means something."""
    resets: int = 0
    excluded: int = 0

    def add(self, other: "Quarter") -> None:
        """All that the other one has."""
        self.kwh += other.kwh
        self.samples += other.samples
        self.parts += other.parts
        self.known += other.known
        self.averaged += other.averaged
        self.resets += other.resets
        self.excluded += other.excluded

    def without(self, other: "Quarter") -> "Quarter":
        """What this has more than the other one."""
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
        """Whether some of its energy is a part of a longer reading."""
        return self.parts > 0

    @property
    def is_empty(self) -> bool:
        return self.samples == 0 and self.parts == 0


Quarters: TypeAlias = Mapping[int, Quarter]
"""By start. What is not there is empty."""


def quarter_of(at: int) -> int:
    """Start of the quarter-hour that a reading of this time belongs to."""
    return (at - 1) // QUARTER * QUARTER


def quarters(counted: Iterable[Counted], start: int, end: int) -> dict[int, Quarter]:
    """Those of (start, end], of the first and the last only what lies within."""
    rows: dict[int, Quarter] = {}
    known: list[tuple[int, int]] = []
    for one in counted:
        if one.since is not None and one.is_spread:
            _add_parts(rows, one, max(one.since, start), min(one.at, end))
        if start < one.at <= end:
            row = rows.setdefault(quarter_of(one.at), Quarter())
            row.samples += 1
            row.averaged += one.averaged
            row.resets += one.is_reset
            row.excluded += one.is_excluded
            if not one.is_spread:
                row.kwh += one.kwh
        if one.known is not None:
            known.append((max(one.known[0], start), min(one.known[1], end)))
    for since, until in merged(known):
        for quarter in range(since // QUARTER * QUARTER, until, QUARTER):
            row = rows.setdefault(quarter, Quarter())
            row.known += min(until, quarter + QUARTER) - max(since, quarter)
    return rows


def hours(rows: Quarters) -> dict[int, Quarter]:
    """An hour is the sum of its quarters."""
    sums: dict[int, Quarter] = {}
    for start, row in rows.items():
        sums.setdefault(start // HOUR * HOUR, Quarter()).add(row)
    return sums


def merged(stretches: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same time, each moment of it once, in order."""
    result: list[tuple[int, int]] = []
    for start, end in sorted(stretch for stretch in stretches if stretch[0] < stretch[1]):
        if result and start <= result[-1][1]:
            result[-1] = result[-1][0], max(result[-1][1], end)
        else:
            result.append((start, end))
    return result


def _add_parts(rows: dict[int, Quarter], one: Counted, since: int, until: int) -> None:
    """An interval longer than a quarter of an hour is spread evenly; an edge inside it gets its part."""
    if until <= since:
        return
    power = one.kwh / one.length  # kWh in a microsecond
    for quarter in range(since // QUARTER * QUARTER, until, QUARTER):
        row = rows.setdefault(quarter, Quarter())
        row.parts += 1
        row.kwh += power * (min(until, quarter + QUARTER) - max(since, quarter))
