"""Quarters of a device from sums of its readings, if no single reading needs a decision.

Pure. Times are microseconds, energy is kWh.
"""

from collections.abc import Sequence
from typing import Protocol

from ingestd.model.energy import MINUTE, QUARTER
from ingestd.model.quarters import Quarter
from ingestd.model.register import Rule


class QuarterSums(Protocol):
    """The sums of one device's readings in one quarter, made by PostgreSQL. There is at least one reading."""

    start: int
    kwh: float
    """Energy of the readings in the range asked for."""
    samples: int
    """The number of these readings."""
    first: int
    """The time of the first reading."""
    last: int
    most: float | None
    """The highest energy of one reading; None if all are of a register."""
    registers: int
    """The number of readings of a register."""


def quarters_of_sums(
    sums: Sequence[QuarterSums], *, previous_at: int, start: int, end: int, rule: Rule
) -> dict[int, Quarter] | None:
    """The quarters of (start, end], from the sums of all quarters with readings after `previous_at`, in order.

    None if a reading needs a decision. None does if all are readings of intervals that are short, that begin with the
    reading before, and that are certainly plausible. Two readings of one quarter are never more than a quarter apart.
    """
    most = rule.max_kwh(0, MINUTE)
    at = previous_at
    for one in sums:
        if (
            one.registers
            or one.most is None
            or one.most > most
            or one.first - at > QUARTER
            or one.last > one.start + QUARTER
        ):
            return None
        at = one.last
    since, until = max(previous_at, start), min(at, end)
    if since >= until:
        return {}
    return {
        one.start: Quarter(
            kwh=one.kwh,
            samples=one.samples,
            known=min(until, one.start + QUARTER) - max(since, one.start),
        )
        for one in sums
        if since < one.start + QUARTER and one.start < until
    }
