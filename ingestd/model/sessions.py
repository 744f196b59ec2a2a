"""Charging sessions of one vehicle: when it charged, and which part of its meters' energy went into each session.

Pure. Times are microseconds, energy is kWh.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from ingestd.model.energy import HOUR, QUARTER
from ingestd.model.flow import Flow


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


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterFeed:
    """A meter and the vehicles that it feeds in (start, end]."""

    start: int
    end: int
    meter: Flow
    vehicles: Mapping[str, Flow]


def sessions(flow: Flow, *, rule: SessionRule = SESSION_RULE) -> list[Session]:
    """Stretches of intervals with so much power on average, and pauses between them up to so long.

    A reading of unknown interval begins a session or belongs to one; by itself it is none.
    """
    runs: list[tuple[int, int, int, bool]] = []
    """Since, start and end, with whether there is a known interval in it."""
    for begin, end, kwh in zip(flow.starts, flow.ends, flow.kwh, strict=True):
        if kwh * HOUR < rule.min_kw * (end - begin):
            continue
        is_known = end - begin > 1
        since, start = begin, begin if is_known else end
        # A register may tell of time in which there were other readings.
        while runs and start - runs[-1][2] <= rule.pause:
            before = runs.pop()
            since, start, is_known = min(since, before[0]), min(start, before[1]), is_known or before[3]
        runs.append((since, start, end, is_known))
    return [Session(start=start, end=end, since=since) for since, start, end, is_known in runs if is_known]


def ac_of(session: Session, vehicle: str, feeds: Iterable[MeterFeed]) -> float:
    """Of each reading of its meters, the part that the session's DC is of all DC that the meter fed meanwhile.

    Where it fed none, the part of the time.
    """
    total = 0.0
    for feed in feeds:
        meter = feed.meter
        # A reading of the vehicle that counts in the session may tell of a quarter-hour before it, where it was cut.
        start, end = max(session.since - QUARTER, feed.start), min(session.end, feed.end)
        alone_since, alone_until = _alone(session, vehicle, feed)
        for number in meter.overlapping(start, end):
            if alone_since <= meter.starts[number] and meter.ends[number] <= alone_until:
                total += meter.kwh[number]
            else:
                part = _part(meter.starts[number], meter.ends[number], session, vehicle, feed)
                total += meter.counts(number, feed.start, feed.end) * part
    return total


def _alone(session: Session, vehicle: str, feed: MeterFeed) -> tuple[int, int]:
    """Time in which all that the meter feeds belongs to the session, so that its part of each reading is the whole."""
    since, until = max(session.since, feed.start), min(session.end, feed.end)
    if any(flow.overlapping(since, until) for other, flow in feed.vehicles.items() if other != vehicle):
        return since, since
    return since, min(until, feed.vehicles[vehicle].undivided_until(session.end))


def _part(begin: int, at: int, session: Session, vehicle: str, feed: MeterFeed) -> float:
    start, end = max(begin, feed.start), min(at, feed.end)
    everything = sum(flow.within(start, end) for flow in feed.vehicles.values())
    if everything > 0:
        return feed.vehicles[vehicle].within(start, end, (session.since, session.end)) / everything
    since, until = max(start, session.since), min(end, session.end)
    return max(0, until - since) / (end - start) if start < end else 0.0
