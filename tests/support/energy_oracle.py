"""An oracle of the energy rule for one device.

It was written from the words of the rule only; it is simple and slow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MINUTE = 60_000_000
HOUR = 60 * MINUTE
QUARTER = 15 * MINUTE


@dataclass(frozen=True, slots=True)
class Reading:
    at: int  # microseconds since some epoch
    kwh: float | None = None  # interval reading: energy of the interval that ends at `at`
    register: float | None = None  # or: the cumulative register, kWh (exactly one of both is not None)


@dataclass(frozen=True, slots=True)
class CountedReading:  # what one reading counts for
    at: int
    kwh: float  # what it counts (0.0 where nothing)
    since: int | None  # start of its interval (since, at]; None: unknown, or nothing counted
    excluded: int  # 0 or 1
    resets: int  # 0 or 1


@dataclass(slots=True)
class _Told:
    """What one reading turned out to be, before and after the cap of item 2."""

    at: int
    kind: str  # "interval" or "register"
    what: str  # interval: counts, implausible. register: first, unchanged, rise, glitch,
    #                                 reset, uncounted reset, step, level, undecided
    kwh: float = 0.0
    since: int | None = None  # start of its interval, also where it counts nothing; None: unknown
    floor: int | None = None  # register: its previous reading; a cap does not make the interval shorter than to there

    @property
    def excluded(self) -> int:
        return int(self.what in ("implausible", "glitch", "step", "level"))


# --- items 2, 4 and 5: what each reading tells ------------------------------------------------------------------


def _intervals(readings: list[Reading], max_kw: float, max_gap: int) -> dict[int, _Told]:
    told = {}
    for i, r in enumerate(readings):
        if r.kwh is None:
            continue
        before = readings[i - 1].at if i else None  # the previous reading, of either kind
        since = before if before is not None and r.at - before <= max_gap else None
        time = max(r.at - since if since is not None else max_gap, MINUTE)
        if r.kwh > max_kw * time / HOUR:
            told[r.at] = _Told(r.at, "interval", "implausible", since=since)
        else:
            told[r.at] = _Told(r.at, "interval", "counts", r.kwh, since)
    return told


def _registers(readings: list[Reading], max_kw: float, max_gap: int, now: int) -> dict[int, _Told]:
    told: dict[int, _Told] = {}
    rs = [(r.at, r.register) for r in readings if r.register is not None]
    if not rs:
        return told

    def put(at: int, what: str, kwh: float = 0.0, since: int | None = None, floor: int | None = None) -> None:
        told[at] = _Told(at, "register", what, kwh, since, floor)

    at, high = rs[0]
    changed = previous = at  # `previous`: the previous reading in line (a glitch is none)
    put(at, "first")
    i = 1
    while i < len(rs):
        at, value = rs[i]
        start = previous if at - previous > max_gap else max(changed, at - max_gap)  # item 2
        if high <= value <= high + max_kw * (at - changed) / HOUR:  # in line
            if value > high:
                put(at, "rise", value - high, start, previous)
                changed = at
            else:
                put(at, "unchanged")
            high, previous = value, at
            i += 1
            continue

        back = _comes_back(rs, i, high, changed, max_kw, max_gap)
        if back is not None:  # all until then were bad; the one that comes back is looked at again
            for glitch, _ in rs[i:back]:
                put(glitch, "glitch")
            i = back
        elif now - at < max_gap:  # may still come back: this and all after it wait
            for waiting, _ in rs[i:]:
                put(waiting, "undecided")
            break
        else:  # stays
            if value < high / 2:
                time = min(at - previous, max_gap)
                if value <= max_kw * time / HOUR:
                    put(at, "reset", value, at - time, previous)
                else:
                    put(at, "uncounted reset", since=start, floor=previous)
            else:
                put(at, "step" if value < high else "level", since=start, floor=previous)
            high, changed, previous = value, at, at
            i += 1
    return told


def _comes_back(
    rs: list[tuple[int, float]], first: int, high: float, changed: int, max_kw: float, max_gap: int
) -> int | None:
    """The first reading that comes back to `high` after the bad ones that begin at `first`, soon enough."""
    begun, bad = rs[first]
    side = bad < high  # is the excursion below or above?
    deepest = abs(high - bad)  # of the readings on that side
    for j in range(first + 1, len(rs)):
        at, value = rs[j]
        if at - begun > max_gap and j > first + 1:  # the very next reading may come later
            return None
        before = rs[j - 1][1]
        towards = value > before if before < high else value < before
        large = abs(value - before) >= deepest / 2
        near = value - high <= max_kw * (at - changed) / HOUR and high - value <= abs(high - bad) / 2
        if towards and large and near:
            return j
        if (value < high) == side:
            deepest = max(deepest, abs(high - value))
    return None


def _tell(readings: Sequence[Reading], max_kw: float, max_gap: int, now: int | None) -> list[_Told]:
    rs = sorted(readings, key=lambda r: r.at)
    assert all((r.kwh is None) != (r.register is None) for r in rs), "one of kwh and register"
    assert len({r.at for r in rs}) == len(rs), "two readings of the same time"
    if not rs:
        return []
    now = rs[-1].at if now is None else max(now, rs[-1].at)
    by_time = _intervals(rs, max_kw, max_gap) | _registers(rs, max_kw, max_gap, now)
    told = [by_time[r.at] for r in rs]

    # the cap of item 2: who is slow is slow on both sides
    for i, t in enumerate(told):
        later = [u.at for u in told[i + 1 :] if u.kwh > 0]
        if t.since is None or t.kwh == 0 or not later:
            continue
        length, to_next = t.at - t.since, later[0] - t.at
        if length > QUARTER and 4 * length > 5 * to_next:
            if t.floor is not None:
                to_next = max(to_next, t.at - t.floor)
            t.since = max(t.since, t.at - to_next)
    return told


# --- the answers -------------------------------------------------------------------------------------------------


def count(readings: Sequence[Reading], *, max_kw: float, max_gap: int, now: int | None = None) -> list[CountedReading]:
    """In order of time, one for each reading; `now` (default: the last one) is for what waits to be decided."""
    return [
        CountedReading(
            t.at, t.kwh, t.since if t.kwh > 0 else None, t.excluded, int(t.what in ("reset", "uncounted reset"))
        )
        for t in _tell(readings, max_kw, max_gap, now)
    ]


def known(readings: Sequence[Reading], *, max_kw: float, max_gap: int, now: int | None = None) -> list[tuple[int, int]]:
    """Item 6: the stretches of time (from, to] that are known, merged, in order."""
    told = _tell(readings, max_kw, max_gap, now)
    ranges: list[tuple[int, int]] = []

    for i, t in enumerate(told):
        if t.kind == "interval" and t.what == "counts":
            if t.since is not None:
                ranges.append((t.since, t.at))
            if (
                i
                and told[i - 1].kwh == 0
                and not told[i - 1].excluded
                and told[i - 1].what not in ("undecided", "uncounted reset")
            ):
                ranges.append((told[i - 1].at, t.at))  # a rest

    changed: int | None = None
    in_line = 0
    for t in told:
        if t.kind == "interval" or t.what in ("glitch", "undecided"):
            continue
        if changed is not None and t.what in ("rise", "reset"):
            ranges.append((changed, t.at))
        elif changed is not None and t.since is not None:  # step, level, uncounted reset: but not what it hides
            ranges.append((changed, t.since))
        if t.what != "unchanged":
            changed = t.at
        in_line = t.at
    if changed is not None:
        ranges.append((changed, in_line - max_gap))  # unchanged: it may only be slow

    merged: list[tuple[int, int]] = []
    for start, end in sorted(s for s in ranges if s[0] < s[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def quarters(
    readings: Sequence[Reading], *, max_kw: float, max_gap: int, now: int | None = None
) -> dict[int, tuple[float, bool]]:
    """Item 3: start of a quarter-hour -> (kwh, has a part of a longer reading)."""
    ledger: dict[int, tuple[float, bool]] = {}

    def add(start: int, kwh: float, *, part: bool) -> None:
        had, spread = ledger.get(start, (0.0, False))
        ledger[start] = (had + kwh, spread or part)

    for c in count(readings, max_kw=max_kw, max_gap=max_gap, now=now):
        if c.kwh == 0:
            continue
        if c.since is None or c.at - c.since <= QUARTER:
            add((c.at - 1) // QUARTER * QUARTER, c.kwh, part=False)  # (start, start + 15 min] holds c.at
            continue
        start = c.since // QUARTER * QUARTER
        while start < c.at:
            inside = min(c.at, start + QUARTER) - max(c.since, start)
            add(start, c.kwh * inside / (c.at - c.since), part=True)
            start += QUARTER
    return dict(sorted(ledger.items()))
