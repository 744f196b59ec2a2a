"""The energy and the interval that each reading of a device counts for: the rule of docs/energy.md.

Pure. Times are whole microseconds since 2000-01-01T00:00Z, energy is kWh.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from ingestd.model.register import JudgedPoint, Point, Register, Rule, Verdict, verdicts

MINUTE: Final = 60_000_000
QUARTER: Final = 15 * MINUTE
HOUR: Final = 60 * MINUTE
TOLERANCE: Final = 1.25
"""An interval may be this many times as long as the time to the next energy: devices are not quite regular."""

_EXCLUDED: Final = {Verdict.GLITCH, Verdict.STEP, Verdict.LEVEL}
_RESETS: Final = {Verdict.RESET, Verdict.UNCOUNTED_RESET}
_HIDING: Final = {Verdict.STEP, Verdict.LEVEL, Verdict.UNCOUNTED_RESET}
"""They do not show what flowed in their interval."""


class Reading(NamedTuple):
    """One reading: the energy of the interval that ends at its time, or the value of the register."""

    at: int
    kwh: float | None = None
    register: float | None = None
    averaged: float = 0.0
    """The stream's averaged figure, such as voltage (V) or temperature (°C)."""


class CountedReading(NamedTuple):
    """What one reading counts for. A tuple, because there are many."""

    at: int
    kwh: float
    since: int | None = None
    """Start of its interval (since, at]; None if it is unknown: then the energy counts at `at`."""
    shortest: int = 0
    """The interval is not cut to less than this: a register's rise lies after its previous reading."""
    is_excluded: bool = False
    is_reset: bool = False
    is_undecided: bool = False
    """Later readings will decide what it is; until then it counts nothing."""
    is_final: bool = True
    """Whether no later reading can change its verdict."""
    may_be_cut: bool = False
    """Whether the time to the next energy may shorten its interval. Never so for a reading without energy."""
    register: Register | None = None
    """The state of the register after it; None for a reading of an interval."""
    rest_since: int | None = None
    """The device was at rest since this time, apart from this energy; None: only its interval is known."""
    rest_until: int | None = None
    """The time at rest ends here; None: at `at`."""
    hides_interval: bool = False
    """It does not show what flowed in its interval."""
    averaged: float = 0.0

    @property
    def known(self) -> tuple[int, int] | None:
        """The time (from, to] of which this reading shows all energy; None: no time."""
        start = self.since if self.rest_since is None else self.rest_since
        if start is None:
            return None
        end = self.at if self.rest_until is None else self.rest_until
        if self.hides_interval and self.since is not None:
            end = self.since
        return (start, end) if start < end else None

    @property
    def is_known_at_once(self) -> bool:
        """Whether no later reading was needed to decide what it counts for."""
        if self.register is None:
            return not self.may_be_cut
        return not (self.may_be_cut or self.is_excluded or self.is_reset or self.is_undecided)

    @property
    def length(self) -> int:
        """The length of its interval, in microseconds; 0 if it is unknown."""
        return 0 if self.since is None else self.at - self.since

    @property
    def is_spread(self) -> bool:
        """Whether its energy is spread over its interval. With a shorter interval, all energy counts at `at`."""
        return self.length > QUARTER


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What has to be known of earlier readings to count later ones."""

    previous_at: int
    """The time of the last reading, of either kind."""
    was_at_rest: bool
    """Whether it shows for certain that nothing flowed."""
    register: Register | None

    @classmethod
    def after(cls, counted: Sequence[CountedReading], state: "State | None") -> "State | None":
        """The state after readings that follow a state. All of them have to be decided."""
        if not counted:
            return state
        registers = [one.register for one in counted if one.register is not None]
        before = state.register if state else None
        return cls(
            previous_at=counted[-1].at,
            was_at_rest=is_rest(counted[-1]),
            register=registers[-1] if registers else before,
        )

    def final_until(self, rule: Rule) -> int:
        """No later reading can have energy before this time."""
        if self.register is None:
            return self.previous_at
        return min(self.previous_at, max(self.register.changed_at, self.register.read_at - rule.max_gap))


def count(
    readings: Sequence[Reading], state: State | None = None, *, rule: Rule, now: int | None = None
) -> list[CountedReading]:
    """What each reading counts for, in order of time, after a state (None: there were no earlier readings).

    `now` is at least the time of the last reading. A register's reading that is out of line waits for later readings
    until `now` is MAX_GAP after it.
    """
    if not readings:
        return []
    now = max(readings[-1].at, readings[-1].at if now is None else now)
    points = [Point(reading.at, reading.register) for reading in readings if reading.register is not None]
    judged = iter(verdicts(points, state.register if state else None, rule=rule, now=now))
    counted: list[CountedReading] = []
    previous_at = state.previous_at if state else None
    was_at_rest = state.was_at_rest if state else False
    for reading in readings:
        if reading.kwh is None:
            one = _of_register(next(judged), rule, reading.averaged)
        else:
            one = _of_interval(reading, reading.kwh, previous_at, was_at_rest=was_at_rest, rule=rule)
        counted.append(one)
        previous_at, was_at_rest = one.at, is_rest(one)
    _cut(counted)
    return counted


def decided(counted: Sequence[CountedReading]) -> int:
    """The number of readings, from the first on, that no later reading can change."""
    final = next((number for number, one in enumerate(counted) if not one.is_final), len(counted))
    for number in range(final):
        if counted[number].may_be_cut and not _is_cut_known(counted, number, final):
            return number
    return final


def _is_cut_known(counted: Sequence[CountedReading], number: int, final: int) -> bool:
    """Whether the next energy is known, or is known to come too late to shorten this interval."""
    one = counted[number]
    energy = next((later for later in range(number + 1, len(counted)) if counted[later].kwh > 0), None)
    if energy is not None:
        return energy < final  # if it is not final, it has shortened the interval, and may turn out to be none
    return any(one.length <= TOLERANCE * (later.at - one.at) for later in counted[number + 1 : final + 1])


def is_rest(one: CountedReading) -> bool:
    """Whether the reading shows for certain that nothing flowed."""
    return one.kwh == 0 and not one.is_undecided and not one.is_excluded and not one.hides_interval


def _of_interval(
    reading: Reading, kwh: float, previous_at: int | None, *, was_at_rest: bool, rule: Rule
) -> CountedReading:
    at = reading.at
    since = None if previous_at is None or at - previous_at > rule.max_gap else previous_at
    if kwh > rule.max_kwh(0, max(rule.max_gap if since is None else at - since, MINUTE)):
        return CountedReading(at=at, kwh=0.0, is_excluded=True, averaged=reading.averaged)
    return CountedReading(
        at=at,
        kwh=kwh,
        since=since,
        rest_since=previous_at if was_at_rest else None,
        may_be_cut=kwh > 0 and since is not None and at - since > QUARTER,
        averaged=reading.averaged,
    )


def _of_register(one: JudgedPoint, rule: Rule, averaged: float) -> CountedReading:
    before = one.before
    if before is None:
        return CountedReading(at=one.at, kwh=0.0, register=one.after, averaged=averaged)
    if one.verdict is Verdict.UNCHANGED:
        # The register may just be slow, so only time more than MAX_GAP ago is known.
        return CountedReading(
            at=one.at,
            kwh=0.0,
            register=one.after,
            rest_since=max(before.changed_at, before.read_at - rule.max_gap),
            rest_until=one.at - rule.max_gap,
            averaged=averaged,
        )
    since = one.since
    shortest = 0 if since is None else one.at - before.read_at
    may_be_cut = one.kwh > 0 and since is not None and one.at - since > max(QUARTER, shortest)
    rest_since = None if since is None else before.changed_at
    counted = CountedReading(
        one.at, one.kwh, since, shortest, register=one.after, rest_since=rest_since, averaged=averaged
    )
    if one.verdict is Verdict.RISE:
        return counted._replace(may_be_cut=True) if may_be_cut else counted
    return counted._replace(
        is_excluded=one.verdict in _EXCLUDED,
        is_reset=one.verdict in _RESETS,
        is_undecided=one.verdict is Verdict.UNDECIDED,
        is_final=one.is_final,
        may_be_cut=may_be_cut,
        hides_interval=one.verdict in _HIDING,
    )


def _cut(counted: list[CountedReading]) -> None:
    """Shorten intervals that are longer than the time to the next energy: they would reach into a rest or a gap."""
    if not any(one.may_be_cut for one in counted):
        return
    next_at: int | None = None
    for number in range(len(counted) - 1, -1, -1):
        one = counted[number]
        if one.may_be_cut and next_at is not None:
            counted[number] = _no_longer_than(one, next_at - one.at)
        if one.kwh > 0:
            next_at = one.at


def _no_longer_than(one: CountedReading, to_next: int) -> CountedReading:
    if one.since is None or one.length <= TOLERANCE * to_next:
        return one
    return one._replace(since=max(one.since, one.at - max(to_next, one.shortest)))
