# ruff: noqa: SIM300 - expected == actual
"""What readings count for: cases of the field by hand, and the rule beside an oracle written from its words alone."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.model.allocation import allocate
from ingestd.model.efficiency import EfficiencyPolicy, Judgement, SegmentEnergy, compare
from ingestd.model.energy import HOUR, MINUTE, QUARTER, CountedReading, Reading, State, count, decided
from ingestd.model.quarters import merged, quarters
from ingestd.model.register import Rule
from tests.support import energy_oracle as oracle
from tests.support.streams import streams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingestd.model.efficiency import Compared
    from ingestd.model.quarters import Quarter

SECOND: Final = MINUTE // 60
DAY: Final = 24 * HOUR
RULE: Final = Rule(max_kw=400.0)
POLICY: Final = EfficiencyPolicy(threshold=0.85, min_kwh=0.5, min_share=0.5, session_min_kw=0.3)
LATER: Final = 10 * DAY
"""When nothing waits any more for what follows."""


def at(hour: float, minute: float = 0, second: float = 0, *, day: int = 0) -> int:
    return round(day * DAY + hour * HOUR + minute * MINUTE + second * SECOND)


def intervals(start: int, end: int, every: int, kwh: float) -> list[Reading]:
    """Interval readings after start, up to and with end."""
    return [Reading(time, kwh=kwh) for time in range(start + every, end + 1, every)]


def register(*values: float, start: int = at(12), every: int = MINUTE) -> list[Reading]:
    return [Reading(start + number * every, register=value) for number, value in enumerate(values)]


def counted(readings: Sequence[Reading], *, max_kw: float = RULE.max_kw, now: int = LATER) -> list[CountedReading]:
    return count(sorted(readings), rule=Rule(max_kw=max_kw), now=now)


def sums(readings: Sequence[Reading], *, max_kw: float = RULE.max_kw) -> tuple[float, int, int]:
    """kWh, excluded readings and resets of all."""
    ones = counted(readings, max_kw=max_kw)
    return (
        round(sum(one.kwh for one in ones), 9),
        sum(one.is_excluded for one in ones),
        sum(one.is_reset for one in ones),
    )


def kwh(readings: Sequence[Reading], start: int, end: int) -> float:
    return round(sum(row.kwh for row in quarters(counted(readings), start, end).values()), 9)


def coverage(readings: Sequence[Reading], start: int, end: int) -> float:
    return sum(row.known for row in quarters(counted(readings), start, end).values()) / (end - start)


def performance(
    vehicle: Sequence[Reading],
    meter: Sequence[Reading],
    start: int,
    end: int,
    *,
    now: int = LATER,
    mapped: tuple[int, int] = (0, LATER),
) -> tuple[Compared, Judgement]:
    """Of a vehicle that one meter feeds alone."""
    dc = counted(vehicle, now=now)
    since, until = max(start, mapped[0]), min(end, mapped[1])
    segment = SegmentEnergy(
        start=since,
        end=until,
        meter=quarters(counted(meter, now=now), since, until),
        vehicle=quarters(dc, since, until),
    )
    all_dc = sum(row.kwh for row in quarters(dc, start, end).values())
    compared = compare([segment], all_dc=all_dc, policy=POLICY)
    assert compared is not None
    return compared, POLICY.judge(compared)


# Edges of time ---------------------------------------------------------------------------------------------------


def test_a_reading_stamped_midnight_belongs_to_the_day_that_ended() -> None:
    readings = [Reading(at(12), kwh=3.0), Reading(at(24), kwh=5.0)]

    assert (8.0, 0.0) == (kwh(readings, 0, DAY), kwh(readings, DAY, 2 * DAY))


def test_a_reading_at_the_edge_of_a_mapping_belongs_to_what_ended() -> None:
    meter = intervals(at(7), at(10), QUARTER, 2.75)

    assert (22.0, 0.0) == (kwh(meter, at(8), at(10)), kwh(meter, at(10), at(24)))


def test_windows_that_adjoin_have_their_own_energy() -> None:
    ac, dc = intervals(at(8), at(10), QUARTER, 2.5), intervals(at(8), at(10), QUARTER, 2.0)

    for start in (at(8), at(9)):
        assert (10.0, 8.0) == (kwh(ac, start, start + HOUR), kwh(dc, start, start + HOUR))


# Registers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("poll", "every", "rise", "steps"), [(30 * SECOND, HOUR, 11, 3), (10 * SECOND, QUARTER, 2.75, 12)]
)
def test_a_slow_register_that_is_polled_often_tells_all_its_energy(
    poll: int, every: int, rise: float, steps: int
) -> None:
    start = at(8)
    readings = [
        Reading(time, register=500 + rise * ((time - start) // every))
        for time in range(start, start + steps * every + 1, poll)
    ]

    assert (33.0, 0, 0) == sums(readings)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([12.0, 12.1, 0, 0, 12.2, 12.3], (0.3, 2, 0), id="glitch down"),
        pytest.param([100, 100.1, 110.1, 110.2, 110.3, 110.4], (0.4, 1, 0), id="level"),
        pytest.param([540, 541, *(536 + 0.05 * n for n in range(60))], (3.95, 1, 0), id="step down"),
        pytest.param([300, 290, 290.1, 290.2, 290.3], (0.3, 1, 0), id="step down at once"),
        pytest.param([0, 5213, 5213.1, 5213.2], (0.2, 1, 0), id="first value is 0"),
        pytest.param([100, 100.1, 5000, 100.2, 100.3], (0.3, 1, 0), id="spike"),
        pytest.param([100, 100.1, 100.05, 100.2], (0.2, 1, 0), id="small dip"),
    ],
)
def test_what_is_out_of_line_counts_nothing_and_shows(values: list[float], expected: tuple[float, int, int]) -> None:
    assert expected == sums(register(*values))


def test_a_new_meter_after_two_hours_counts_what_can_have_flowed() -> None:
    readings = [Reading(at(10), register=11990.0), *register(350, 350.1, 350.2, 350.3)]

    assert (0.3, 0, 1) == sums(readings, max_kw=22.0)


def test_a_counter_of_each_charge_counts_both_charges() -> None:
    first = register(*(round(0.1 + 0.2 * n, 1) for n in range(28)))
    second = register(0.1, 0.2, start=at(12, day=1))

    assert (5.4, 0, 0) == sums(first)
    assert (5.6, 0, 1) == sums([*first, *second])


def test_a_glitch_of_a_register_that_is_read_every_two_hours_counts_no_register_whole() -> None:
    assert (0.3, 1, 0) == sums(register(12, 12.1, 0, 12.3, every=2 * HOUR))


def test_what_is_out_of_line_waits_for_what_follows() -> None:
    readings = register(12.0, 12.1, 0.0)

    waiting = count(readings, rule=RULE)

    assert [True, True, False] == [one.is_final for one in waiting]
    assert (0, False) == (sum(one.is_excluded for one in waiting), waiting[-1].is_reset)


def test_a_half_hourly_register_at_rest_does_not_reach_back_into_its_rest() -> None:
    readings = register(*[100.0] * 17, 105.5, 111.0, start=at(0), every=30 * MINUTE)

    rows = quarters(counted(readings), 0, DAY)

    assert {at(8): 2.75, at(8, 15): 2.75, at(8, 30): 2.75, at(8, 45): 2.75} == {
        start: row.kwh for start, row in rows.items() if row.kwh
    }


def test_a_charge_begins_when_it_began_though_the_register_rested_for_a_day() -> None:
    readings = register(*[100.0] * (24 * 60 + 1), *(100 + 2.5 * n for n in range(1, 10)), start=at(9, day=-1))

    first = next(one for one in counted(readings) if one.kwh)

    assert (at(9), at(9, 1)) == (first.since, first.at)


# Plausibility ----------------------------------------------------------------------------------------------------


def test_an_interval_with_more_than_can_flow_counts_nothing_and_shows() -> None:
    assert (0.0, 2, 0) == sums([Reading(at(12), kwh=8590.0), Reading(at(12, 30), kwh=8590.0)])
    assert (165.0, 9, 0) == sums(intervals(at(12), at(12, 10), MINUTE, 165.0))


# Comparing -------------------------------------------------------------------------------------------------------


def test_intervals_beside_a_register() -> None:
    ac = [Reading(at(12, minute), kwh=0.1) for minute in range(10)]
    dc = register(*(round(0.1 * n, 1) for n in range(11)), start=at(11, 59))

    _, judgement = performance(dc, ac, at(0), at(24))

    assert ("ok", 1.0) == (judgement.status, judgement.ratio)


def test_sums_of_doubles_do_not_put_a_vehicle_below_its_threshold() -> None:
    span = (at(8), at(12))

    _, judgement = performance(intervals(*span, MINUTE, 0.17), intervals(*span, MINUTE, 0.2), *span)

    assert ("ok", 0.85) == (judgement.status, judgement.ratio)


def test_a_slow_meter_and_a_charge_under_way_are_compared_by_whole_hours() -> None:
    meter = [Reading(at(hour), kwh=11.0) for hour in (7, 8, 9, 10)]
    vehicle = intervals(at(8), at(10, 50), MINUTE, 0.165)

    compared, judgement = performance(vehicle, meter, at(8), at(10, 50), now=at(10, 50))

    assert pytest.approx((22.0, 28.05)) == (compared.all_ac, compared.all_dc)
    assert pytest.approx((22.0, 19.8)) == (compared.ac, compared.dc)
    assert ("ok", 0.9) == (judgement.status, judgement.ratio)


def test_a_parked_vehicle_is_known() -> None:
    parked = [Reading(time, kwh=0.0) for time in range(0, at(22) + 1, 30 * MINUTE)]
    vehicle = [*parked, *intervals(at(22), at(24), 10 * SECOND, 0.02)]
    meter = [*intervals(0, at(22), MINUTE, 0.0), *intervals(at(22), at(24), MINUTE, 0.133)]

    assert coverage(vehicle, 0, DAY) > 0.95
    assert "ok" == performance(vehicle, meter, 0, DAY)[1].status


def test_a_vehicle_that_reports_only_while_it_charges_has_its_ratio() -> None:
    vehicle = intervals(at(9, 40), at(10, 25), MINUTE, 0.09)
    meter = [*intervals(0, at(9, 40), MINUTE, 0.0), *intervals(at(9, 40), at(10, 25), MINUTE, 0.1)]
    meter += intervals(at(10, 25), at(24), MINUTE, 0.0)

    assert ("ok", 0.9) == (performance(vehicle, meter, 0, DAY)[1].status, performance(vehicle, meter, 0, DAY)[1].ratio)


@pytest.mark.parametrize("silent", [40, 65])
@pytest.mark.parametrize("who", ["vehicle", "meter"])
@pytest.mark.parametrize("begin", [at(10), at(10, 5), at(10, 7)])
def test_an_hour_without_reception_does_no_harm(silent: int, who: str, begin: int) -> None:
    both = {
        "vehicle": intervals(at(8), at(12), MINUTE, 0.09),
        "meter": intervals(at(8), at(12), MINUTE, 0.1),
    }
    both[who] = [one for one in both[who] if not begin < one.at <= begin + silent * MINUTE]

    _, judgement = performance(both["vehicle"], both["meter"], 0, DAY)

    assert "ok" == judgement.status
    assert pytest.approx(0.9) == judgement.ratio


def test_an_hour_that_the_window_cuts_is_not_compared_with_a_slow_meter() -> None:
    meter = [Reading(at(9), kwh=0.0), Reading(at(10), kwh=4.4), Reading(at(11), kwh=0.0)]
    vehicle = intervals(at(9, 20), at(10), MINUTE, 0.1)

    compared, judgement = performance(vehicle, meter, at(9, 20), at(12))

    assert (0.0, "insufficient-data") == (compared.ac, judgement.status)


def test_what_is_silent_is_not_covered() -> None:
    readings = [*intervals(0, at(2), 5 * SECOND, 0.01), *intervals(at(22), at(24), MINUTE, 0.1)]

    assert pytest.approx(4 / 24, abs=0.001) == coverage(readings, 0, DAY)
    meter = [*intervals(0, at(2), 5 * SECOND, 0.011), *intervals(at(22), at(24), MINUTE, 0.11)]
    assert "ok" == performance(readings, meter, 0, DAY)[1].status


def test_first_readings_that_were_sent_together_are_compared() -> None:
    _, judgement = performance([Reading(at(12), kwh=8.5)], [Reading(at(12), kwh=10.5)], 0, DAY)

    assert pytest.approx(0.8095, abs=0.0001) == judgement.ratio


# Shared meters ---------------------------------------------------------------------------------------------------


def test_a_shared_meter_goes_to_whom_it_fed_in_each_quarter_of_an_hour() -> None:
    meter = quarters(counted(intervals(at(14), at(15), MINUTE, 0.22)), at(14), at(15))
    first = quarters(counted(intervals(at(14), at(14, 10), MINUTE, 0.2)), at(14), at(15))
    second = quarters(counted(intervals(at(14, 40), at(14, 50), MINUTE, 0.2)), at(14), at(15))

    allocated = allocate(meter, {"A": first, "B": second})

    def ac(vehicle: str) -> dict[int, float]:
        return {start: round(row.kwh, 9) for start, row in allocated[vehicle].items()}

    assert {at(14): 3.3, at(14, 15): 1.65, at(14, 30): 0.0, at(14, 45): 0.0} == ac("A")
    assert {at(14): 0.0, at(14, 15): 1.65, at(14, 30): 3.3, at(14, 45): 3.3} == ac("B")


def test_a_slow_shared_meter_is_divided_by_the_hour() -> None:
    meter = quarters(
        counted([Reading(at(9), kwh=0.0), Reading(at(10), kwh=6.0), Reading(at(11), kwh=0.0)]), at(9), at(10)
    )
    first = quarters(counted(intervals(at(9), at(9, 10), MINUTE, 0.2)), at(9), at(10))
    second = quarters(counted(intervals(at(9, 40), at(10), MINUTE, 0.2)), at(9), at(10))

    allocated = allocate(meter, {"A": first, "B": second})

    assert (2.0, 4.0) == tuple(round(sum(row.kwh for row in rows.values()), 9) for rows in allocated.values())


# The rule beside the oracle --------------------------------------------------------------------------------------

waits = st.sampled_from([0, 0, 30 * MINUTE, 2 * HOUR, 30 * HOUR])


@given(streams(), waits)
def test_readings_count_as_the_oracle_says(readings: list[Reading], wait: int) -> None:
    now = readings[-1].at + wait
    told = [oracle.Reading(reading.at, reading.kwh, reading.register) for reading in readings]

    ones = count(readings, rule=RULE, now=now)

    expected = oracle.count(told, max_kw=RULE.max_kw, max_gap=HOUR, now=now)
    assert [(one.at, one.kwh, one.since, one.excluded, one.resets) for one in expected] == [
        (one.at, one.kwh, one.since if one.kwh else None, one.is_excluded, one.is_reset) for one in ones
    ]
    known = oracle.known(told, max_kw=RULE.max_kw, max_gap=HOUR, now=now)
    assert known == merged([one.known for one in ones if one.known])
    rows = quarters(ones, 0, now + HOUR)
    by_quarter = oracle.quarters(told, max_kw=RULE.max_kw, max_gap=HOUR, now=now)
    assert pytest.approx({start: row[0] for start, row in by_quarter.items()}) == {
        start: row.kwh for start, row in rows.items() if row.kwh
    }


@given(streams(), st.data())
def test_going_on_from_a_state_is_as_good_as_counting_all(readings: list[Reading], data: st.DataObject) -> None:
    now = readings[-1].at + 3 * HOUR
    until = data.draw(st.integers(1, len(readings)))
    then = data.draw(st.integers(readings[until - 1].at, readings[until].at if until < len(readings) else now))
    everything = count(readings, rule=RULE, now=now)

    early = count(readings[:until], rule=RULE, now=then)
    certain = early[: decided(early)]
    rest = count(readings[len(certain) :], State.after(certain, None), rule=RULE, now=now)

    assert everything == [*certain, *rest]


@given(streams(), st.lists(st.integers(0, 40 * HOUR), max_size=5))
def test_windows_that_adjoin_add_up(readings: list[Reading], edges: list[int]) -> None:
    ones = count(readings, rule=RULE, now=LATER)
    end = readings[-1].at
    cuts = sorted({0, end, *(edge for edge in edges if edge < end)})

    def total(start: int, until: int) -> tuple[float, int, int, int, int]:
        rows: list[Quarter] = list(quarters(ones, start, until).values())
        return (
            sum(row.kwh for row in rows),
            sum(row.known for row in rows),
            sum(row.samples for row in rows),
            sum(row.resets for row in rows),
            sum(row.excluded for row in rows),
        )

    pieces = [total(*piece) for piece in pairwise(cuts)]
    assert pytest.approx(total(0, end)) == tuple(map(sum, zip(*pieces, strict=True)))
