"""The rows of the ledger: what is known of each quarter of an hour, and what has to be known to go on behind it.

Pure. A row's figures come of all readings that are there. Its state comes of those up to a minute behind its end, and
of the time they tell: so it is the same whenever it is made. Times are microseconds, energy is kWh.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from operator import attrgetter, sub
from types import MappingProxyType
from typing import Final, NamedTuple, cast

from ingestd.model.energy import MINUTE, QUARTER, Counted, Reading, State, count, decided
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
    told = _told(readings, base.state, rule, now)
    made = _figures(readings, told, base.at, until)
    for start in stored:
        if base.at <= start < until:
            made.setdefault(start, Quarter())
    states = _states(readings, told, base.state, sorted(made), rule, stored)
    return Made(
        rows=[Row(start=start, quarter=made[start], state=state, final_until=final) for start, state, final in states],
        undecided_since=None if isinstance(told, _Plain) else next((one.at for one in told if one.is_undecided), None),
    )


def quarters_of(readings: Readings, base: Base, *, start: int, end: int, rule: Rule, now: int) -> dict[int, Quarter]:
    """What readings behind a base tell of (start, end], which begins no earlier than the base."""
    return _figures(readings, _told(readings, base.state, rule, now), start, end)


def flow_of(readings: Readings, state: State | None, *, rule: Rule, now: int) -> Flow:
    """What flowed by each of the readings behind a state."""
    told = _told(readings, state, rule, now)
    if not isinstance(told, _Plain):
        return Flow.of(told)
    some = [kwh > 0 for kwh in told.kwh]
    starts = compress([told.state.previous_at, *readings.at], some)
    return Flow(list(starts), list(compress(readings.at, some)), list(compress(told.kwh, some)))


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


class _Plain(NamedTuple):
    """What readings tell where each counts for the short time since the one before, and no doubt of it."""

    state: State
    """Before them."""
    kwh: Sequence[float]


def _told(readings: Readings, state: State | None, rule: Rule, now: int) -> _Plain | list[Counted]:
    """Or else what those count for that tell something of their own."""
    kwh = None if state is None else _plain(readings, state, rule)
    return _counted(readings, state, rule, now) if state is None or kwh is None else _Plain(state, kwh)


def _counted(readings: Readings, state: State | None, rule: Rule, now: int) -> list[Counted]:
    return count(_telling(readings, state, rule).one_by_one(), state, rule=rule, now=now)


def _figures(readings: Readings, told: _Plain | list[Counted], start: int, end: int) -> dict[int, Quarter]:
    """The quarters of (start, end]."""
    if isinstance(told, _Plain):
        return _sums(readings, told, start, end)
    made = quarters(told, start, end)
    if len(told) < len(readings):
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
    told: _Plain | list[Counted],
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
        if isinstance(told, _Plain):
            ahead = _plain_state(readings, end + LOOK_AHEAD, told.state)
            state = _plain_state(readings, end, told.state)
        else:
            near = _near(readings, told, state, end + LOOK_AHEAD, rule)
            ahead = State.after(near, state)
            state = State.after(near[: bisect_right(near, end, key=_time)], state)
        if state is None or ahead is None:  # its first reading is of a later quarter
            continue
        yield start, state, min(end, ahead.final_until(rule))


def _near(
    readings: Readings, counted: Sequence[Counted], state: State | None, until: int, rule: Rule
) -> Sequence[Counted]:
    """What is decided behind a state by the readings up to `until`, and by the time they tell."""
    first = 0 if state is None else bisect_right(counted, state.previous_at, key=_time)
    near = counted[first : bisect_right(counted, until, key=_time)]
    if all(one.tells_at_once for one in near):
        return near
    first = 0 if state is None else bisect_right(readings.at, state.previous_at)
    near = _counted(readings.part(first, bisect_right(readings.at, until)), state, rule, until)
    return near[: decided(near)]


def _telling(readings: Readings, state: State | None, rule: Rule) -> Readings:
    """Without readings of a register that is as it was before and behind them: these two tell the same.

    The last of each quarter is kept, and the last up to a minute behind it, as states are asked for there. All are kept
    where intervals are among them, or where the register is not in line throughout.
    """
    values = readings.register
    if None in values or len(set(values)) == len(values) or not _is_in_line(readings, state, rule):
        return readings
    cells = [(at - 1) // QUARTER * 2 + ((at - 1) % QUARTER >= LOOK_AHEAD) for at in readings.at]
    last = len(readings) - 1
    telling = [
        number
        for number, value in enumerate(values)
        if number in (0, last)
        or not values[number - 1] == value == values[number + 1]
        or cells[number] != cells[number + 1]
    ]
    return Readings(
        at=[readings.at[number] for number in telling],
        kwh=[None] * len(telling),
        register=[values[number] for number in telling],
        averaged=[readings.averaged[number] for number in telling],
    )


def _is_in_line(readings: Readings, state: State | None, rule: Rule) -> bool:
    """Whether the register never falls, and never rises by more than can have flowed."""
    register = None if state is None else state.register
    for at, value in zip(readings.at, readings.register, strict=True):
        if value is not None and (register is None or value != register.high_water):
            if register is not None and not register.is_in_line(Point(at, value), rule):
                return False
            register = Register(high_water=value, changed_at=at, read_at=at)
    return True


def _plain(readings: Readings, state: State, rule: Rule) -> Sequence[float] | None:
    """The energy of each reading, where each tells that of the short time since the one before, and no doubt of it.

    They are of intervals, or of a register that rises each time. None: there is something to decide.
    """
    if not readings:
        return ()
    gaps = list(map(sub, readings.at, [state.previous_at, *readings.at]))
    if max(gaps) > min(QUARTER, rule.max_gap):
        return None
    register = state.register
    if register is None:
        kwh = cast("Sequence[float]", readings.kwh)
        return kwh if None not in readings.kwh and max(kwh) <= rule.most(0, MINUTE) else None
    if None in readings.register or not register.changed_at == register.read_at == state.previous_at:
        return None
    levels = cast("Sequence[float]", readings.register)
    rises = list(map(sub, levels, [register.high_water, *levels]))
    return rises if min(rises) > 0 and max(rises) <= rule.most(0, min(gaps)) else None


def _sums(readings: Readings, told: _Plain, start: int, end: int) -> dict[int, Quarter]:
    """The quarters of (start, end] of such readings: all the time between is known."""
    made: dict[int, Quarter] = {}
    since, until = max(told.state.previous_at, start), min(readings.at[-1], end) if readings else start
    if since >= until:
        return made
    first = bisect_right(readings.at, start)
    for quarter in range(since // QUARTER * QUARTER, until, QUARTER):
        last = bisect_right(readings.at, min(quarter + QUARTER, end))
        made[quarter] = Quarter(
            kwh=sum(told.kwh[first:last]),
            samples=last - first,
            known=min(until, quarter + QUARTER) - max(since, quarter),
            averaged=sum(readings.averaged[first:last]),
        )
        first = last
    return made


def _plain_state(readings: Readings, until: int, state: State) -> State:
    """Behind those of such readings up to a moment."""
    number = bisect_right(readings.at, until) - 1
    if number < 0:
        return state
    at, level = readings.at[number], readings.register[number]
    return State(
        previous_at=at,
        was_at_rest=readings.kwh[number] == 0,
        register=None if level is None else Register(high_water=level, changed_at=at, read_at=at),
    )


_time: Final = attrgetter("at")
