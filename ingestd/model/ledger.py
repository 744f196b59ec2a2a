"""The rows of the ledger: what is known of each quarter of an hour, and what has to be known to go on behind it.

Pure. A row's figures come of all readings that are there. Its state comes of those up to a minute behind its end, and
of the time they tell: so it is the same whenever it is made. Times are microseconds, energy is kWh.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import sub
from typing import Final

from ingestd.model.energy import MINUTE, QUARTER, Reading, State, count, decided
from ingestd.model.quarters import Quarter, quarters
from ingestd.model.register import Rule

LOOK_AHEAD: Final = MINUTE
"""So far behind its end a row's state is decided: of a device that reports by the minute nothing is open then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """Those of one device, in order of time, by columns: of many readings nothing is to be decided."""

    at: Sequence[int] = field(repr=False)
    kwh: Sequence[float | None] = field(repr=False)
    register: Sequence[float | None] = field(repr=False)
    averaged: Sequence[float] = field(repr=False)

    def __len__(self) -> int:
        return len(self.at)

    def part(self, first: int, last: int) -> "Readings":
        """Those from number `first` up to but not including number `last`."""
        part = slice(first, last)
        return Readings(
            at=self.at[part], kwh=self.kwh[part], register=self.register[part], averaged=self.averaged[part]
        )

    def after(self, moment: int) -> "Readings":
        """Those later than a moment."""
        return self.part(bisect_right(self.at, moment), len(self.at))

    def one_by_one(self) -> list[Reading]:
        return list(map(Reading, self.at, self.kwh, self.register, self.averaged))


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """Where rows begin to be made: what lies before `at` is final, and `state` is that of the readings up to there."""

    at: int
    """Start of a quarter."""
    state: State | None
    """None: there was no reading."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A quarter as it is stored."""

    start: int
    quarter: Quarter
    state: State
    """Of the last decided reading up to its end."""
    final_until: int
    """What lies before it, no reading that follows the row can change."""

    @property
    def end(self) -> int:
        return self.start + QUARTER


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """Rows, and what time alone may change of them."""

    rows: list[Row]
    undecided_since: int | None
    """The first reading that is out of line, and stays so unless others follow within MAX_GAP."""


def make(readings: Readings, base: Base, *, until: int, rule: Rule, now: int, stored: Iterable[int] = ()) -> Made:
    """The rows of (base.at, until], out of all readings behind the base's state.

    `until` is the end of a quarter. A quarter of `stored` has a row in any case, as it has one already.
    """
    made, undecided = _figures(readings, base, base.at, until, rule, now)
    for start in stored:
        if base.at <= start < until:
            made.setdefault(start, Quarter())
    states = _states(readings, base.state, sorted(made), rule)
    return Made(
        rows=[Row(start=start, quarter=made[start], state=state, final_until=final) for start, state, final in states],
        undecided_since=undecided,
    )


def quarters_of(readings: Readings, base: Base, *, start: int, end: int, rule: Rule, now: int) -> dict[int, Quarter]:
    """What readings behind a base tell of (start, end], which begins no earlier than the base."""
    return _figures(readings, base, start, end, rule, now)[0]


def _figures(
    readings: Readings, base: Base, start: int, end: int, rule: Rule, now: int
) -> tuple[dict[int, Quarter], int | None]:
    """The quarters of (start, end], and the first reading that is undecided."""
    if base.state is not None and _nothing_to_decide(readings, base.state, rule):
        return _sums(readings, base.state, start, end), None
    counted = count(readings.one_by_one(), base.state, rule=rule, now=now)
    return quarters(counted, start, end), next((one.at for one in counted if one.is_undecided), None)


def changed(made: Sequence[Row], stored: Mapping[int, State], *, marked_until: int) -> list[Row] | None:
    """What of rows made anew has to be stored: those up to the first behind which all is as before.

    `stored` are the states of the rows that are there, by start; `marked_until` is the end of the last quarter with a
    late reading. None: the rows do not reach that far.
    """
    for number, row in enumerate(made):
        if row.state.previous_at >= marked_until and stored.get(row.start) == row.state:
            if any(later.final_until >= row.end for later in made[number:]):
                return list(made[: number + 1])
            return None
    return None


def _states(
    readings: Readings, state: State | None, starts: Iterable[int], rule: Rule
) -> Iterator[tuple[int, State, int]]:
    """The state at the end of each quarter, and what is final there."""
    ahead: State | None
    for start in starts:
        end = start + QUARTER
        near = readings.part(0, bisect_right(readings.at, end + LOOK_AHEAD))
        if state is not None and _nothing_to_decide(near, state, rule):
            known, inside = len(near), bisect_right(near.at, end)
            ahead = _plain_state(near, known, state)
            state = _plain_state(near, inside, state)
        else:
            counted = count(near.one_by_one(), state, rule=rule, now=end + LOOK_AHEAD)
            known = decided(counted)
            inside = min(known, bisect_right(near.at, end))
            ahead = State.after(counted[:known], state)
            state = State.after(counted[:inside], state)
        readings = readings.part(inside, len(readings))
        if state is None or ahead is None:  # its first reading is of a later quarter
            continue
        yield start, state, min(end, ahead.final_until(rule))


def _nothing_to_decide(readings: Readings, state: State, rule: Rule) -> bool:
    """Whether all are readings of short intervals, each beginning with the one before, and plausible for certain."""
    if state.register is not None or not all(register is None for register in readings.register):
        return False
    if not readings:
        return True
    at = readings.at
    longest = max(at[0] - state.previous_at, *map(sub, at[1:], at)) if len(at) > 1 else at[0] - state.previous_at
    most = rule.most(0, MINUTE)
    return longest <= min(QUARTER, rule.max_gap) and all(kwh is not None and kwh <= most for kwh in readings.kwh)


def _sums(readings: Readings, state: State, start: int, end: int) -> dict[int, Quarter]:
    """The quarters of (start, end] of such readings: each counts at its time, and all the time between is known."""
    made: dict[int, Quarter] = {}
    if not readings:
        return made
    since, until = max(state.previous_at, start), min(readings.at[-1], end)
    first = bisect_right(readings.at, start)
    for quarter in range(since // QUARTER * QUARTER, until, QUARTER):
        last = bisect_right(readings.at, min(quarter + QUARTER, end))
        made[quarter] = Quarter(
            kwh=sum(kwh for kwh in readings.kwh[first:last] if kwh is not None),
            samples=last - first,
            known=min(until, quarter + QUARTER) - max(since, quarter),
            averaged=sum(readings.averaged[first:last]),
        )
        first = last
    return made


def _plain_state(readings: Readings, number: int, state: State) -> State:
    """Behind the first `number` of such readings."""
    if not number:
        return state
    return State(previous_at=readings.at[number - 1], was_at_rest=readings.kwh[number - 1] == 0, register=None)
