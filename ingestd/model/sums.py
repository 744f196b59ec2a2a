"""Quarters of a device made of sums, where the rule has nothing to decide about a single reading.

Pure. Times are microseconds, energy is kWh.
"""

from collections.abc import Sequence
from typing import Protocol

from ingestd.model.energy import MINUTE, QUARTER
from ingestd.model.quarters import Quarter
from ingestd.model.register import Rule


class QuarterSums(Protocol):
    """Of the readings of one device behind the start of one quarter-hour, in which there are some."""

    start: int
    kwh: float
    """Of those in the stretch that is asked for."""
    samples: int
    """Of those likewise."""
    first: int
    """When the first of all was taken."""
    last: int
    most: float | None
    """The most energy of one of them; None where there is none."""
    registers: int
    """How many are of a register."""


def quarters_of_sums(
    sums: Sequence[QuarterSums], *, previous_at: int, start: int, end: int, rule: Rule
) -> dict[int, Quarter] | None:
    """Those of (start, end], out of the sums of all quarters behind a device's reading at `previous_at`, in order.

    Readings of one quarter are never further apart than a quarter. None: there is something to decide. It is none where
    all are readings of short intervals, each beginning with the one before, and plausible for certain.
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
