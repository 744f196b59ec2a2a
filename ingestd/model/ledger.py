"""Makes the rows of the ledger: the figures of each quarter, and the state from which later rows are made.

Pure. All stored readings make a row's figures. Only readings up to a minute after its end make its state, so the state
is the same whenever the row is made. Times are microseconds, energy is kWh.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from operator import attrgetter, ne, sub
from typing import Final, cast

from ingestd.model.energy import MINUTE, QUARTER, CountedReading, Reading, State, count, decided
from ingestd.model.flow import Flow
from ingestd.model.quarters import Quarter, quarter_of, quarters
from ingestd.model.register import Point, Register, Rule

LOOK_AHEAD: Final = MINUTE
"""A row's state uses readings up to this long after the row's end: one more of a device that reports once a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """The readings of one device, in order of time, in columns: most readings need no object of their own."""

    at: Sequence[int] = field(repr=False)
    kwh: Sequence[float | None] = field(repr=False)
    register: Sequence[float | None] = field(repr=False)
    averaged: Sequence[float] = field(repr=False)

    def __len__(self) -> int:
        return len(self.at)

    def part(self, first: int, last: int) -> "Readings":
        """The readings from number `first` up to but not including number `last`."""
        part = slice(first, last)
        return Readings(
            at=self.at[part], kwh=self.kwh[part], register=self.register[part], averaged=self.averaged[part]
        )

    def one_by_one(self) -> list[Reading]:
        return list(map(Reading, self.at, self.kwh, self.register, self.averaged))


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """Rows are made from here on: what lies before `at` is final, and `state` is that of the readings up to `at`."""

    at: int
    """Start of a quarter."""
    state: State | None
    """None: there was no reading before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A quarter as it is stored, with the state at its end."""

    start: int
    quarter: Quarter
    state: State
    """The state after the last decided reading up to the quarter's end."""
    final_until: int
    """No reading after the row can change anything before this time."""

    @property
    def end(self) -> int:
        return self.start + QUARTER


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """Rows, and whether they change if no further readings arrive."""

    rows: list[Row]
    undecided_since: int | None
    """The first undecided reading. It is decided when others follow, or when MAX_GAP has passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _CertainReadings:
    """Readings that each count whole at their time and need no decision: short intervals, certainly plausible."""

    before: State
    at: Sequence[int]
    kwh: Sequence[float]
    averaged: Sequence[float]
    register: Sequence[float] | None
    """The values of the register; None for readings of intervals."""
    known_at: Sequence[int]
    """Times up to which all energy is known: the end of each interval, or each change of a register's value."""
    known: tuple[int, int]
    """The time (from, to] that is known."""

    def state(self, until: int) -> State:
        """The state after the readings up to a time."""
        number, changes = bisect_right(self.at, until), bisect_right(self.known_at, until)
        if not number:
            return self.before
        register, at = self.before.register, self.at[number - 1]
        if register is not None and self.register is not None:
            changed_at = self.known_at[changes - 1] if changes else register.changed_at
            register = Register(self.register[number - 1], changed_at, at)
        return State(previous_at=at, was_at_rest=self.kwh[number - 1] == 0, register=register)

    def quarters(self, start: int, end: int) -> dict[int, Quarter]:
        """The quarters of (start, end]."""
        made: dict[int, Quarter] = {}
        since, until = max(self.known[0], start), min(self.known[1], end)
        first = bisect_right(self.at, start)
        begin = min(since, max(self.at[0] - 1, start)) // QUARTER * QUARTER
        for quarter in range(begin, min(self.at[-1], end), QUARTER):
            last = bisect_right(self.at, min(quarter + QUARTER, end))
            known = max(0, min(until, quarter + QUARTER) - max(since, quarter))
            if known or first < last:
                made[quarter] = Quarter(
                    kwh=sum(self.kwh[first:last], 0.0),
                    samples=last - first,
                    known=known,
                    averaged=sum(self.averaged[first:last], 0.0),
                )
            first = last
        return made


def make(
    readings: Readings,
    base: Base,
    *,
    until: int,
    rule: Rule,
    now: int,
    stored: Iterable[int] = (),
) -> Made:
    """The rows of (base.at, until], from all readings after the base.

    `until` is the end of a quarter. A quarter in `stored` has a row already, so one is made in any case. All states are
    made from the base: a stored one may lack readings that have come late.
    """
    counted = _count(readings, base.state, rule, now)
    made = _figures(readings, counted, base.at, until)
    for start in stored:
        if base.at <= start < until:
            made.setdefault(start, Quarter())
    states = _states(readings, counted, base.state, sorted(made), rule)
    return Made(
        rows=[Row(start=start, quarter=made[start], state=state, final_until=final) for start, state, final in states],
        undecided_since=None
        if isinstance(counted, _CertainReadings)
        else next((one.at for one in counted if one.is_undecided), None),
    )


def quarters_of(readings: Readings, base: Base, *, start: int, end: int, rule: Rule, now: int) -> dict[int, Quarter]:
    """The quarters of (start, end], from the readings after a base. `start` is not before the base."""
    return _figures(readings, _count(readings, base.state, rule, now), start, end)


def flow_of(readings: Readings, state: State | None, *, rule: Rule, now: int) -> Flow:
    """The flow of readings that follow a state."""
    counted = _count(readings, state, rule, now)
    if not isinstance(counted, _CertainReadings):
        return Flow.of(counted)
    since = dict(zip(counted.known_at, [counted.known[0], *counted.known_at], strict=False))
    ends = [at for at, kwh in zip(counted.at, counted.kwh, strict=True) if kwh > 0]
    return Flow([since[at] for at in ends], ends, [kwh for kwh in counted.kwh if kwh > 0])


def changed(made: Sequence[Row], stored: Mapping[int, State], *, marked_until: int) -> list[Row] | None:
    """The rows made anew that have to be stored: up to the first one after which nothing has changed.

    `stored` are the states of the stored rows, by start; `marked_until` is the end of the last stale quarter. None: the
    rows do not reach far enough to see where the changes end.
    """
    for number, row in enumerate(made):
        if row.state.previous_at >= marked_until and stored.get(row.start) == row.state:
            if any(later.final_until >= row.end for later in made[number:]):
                return list(made[: number + 1])
            return None
    return None


def _count(readings: Readings, state: State | None, rule: Rule, now: int) -> _CertainReadings | list[CountedReading]:
    """What readings count for: in columns if none needs a decision, else one by one."""
    return _certain(readings, state, rule) or _count_each(readings, state, rule, now)


def _certain(readings: Readings, state: State | None, rule: Rule) -> _CertainReadings | None:
    """The readings in columns; None if one needs a decision, or if there are none.

    Readings of intervals need none if each interval is short and begins with the reading before. Readings of a register
    need none if it never changes, or if it rises at least once in each quarter of an hour.
    """
    if state is None or not readings:
        return None
    if state.register is None:
        return None if None in readings.kwh else _of_intervals(readings, state, rule)
    if None in readings.register or readings.kwh.count(None) < len(readings):
        return None
    return _of_register(readings, state, state.register, rule)


def _of_intervals(readings: Readings, state: State, rule: Rule) -> _CertainReadings | None:
    at, kwh = readings.at, cast("Sequence[float]", readings.kwh)
    if max(map(sub, at, [state.previous_at, *at])) > _longest(rule) or max(kwh) > rule.max_kwh(0, MINUTE):
        return None
    known = (state.previous_at, at[-1])
    return _CertainReadings(
        before=state, at=at, kwh=kwh, averaged=readings.averaged, register=None, known_at=at, known=known
    )


def _of_register(readings: Readings, before: State, register: Register, rule: Rule) -> _CertainReadings | None:
    at, values = readings.at, cast("Sequence[float]", readings.register)
    rises = list(map(sub, values, [register.high_water, *values]))
    changed_at = list(compress(at, rises))
    if changed_at:
        pauses = list(map(sub, changed_at, [register.changed_at, *changed_at]))
        is_slow = max(*pauses, at[-1] - changed_at[-1]) > _longest(rule)
        if is_slow or min(rises) < 0 or max(rises) >= rule.max_kwh(0, min(pauses)):
            return None
        known = (register.changed_at, changed_at[-1])
    else:
        known = (max(register.changed_at, register.read_at - rule.max_gap), at[-1] - rule.max_gap)
    return _CertainReadings(
        before=before,
        at=at,
        kwh=rises,
        averaged=readings.averaged,
        register=values,
        known_at=changed_at,
        known=known,
    )


def _longest(rule: Rule) -> int:
    """The longest interval that counts whole at its time."""
    return min(QUARTER, rule.max_gap)


def _count_each(readings: Readings, state: State | None, rule: Rule, now: int) -> list[CountedReading]:
    """What the readings count for, without repeated values of a register."""
    return count(_without_repeats(readings, state, rule), state, rule=rule, now=now)


def _figures(
    readings: Readings, counted: _CertainReadings | list[CountedReading], start: int, end: int
) -> dict[int, Quarter]:
    """The quarters of (start, end]."""
    if isinstance(counted, _CertainReadings):
        return counted.quarters(start, end)
    made = quarters(counted, start, end)
    if len(counted) < len(readings):
        _count_samples(made, readings, start, end)
    return made


def _count_samples(made: dict[int, Quarter], readings: Readings, start: int, end: int) -> None:
    """Set samples and averages from all readings, because repeated ones were not counted."""
    first, last = bisect_right(readings.at, start), bisect_right(readings.at, end)
    while first < last:
        quarter = quarter_of(readings.at[first])
        after = bisect_right(readings.at, quarter + QUARTER, first, last)
        row = made.setdefault(quarter, Quarter())
        row.samples, row.averaged = after - first, sum(readings.averaged[first:after])
        first = after


def _states(
    readings: Readings,
    counted: _CertainReadings | list[CountedReading],
    state: State | None,
    starts: Iterable[int],
    rule: Rule,
) -> Iterator[tuple[int, State, int]]:
    """For each quarter: its start, the state at its end, and up to where it is final."""
    ahead: State | None
    for start in starts:
        end = start + QUARTER
        if isinstance(counted, _CertainReadings):
            state, ahead = counted.state(end), counted.state(end + LOOK_AHEAD)
        else:
            near = _near(readings, counted, state, end + LOOK_AHEAD, rule)
            ahead = State.after(near, state)
            state = State.after(near[: bisect_right(near, end, key=_time)], state)
        if state is None or ahead is None:  # the first reading is in a later quarter
            continue
        yield start, state, min(end, ahead.final_until(rule))


def _near(
    readings: Readings, counted: Sequence[CountedReading], state: State | None, until: int, rule: Rule
) -> Sequence[CountedReading]:
    """The readings after a state that are decided, using only readings up to `until`."""
    first = 0 if state is None else bisect_right(counted, state.previous_at, key=_time)
    near = counted[first : bisect_right(counted, until, key=_time)]
    if all(one.is_known_at_once for one in near):
        return near
    first = 0 if state is None else bisect_right(readings.at, state.previous_at)
    near = _count_each(readings.part(first, bisect_right(readings.at, until)), state, rule, until)
    return near[: decided(near)]


def _without_repeats(readings: Readings, state: State | None, rule: Rule) -> list[Reading]:
    """The readings without those of a register that has the same value before and after: they add nothing.

    The last reading of each quarter is kept, and the last one up to a minute after it, because states are made there.
    All readings are kept if some are of intervals, or if a value of the register is out of line.
    """
    at, values = readings.at, readings.register
    if None in values or not readings:
        return readings.one_by_one()
    changed = list(compress(range(1, len(values)), map(ne, values[1:], values)))
    register = None if state is None else state.register
    for number in (0, *changed):
        point = Point(at[number], cast("float", values[number]))
        if register is None or point.value != register.high_water:
            if register is not None and not register.is_in_line(point, rule):
                return readings.one_by_one()
            register = Register(high_water=point.value, changed_at=point.at, read_at=point.at)
    kept = {0, *changed, *(number - 1 for number in changed)}
    after = 0
    while after < len(at):
        quarter = quarter_of(at[after])
        kept.add(max(0, bisect_right(at, quarter + LOOK_AHEAD, after) - 1))
        after = bisect_right(at, quarter + QUARTER, after)
        kept.add(after - 1)
    return [Reading(at[number], None, values[number], readings.averaged[number]) for number in sorted(kept)]


_time: Final = attrgetter("at")
