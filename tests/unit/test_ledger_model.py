"""The ledger's rows are the same however the readings arrive, and whenever quarters are closed."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.model.energy import HOUR, MINUTE, QUARTER, Reading, State, count, decided
from ingestd.model.ledger import LOOK_AHEAD, Base, Readings, Row, changed, make
from ingestd.model.quarters import Quarter, quarter_of, quarters
from ingestd.model.register import Register, Rule
from tests.support.streams import streams

RULE = Rule(max_kw=400)
FAR = 1 << 50


def columns(readings: list[Reading]) -> Readings:
    return Readings(
        at=[one.at for one in readings],
        kwh=[one.kwh for one in readings],
        register=[one.register for one in readings],
        averaged=[one.averaged for one in readings],
    )


@dataclass
class Ledger:
    """What the store does for one device, in a few lines."""

    arrived: list[Reading] = field(default_factory=list)
    rows: dict[int, Row] = field(default_factory=dict)
    closed_until: int = -FAR
    made_until: int = -FAR
    marks: list[tuple[int, int]] = field(default_factory=list)  # start of the quarter, due

    def arrive(self, reading: Reading) -> None:
        self.arrived = sorted([*self.arrived, reading])
        if reading.at <= self.closed_until:
            self.marks.append((quarter_of(reading.at), -FAR))

    def readings(self, after: int) -> Readings:
        return columns([one for one in self.arrived if after < one.at <= self.closed_until])

    def base(self, last_end: int) -> Base:
        """Where to begin, so that nothing behind the last row up to that end is missed."""
        before = [row for row in self.rows.values() if row.end <= last_end]
        if before:
            final = max(before, key=lambda row: row.start).final_until
            bases = [row for row in before if row.end <= final]
            if bases:
                row = max(bases, key=lambda row: row.start)
                return Base(at=row.end, state=row.state)
        return Base(at=-FAR, state=None)

    def close(self, now: int) -> None:
        """All quarters that ended a minute ago."""
        until = (now - LOOK_AHEAD) // QUARTER * QUARTER
        self.closed_until = now
        if any(self.made_until < one.at <= until for one in self.arrived):
            base = self.base(self.made_until)
            self.store(base, until, now)
        self.made_until = until

    def store(self, base: Base, until: int, now: int) -> None:
        readings = self.readings(base.state.previous_at if base.state else -FAR)
        made = make(readings, base, until=until, rule=RULE, now=now, stored=self.rows)
        self.rows.update((row.start, row) for row in made.rows)
        self.mark_undecided(made.undecided_since)

    def mark_undecided(self, since: int | None) -> None:
        if since is not None:
            self.marks.append((quarter_of(since), since + RULE.max_gap))

    def work_off(self, now: int) -> None:
        """All marks that are due."""
        due = [start for start, when in self.marks if when <= now and start < self.made_until]
        self.marks = [mark for mark in self.marks if mark[0] not in due or mark[1] > now]
        if not due:
            return
        base, marked_until = self.base(min(due) - QUARTER), max(due) + QUARTER
        for reach in (2 * HOUR, 8 * HOUR, FAR):
            until = min(marked_until + reach, self.made_until)
            everything = self.readings(base.state.previous_at if base.state else -FAR)
            near = columns([one for one in everything.one_by_one() if one.at <= until + LOOK_AHEAD])
            if until == self.made_until:
                near = everything
            made = make(near, base, until=until, rule=RULE, now=now, stored=self.rows)
            states = {start: row.state for start, row in self.rows.items()}
            rows = made.rows if until == self.made_until else changed(made.rows, states, marked_until=marked_until)
            if rows is not None:
                self.rows.update((row.start, row) for row in rows)
                self.mark_undecided(made.undecided_since)
                return


def assert_right_in_the_end(ledger: Ledger, readings: list[Reading]) -> None:
    """Long after the last of its readings, given in order of time, its rows are what the rule makes of them."""
    last = readings[-1].at + 100 * HOUR
    ledger.close(last)
    while any(when <= last for _, when in ledger.marks):
        ledger.work_off(last)

    expected = quarters(count(readings, rule=RULE, now=last), -FAR, ledger.made_until)
    assert {start: figures(row) for start, row in expected.items()} == {
        row.start: figures(row.quarter) for row in ledger.rows.values() if figures(row.quarter) != figures(Quarter())
    }


def figures(row: Quarter) -> tuple[float, int, int, int, float, int, int]:
    return (round(row.kwh, 9), row.samples, row.parts, row.known, row.averaged, row.resets, row.excluded)


@given(streams(), st.data())
def test_any_order_of_arrival_and_any_moment_of_closing_gives_the_same_rows(
    readings: list[Reading], data: st.DataObject
) -> None:
    readings = [one._replace(averaged=number) for number, one in enumerate(readings)]
    end = readings[-1].at
    delays = data.draw(
        st.lists(st.sampled_from([0, 0, 0, HOUR, 3 * HOUR, 30 * HOUR]), min_size=len(readings), max_size=len(readings))
    )
    arrivals = [(one.at + delay, 0, one) for one, delay in zip(readings, delays, strict=True)]
    looks = data.draw(st.lists(st.integers(0, end + 31 * HOUR), max_size=8))
    ledger = Ledger()

    for now, kind, reading in sorted(
        [*arrivals, *((now, 1, readings[0]) for now in looks)], key=lambda event: event[:2]
    ):
        if kind == 0:
            ledger.arrive(reading)
        elif now > ledger.closed_until:
            ledger.close(now)
            if data.draw(st.booleans()):
                ledger.work_off(now)
    assert_right_in_the_end(ledger, readings)


def test_a_quarter_closed_behind_rows_that_lack_late_readings_is_right_in_the_end() -> None:
    """A glitch, as the late readings show, is the first reading where they are missing."""
    late = [Reading(number * MINUTE, register=0.0) for number in (1, 2, 3)]
    bad, after = Reading(4 * MINUTE, register=49.0), Reading(63 * MINUTE, register=0.1)
    last = [Reading(188 * MINUTE, register=49.0), *(Reading(n * MINUTE, register=0.0) for n in (189, 190))]
    ledger = Ledger()
    ledger.arrive(bad)
    ledger.close(62 * MINUTE)
    for reading in (after, *late):
        ledger.arrive(reading)
    ledger.close(122 * MINUTE)
    for reading in last:
        ledger.arrive(reading)
    assert_right_in_the_end(ledger, [*late, bad, after, *last])


def test_an_interval_that_a_reset_has_shortened_may_grow_again_as_the_reset_may_turn_out_to_be_a_glitch() -> None:
    values = {40: 15.0, 80: 15.0, 82: 21.0, 112: 0.1, 237: 266.0, 372: 0.1}
    late, *others = (Reading(at * MINUTE, register=values[at]) for at in (237, 40, 80, 82, 112, 372))
    ledger = Ledger()
    for reading in others:
        ledger.arrive(reading)
    ledger.close(411 * MINUTE)
    ledger.arrive(late)
    assert_right_in_the_end(ledger, sorted([late, *others]))


@given(
    st.lists(st.tuples(st.sampled_from([MINUTE, 5 * MINUTE, QUARTER]), st.sampled_from([0.0, 0.1, 2.0])), min_size=1),
    st.integers(0, QUARTER),
)
def test_where_nothing_is_to_be_decided_sums_say_the_same_as_the_rule(
    steps: list[tuple[int, float]], offset: int
) -> None:
    at, readings = offset, [Reading(offset, kwh=0.0)]
    for pause, kwh in steps:
        at += pause
        readings.append(Reading(at, kwh=kwh))
    until = at // QUARTER * QUARTER + QUARTER
    first = make(columns(readings[:1]), Base(at=-FAR, state=None), until=until, rule=RULE, now=at)

    made = make(columns(readings[1:]), Base(at=0, state=first.rows[0].state), until=until, rule=RULE, now=at)

    expected = quarters(count(readings, rule=RULE, now=at), 0, until)
    for row in made.rows:
        whole = expected[row.start]
        assert pytest.approx((whole.kwh, whole.known)) == (row.quarter.kwh, row.quarter.known)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([MINUTE, MINUTE, 5 * MINUTE, 20 * MINUTE, 2 * HOUR]),
            st.sampled_from([0.0, 0.0, 0.0, 0.1, 3.0, 11.0, 300.0, -5.0]),
        ),
        min_size=1,
        max_size=80,
    ),
    st.integers(0, QUARTER),
)
def test_where_a_register_is_read_again_and_again_rows_are_those_of_all_readings(
    steps: list[tuple[int, float]], offset: int
) -> None:
    """Figures and states, although readings that only repeat others are left out."""
    at, value, readings = offset, 500.0, [Reading(offset, register=500.0, averaged=1.0)]
    for number, (pause, rise) in enumerate(steps, 2):
        at, value = at + pause, value + rise
        readings.append(Reading(at, register=value, averaged=float(number)))
    until = at // QUARTER * QUARTER + QUARTER

    made = make(columns(readings), Base(at=0, state=None), until=until, rule=RULE, now=until)

    expected = quarters(count(readings, rule=RULE, now=until), 0, until)
    assert {start: figures(row) for start, row in expected.items()} == {
        row.start: figures(row.quarter) for row in made.rows
    }
    for row in made.rows:
        near = [one for one in readings if one.at <= row.end + LOOK_AHEAD]
        counted = count(near, rule=RULE, now=row.end + LOOK_AHEAD)
        known = counted[: decided(counted)]
        ahead = State.after(known, None)
        assert State.after([one for one in known if one.at <= row.end], None) == row.state
        assert ahead is not None
        assert min(row.end, ahead.final_until(RULE)) == row.final_until


@given(
    st.lists(
        st.tuples(
            st.sampled_from([1000, MINUTE, 5 * MINUTE, 14 * MINUTE, QUARTER, 61 * MINUTE]),
            st.sampled_from([0.0, 0.1, 0.1, 3.0]),
        ),
        min_size=1,
        max_size=60,
    ),
    st.sampled_from([0, 5 * MINUTE, 3 * HOUR]),
    st.sampled_from([HOUR, 10 * MINUTE]),
)
def test_behind_a_register_that_rises_or_rests_rows_are_those_of_each_reading(
    steps: list[tuple[int, float]], rested: int, max_gap: int
) -> None:
    rule = Rule(max_kw=400, max_gap=max_gap)
    state = State(
        previous_at=0,
        was_at_rest=rested > 0,
        register=Register(high_water=500.0, changed_at=-rested, read_at=0),
    )
    at, value, readings = 0, 500.0, []
    for number, (pause, rise) in enumerate(steps):
        at, value = at + pause, value + rise
        readings.append(Reading(at, register=value, averaged=float(number)))
    until = at // QUARTER * QUARTER + QUARTER

    made = make(columns(readings), Base(at=0, state=state), until=until, rule=rule, now=until)

    expected = quarters(count(readings, state, rule=rule, now=until), 0, until)
    assert {start: figures(row) for start, row in expected.items()} == {
        row.start: figures(row.quarter) for row in made.rows
    }
    for row in made.rows:
        near = [one for one in readings if one.at <= row.end + LOOK_AHEAD]
        counted = count(near, state, rule=rule, now=row.end + LOOK_AHEAD)
        known = counted[: decided(counted)]
        ahead = State.after(known, state)
        assert State.after([one for one in known if one.at <= row.end], state) == row.state
        assert ahead is not None
        assert min(row.end, ahead.final_until(rule)) == row.final_until
