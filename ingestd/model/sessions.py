"""The charging sessions of one vehicle, and the part of its meters' energy for each session.

Pure. Times are microseconds, energy is kWh.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from ingestd.model.energy import HOUR, QUARTER
from ingestd.model.flow import Flow


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRule:
    """The settings of sessions."""

    min_kw: float = 0.3
    """A vehicle with at least this power is charging."""
    pause: int = QUARTER
    """A session goes on over a pause of at most this, in microseconds."""


SESSION_RULE: Final = SessionRule()


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A charge. Its energy is that of (since, end]."""

    start: int
    end: int
    since: int
    """The start; or just before it, to include a first reading of unknown interval."""

    def within(self, start: int, end: int) -> "Session | None":
        """Its part in a window (start, end]; None if there is none."""
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
    """Runs of intervals with at least `rule.min_kw` on average, and with pauses of at most `rule.pause` between them.

    A reading of unknown interval begins a session or belongs to one; by itself it makes none.
    """
    runs: list[tuple[int, int, int, bool]] = []
    """(since, start, end, whether an interval in it is known)"""
    for begin, end, kwh in zip(flow.starts, flow.ends, flow.kwh, strict=True):
        if kwh * HOUR < rule.min_kw * (end - begin):
            continue
        is_known = end - begin > 1
        since, start = begin, begin if is_known else end
        # The interval of a register may contain other readings.
        while runs and start - runs[-1][2] <= rule.pause:
            before = runs.pop()
            since, start, is_known = min(since, before[0]), min(start, before[1]), is_known or before[3]
        runs.append((since, start, end, is_known))
    return [Session(start=start, end=end, since=since) for since, start, end, is_known in runs if is_known]


def ac_of(session: Session, vehicle: str, feeds: Iterable[MeterFeed]) -> float:
    """The session's AC: of each meter reading the part that the session has of the DC of all its vehicles.

    If there is no DC in the reading's interval, the session's part of the time.
    """
    total = 0.0
    for feed in feeds:
        meter = feed.meter
        # The interval of a vehicle's reading may begin up to a quarter before a session that the window cuts.
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
    """The time in which all energy of the meter belongs to the session, so its readings need not be divided."""
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
