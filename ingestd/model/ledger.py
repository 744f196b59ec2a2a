"""The rows of the ledger: what is known of each quarter of an hour, and what has to be known to go on behind it.

Pure. A row's figures come of all readings that are there. Its state comes of those up to a minute behind its end, and
of the time they tell: so it is the same whenever it is made. Times are microseconds, energy is kWh.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from operator import attrgetter, ne, sub
from types import MappingProxyType
from typing import Final, cast

from ingestd.model.energy import MINUTE, QUARTER, CountedReading, Reading, State, count, decided
from ingestd.model.flow import Flow
from ingestd.model.quarters import Quarter, quarter_of, quarters
from ingestd.model.register import Point, Register, Rule

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


@dataclass(frozen=True, slots=True, kw_only=True)
class _CertainReadings:
    """Readings that each count whole at their time, and plausible for certain: of them nothing is to be decided."""

    before: State
    at: Sequence[int]
    kwh: Sequence[float]
    averaged: Sequence[float]
    register: Sequence[float] | None
    """Its values; None where they are readings of intervals."""
    known_at: Sequence[int]
    """Times up to which all energy is known: the end of each interval, or each change of a register's value."""
    known: tuple[int, int]
    """The time (from, to] of which all is known."""

    def state(self, until: int) -> State:
        """Behind those up to a moment."""
        number, changes = bisect_right(self.at, until), bisect_right(self.known_at, until)
        if not number:
            return self.before
        register, at = self.before.register, self.at[number - 1]
        if register is not None and self.register is not None:
            changed_at = self.known_at[changes - 1] if changes else register.changed_at
            register = Register(self.register[number - 1], changed_at, at)
        return State(previous_at=at, was_at_rest=self.kwh[number - 1] == 0, register=register)

    def quarters(self, start: int, end: int) -> dict[int, Quarter]:
        """Those of (start, end]."""
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
    stored: Mapping[int, Row | None] = MappingProxyType({}),
) -> Made:
    """The rows of (base.at, until], out of all readings behind the base's state.

    `until` is the end of a quarter. A quarter of `stored` has a row in any case, as it has one already. The state of
    one that is given is taken over: it is not looked for once more.
    """
    counted = _count(readings, base.state, rule, now)
    made = _figures(readings, counted, base.at, until)
    for start in stored:
        if base.at <= start < until:
            made.setdefault(start, Quarter())
    states = _states(readings, counted, base.state, sorted(made), rule, stored)
    return Made(
        rows=[Row(start=start, quarter=made[start], state=state, final_until=final) for start, state, final in states],
        undecided_since=None
        if isinstance(counted, _CertainReadings)
        else next((one.at for one in counted if one.is_undecided), None),
    )


def quarters_of(readings: Readings, base: Base, *, start: int, end: int, rule: Rule, now: int) -> dict[int, Quarter]:
    """What readings behind a base tell of (start, end], which begins no earlier than the base."""
    return _figures(readings, _count(readings, base.state, rule, now), start, end)


def flow_of(readings: Readings, state: State | None, *, rule: Rule, now: int) -> Flow:
    """What flowed by each of the readings behind a state."""
    counted = _count(readings, state, rule, now)
    if not isinstance(counted, _CertainReadings):
        return Flow.of(counted)
    since = dict(zip(counted.known_at, [counted.known[0], *counted.known_at], strict=False))
    ends = [at for at, kwh in zip(counted.at, counted.kwh, strict=True) if kwh > 0]
    return Flow([since[at] for at in ends], ends, [kwh for kwh in counted.kwh if kwh > 0])


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


def _count(readings: Readings, state: State | None, rule: Rule, now: int) -> _CertainReadings | list[CountedReading]:
    """What readings tell: by columns where nothing is to be decided, else what each of them counts for."""
    return _certain(readings, state, rule) or _count_each(readings, state, rule, now)


def _certain(readings: Readings, state: State | None, rule: Rule) -> _CertainReadings | None:
    """None where there is something to decide, or nothing at all.

    Readings of intervals are plain where each begins with the one before, and is short. Those of a register are where
    it is at rest throughout, or rises each quarter-hour at least.
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
    """The longest interval that counts whole, and at once."""
    return min(QUARTER, rule.max_gap)


def _count_each(readings: Readings, state: State | None, rule: Rule, now: int) -> list[CountedReading]:
    """What those count for that tell something of their own."""
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
    """Of all readings, where not all of them were counted."""
    first, last = bisect_right(readings.at, start), bisect_right(readings.at, end)
    while first < last:
        quarter = quarter_of(readings.at[first])
        behind = bisect_right(readings.at, quarter + QUARTER, first, last)
        row = made.setdefault(quarter, Quarter())
        row.samples, row.averaged = behind - first, sum(readings.averaged[first:behind])
        first = behind


def _states(
    readings: Readings,
    counted: _CertainReadings | list[CountedReading],
    state: State | None,
    starts: Iterable[int],
    rule: Rule,
    stored: Mapping[int, Row | None],
) -> Iterator[tuple[int, State, int]]:
    """The state at the end of each quarter, and what is final there."""
    ahead: State | None
    for start in starts:
        row = stored.get(start)
        if row is not None:
            state = row.state
            yield start, state, row.final_until
            continue
        end = start + QUARTER
        if isinstance(counted, _CertainReadings):
            state, ahead = counted.state(end), counted.state(end + LOOK_AHEAD)
        else:
            near = _near(readings, counted, state, end + LOOK_AHEAD, rule)
            ahead = State.after(near, state)
            state = State.after(near[: bisect_right(near, end, key=_time)], state)
        if state is None or ahead is None:  # its first reading is of a later quarter
            continue
        yield start, state, min(end, ahead.final_until(rule))


def _near(
    readings: Readings, counted: Sequence[CountedReading], state: State | None, until: int, rule: Rule
) -> Sequence[CountedReading]:
    """What is decided behind a state by the readings up to `until`, and by the time they tell."""
    first = 0 if state is None else bisect_right(counted, state.previous_at, key=_time)
    near = counted[first : bisect_right(counted, until, key=_time)]
    if all(one.is_known_at_once for one in near):
        return near
    first = 0 if state is None else bisect_right(readings.at, state.previous_at)
    near = _count_each(readings.part(first, bisect_right(readings.at, until)), state, rule, until)
    return near[: decided(near)]


def _without_repeats(readings: Readings, state: State | None, rule: Rule) -> list[Reading]:
    """Without readings of a register that is as it was before and behind them: these two tell the same.

    The last of each quarter is kept, and the last up to a minute behind it, as states are asked for there. All are kept
    where intervals are among them, or where the register is not in line throughout.
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
    behind = 0
    while behind < len(at):
        quarter = quarter_of(at[behind])
        kept.add(max(0, bisect_right(at, quarter + LOOK_AHEAD, behind) - 1))
        behind = bisect_right(at, quarter + QUARTER, behind)
        kept.add(behind - 1)
    return [Reading(at[number], None, values[number], readings.averaged[number]) for number in sorted(kept)]


_time: Final = attrgetter("at")
