"""Gaps: ranges of time without a reading.

Pure. Times are microseconds.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from ingestd.model.device_energy import DeviceEnergy
from ingestd.model.energy import QUARTER


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaps:
    """The gaps of a window."""

    count: int
    longest: int  # microseconds


def silent_ranges(device: DeviceEnergy, start: int, end: int, *, longer_than: int) -> list[tuple[int, int]]:
    """Ranges of whole quarters without a reading that may belong to a gap in (start, end] of more than `longer_than`.

    A gap of more than half an hour has such a quarter in it, and reaches less than a quarter beyond the range's ends.
    """
    first, last = -(-start // QUARTER) * QUARTER, end // QUARTER * QUARTER
    if first >= last:
        return []
    heard = sorted(at for at, row in device.quarters(first, last).items() if row.samples)
    begins = [first, *(at + QUARTER for at in heard)]
    ends = [*heard, last]
    return [
        (since, until)
        for since, until in zip(begins, ends, strict=True)
        if since < until and until - since + 2 * QUARTER > longer_than
    ]


def gaps(around: Iterable[tuple[int | None, int | None]], start: int, end: int, *, longer_than: int) -> Gaps:
    """The gaps of (start, end], from the times of the readings before and after each silent range."""
    lengths = [
        (end if after is None else min(after, end)) - (start if before is None else max(before, start))
        for before, after in around
    ]
    gaps = [length for length in lengths if length > longer_than]
    return Gaps(count=len(gaps), longest=max(gaps, default=0))
