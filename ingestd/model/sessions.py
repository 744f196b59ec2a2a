"""Charging sessions of one vehicle: when it charged, and which part of its meters' energy went into each session.

Pure. Times are microseconds, energy is kWh.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Final

from ingestd.model.energy import HOUR, QUARTER, Counted


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRule:
    """What can be set."""

    min_kw: float = 0.3
    """Power from which on a vehicle charges."""
    pause: int = QUARTER
    """So long without it, a session goes on."""


SESSION_RULE: Final = SessionRule()


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A charge: its energy is that of (since, end]."""

    start: int
    end: int
    since: int
    """The start, or just before it where the session begins with a reading of unknown interval, to take it in."""

    def within(self, start: int, end: int) -> "Session | None":
        """The part of it that lies in a window (start, end]; None where there is none."""
        since, until = max(self.since, start), min(self.end, end)
        return replace(self, start=max(self.start, start), end=until, since=since) if since < until else None


class Flow:
    """The energy of one device over time: its readings that have any, in order of time, to be found by bisection."""

    def __init__(self, counted: Iterable[Counted]) -> None:
        self._counted = [one for one in counted if one.kwh > 0]
        self._ends = [one.at for one in self._counted]
        self._starts = [_flow_start(one) for one in self._counted]
        self._earliest = list(accumulate(reversed(self._starts), min))[::-1]
        """The earliest start of a reading and of all that follow it: intervals may overlap."""

    def overlapping(self, start: int, end: int) -> list[Counted]:
        """The readings whose energy, or a part of it, flowed in (start, end]."""
        return [self._counted[number] for number in self._numbers(start, end)]

    def _numbers(self, start: int, end: int) -> list[int]:
        first, last = bisect_right(self._ends, start), bisect_left(self._earliest, end)
        return [number for number in range(first, last) if self._starts[number] < end]

    def span(self, start: int, end: int) -> tuple[int, int] | None:
        """From when to when the intervals of these last; None where there is none."""
        ones = self.overlapping(start, end)
        return (min(map(_flow_start, ones)), ones[-1].at) if ones else None

    def energy(self, start: int, end: int) -> float:
        """kWh that counts in (start, end]."""
        return sum(one.kwh * _share(one, start, end) for one in self.overlapping(start, end))

    def within(self, start: int, end: int, session: Session | None = None) -> float:
        """kWh that flowed in (start, end], each reading's spread evenly over its interval, however short.

        With a session only what belongs to it: its readings, and of those that are spread the part within it.
        """
        if start >= end:
            return 0.0
        total = 0.0
        for number in self._numbers(start, end):
            begin, at = self._starts[number], self._ends[number]
            since, until = start, end
            if session is not None and at - begin > QUARTER:
                since, until = max(start, session.since), min(end, session.end)
            elif session is not None and not session.since < at <= session.end:
                continue
            flowed = min(until, at) - max(since, begin)
            total += self._counted[number].kwh * max(0, flowed) / (at - begin)
        return total


@dataclass(frozen=True, slots=True, kw_only=True)
class Feeding:
    """A meter and the vehicles that it feeds in (start, end]."""

    start: int
    end: int
    meter: Flow
    vehicles: Mapping[str, Flow]


def sessions(counted: Iterable[Counted], *, rule: SessionRule = SESSION_RULE) -> list[Session]:
    """Stretches of intervals with so much power on average, and pauses between them up to so long.

    A reading of unknown interval begins a session or belongs to one; by itself it is none.
    """
    runs: list[tuple[Session, bool]] = []
    """With whether there is a known interval in it."""
    for one in counted:
        if one.kwh <= 0 or one.kwh * HOUR < rule.min_kw * one.length:
            continue
        run, is_known = Session(start=_start(one), end=one.at, since=_flow_start(one)), one.since is not None
        # A register may tell of time in which there were other readings.
        while runs and run.start - runs[-1][0].end <= rule.pause:
            before, was_known = runs.pop()
            run = replace(run, start=min(run.start, before.start), since=min(run.since, before.since))
            is_known = is_known or was_known
        runs.append((run, is_known))
    return [run for run, is_known in runs if is_known]


def ac_of(session: Session, vehicle: str, feedings: Iterable[Feeding]) -> float:
    """Of each reading of its meters, the part that the session's DC is of all DC that the meter fed meanwhile.

    Where it fed none, the part of the time.
    """
    return sum(
        one.kwh * _share(one, feeding.start, feeding.end) * _part(one, session, vehicle, feeding)
        for feeding in feedings
        # A reading of the vehicle that counts in the session may tell of a quarter-hour before it, where it was cut.
        for one in feeding.meter.overlapping(max(session.since - QUARTER, feeding.start), min(session.end, feeding.end))
    )


def _part(one: Counted, session: Session, vehicle: str, feeding: Feeding) -> float:
    start, end = max(_flow_start(one), feeding.start), min(one.at, feeding.end)
    everything = sum(flow.within(start, end) for flow in feeding.vehicles.values())
    if everything > 0:
        return feeding.vehicles[vehicle].within(start, end, session) / everything
    since, until = max(start, session.since), min(end, session.end)
    return max(0, until - since) / (end - start) if start < end else 0.0


def _start(one: Counted) -> int:
    return one.at - one.length


def _flow_start(one: Counted) -> int:
    """The same, but of an unknown interval it is just before its end."""
    return one.at - max(one.length, 1)


def _share(one: Counted, start: int, end: int) -> float:
    if not one.is_spread or one.since is None:
        return 1.0 if start < one.at <= end else 0.0
    return max(0, min(end, one.at) - max(start, one.since)) / one.length
