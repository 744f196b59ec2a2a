"""Charging sessions of one vehicle: when it charged, and which part of its meters' energy went into each session.

Pure. Times are microseconds, energy is kWh.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ingestd.model.energy import HOUR, QUARTER, Counted

SESSION_MIN_KW: Final = 0.3
SESSION_PAUSE: Final = QUARTER


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A charge: its energy is that of (since, end]."""

    start: int
    end: int
    since: int
    """The start, or just before it where the session begins with a reading of unknown interval, to take it in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feeding:
    """A meter and the vehicles that it feeds in (start, end]: their readings as they count."""

    start: int
    end: int
    meter: Sequence[Counted]
    vehicles: Mapping[str, Sequence[Counted]]


def sessions(
    counted: Iterable[Counted], *, min_kw: float = SESSION_MIN_KW, pause: int = SESSION_PAUSE
) -> list[Session]:
    """Stretches of intervals with so much power on average, and pauses between them up to so long.

    A reading of unknown interval begins a session or belongs to one; by itself it is none.
    """
    runs: list[list[Counted]] = []
    for one in counted:
        if one.kwh <= 0 or one.kwh * HOUR < min_kw * one.length:
            continue
        if not runs or _start(one) - runs[-1][-1].at > pause:
            runs.append([])
        runs[-1].append(one)
    return [
        Session(start=_start(run[0]), end=run[-1].at, since=run[0].at - max(run[0].length, 1))
        for run in runs
        if any(one.since is not None for one in run)
    ]


def _start(one: Counted) -> int:
    return one.at - one.length


def energy(counted: Iterable[Counted], start: int, end: int) -> float:
    """kWh that counts in (start, end]."""
    return sum(one.kwh * _share(one, start, end) for one in counted)


def ac_of(session: Session, vehicle: str, feedings: Iterable[Feeding]) -> float:
    """Of each reading of its meters, the part that the session's DC is of all DC that the meter fed meanwhile.

    Where it fed none, the part of the time.
    """
    return sum(
        _energy_within(one, feeding) * _part(one, session, vehicle, feeding)
        for feeding in feedings
        for one in feeding.meter
        if one.kwh > 0
    )


def _energy_within(one: Counted, feeding: Feeding) -> float:
    return one.kwh * _share(one, feeding.start, feeding.end)


def _part(one: Counted, session: Session, vehicle: str, feeding: Feeding) -> float:
    start, end = max(one.at - max(one.length, 1), feeding.start), min(one.at, feeding.end)
    everything = sum(_flow(counted, start, end) for counted in feeding.vehicles.values())
    since, until = max(start, session.since), min(end, session.end)
    if everything > 0:
        return _flow(feeding.vehicles[vehicle], since, until) / everything
    return max(0, until - since) / (end - start) if start < end else 0.0


def _flow(counted: Iterable[Counted], start: int, end: int) -> float:
    """kWh that flowed in (start, end], each reading's spread evenly over its interval, however short."""
    if end <= start:
        return 0.0
    total = 0.0
    for one in counted:
        length = max(one.length, 1)
        total += one.kwh * max(0, min(end, one.at) - max(start, one.at - length)) / length
    return total


def _share(one: Counted, start: int, end: int) -> float:
    if not one.is_spread or one.since is None:
        return 1.0 if start < one.at <= end else 0.0
    return max(0, min(end, one.at) - max(start, one.since)) / one.length
