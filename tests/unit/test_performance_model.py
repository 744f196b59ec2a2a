# ruff: noqa: SIM300 - expected == actual
"""A vehicle's performance out of what devices did: whose energy it is, what is known, and where nothing was heard."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.model.allocation import allocate
from ingestd.model.device_energy import CountedRange, DeviceEnergy
from ingestd.model.efficiency import EfficiencyPolicy
from ingestd.model.energy import HOUR, MINUTE, QUARTER, Reading, count
from ingestd.model.gaps import Gaps, gaps, silent_ranges
from ingestd.model.performance import Feed, OtherVehicle, Performance, performance
from ingestd.model.quarters import Quarter, quarters
from ingestd.model.register import Rule
from tests.support.streams import streams

if TYPE_CHECKING:
    from collections.abc import Sequence

RULE: Final = Rule(max_kw=400.0)
POLICY: Final = EfficiencyPolicy(threshold=0.85, min_kwh=0.5, min_share=0.5, session_min_kw=0.3)
END: Final = 100 * HOUR
LATER: Final = 200 * HOUR


def did(readings: Sequence[Reading], *, rows_until: int = 0) -> DeviceEnergy:
    """Of all time, from rows up to some quarter, and behind it from readings."""
    counted = count(sorted(readings), rule=RULE, now=LATER)
    until = rows_until // QUARTER * QUARTER
    counted_ranges = [CountedRange(start=until, end=END, counted=counted)]
    return DeviceEnergy(start=0, end=END, rows=quarters(counted, 0, until), counted_ranges=counted_ranges)


def by_the_minute(start: int, end: int, kwh: float) -> list[Reading]:
    return [Reading(time, kwh=kwh) for time in range(start + MINUTE, end + 1, MINUTE)]


def asked(
    vehicle: DeviceEnergy, feeds: Sequence[Feed], start: int = 0, end: int = END, *, now: int = LATER
) -> Performance:
    return performance(start, end, now, vehicle=vehicle, feeds=feeds, policy=POLICY)


# Whose energy it is ----------------------------------------------------------------------------------------------


def two_at_a_meter(
    meter: Sequence[Reading], a: Sequence[Reading], b: Sequence[Reading], *, joins: int = 0, leaves: int = END
) -> tuple[tuple[DeviceEnergy, list[Feed]], tuple[DeviceEnergy, list[Feed]]]:
    """Of the first, which is mapped all the time, and of the second: its energy and what feeds it."""
    energy, first, second = did(meter), did(a), did(b)
    other = OtherVehicle(vehicle="b", start=joins, end=leaves, energy=second)
    of_a = Feed(meter="m", start=0, end=END, energy=energy, others=[other])
    also = OtherVehicle(vehicle="a", start=joins, end=leaves, energy=first)
    of_b = Feed(meter="m", start=joins, end=leaves, energy=energy, others=[also])
    return (first, [of_a]), (second, [of_b])


def ac(found: Performance) -> float:
    return round(sum(part.whole.kwh for part in found.meters), 9)


def test_a_meter_is_divided_by_the_dc_of_each_quarter_of_an_hour() -> None:
    meter = [Reading(10 * HOUR + 5 * MINUTE, kwh=4.0), Reading(10 * HOUR + 20 * MINUTE, kwh=2.0)]
    a, b = two_at_a_meter(meter, [Reading(10 * HOUR + 4 * MINUTE, kwh=3.0)], [Reading(10 * HOUR + 9 * MINUTE, kwh=1.0)])

    # 4 in the ratio 3 to 1, and 2 in equal parts, as nobody took anything.
    assert (4.0, 2.0) == (ac(asked(*a)), ac(asked(*b)))
    assert [True] == [part.is_shared for part in asked(*a).meters]


def test_a_window_that_cuts_an_hour_is_told_by_the_dc_of_the_whole_hour() -> None:
    """Where the meter is slow; else by that of the whole quarter."""
    hourly = [Reading(hour * HOUR, kwh=8.0) for hour in (9, 10, 11)]
    a, b = two_at_a_meter(hourly, by_the_minute(10 * HOUR, 10 * HOUR + 6 * MINUTE, 0.5), [Reading(11 * HOUR, kwh=1.0)])

    window = (10 * HOUR + 30 * MINUTE, 10 * HOUR + 45 * MINUTE)

    assert (1.5, 0.5) == (ac(asked(*a, *window)), ac(asked(*b, *window)))


def test_a_meter_is_shared_only_while_both_are_mapped() -> None:
    meter = [Reading(10 * HOUR + minute * MINUTE, kwh=2.0) for minute in (15, 30, 45)]
    dc_a = [Reading(10 * HOUR + 25 * MINUTE, kwh=1.0), Reading(10 * HOUR + 40 * MINUTE, kwh=1.0)]
    dc_b = [Reading(10 * HOUR + 29 * MINUTE, kwh=3.0), Reading(10 * HOUR + 44 * MINUTE, kwh=1.0)]
    a, b = two_at_a_meter(meter, dc_a, dc_b, joins=10 * HOUR + 20 * MINUTE, leaves=10 * HOUR + 30 * MINUTE)

    assert (2.0 + 0.5 + 2.0, 1.5) == (ac(asked(*a)), ac(asked(*b)))
    assert [False] == [part.is_shared for part in asked(*a, 0, 10 * HOUR).meters]


def test_what_is_allocated_of_a_part_is_by_the_whole() -> None:
    whole = {0: Quarter(kwh=1.0, parts=1), QUARTER: Quarter(kwh=1.0, parts=1)}
    vehicles = {"a": {0: Quarter(kwh=3.0, samples=1)}, "b": {QUARTER: Quarter(kwh=1.0, samples=1)}}

    found = allocate(whole, vehicles, part={QUARTER: Quarter(kwh=0.5, parts=1)})

    assert {"a": {QUARTER: 0.375}, "b": {QUARTER: 0.125}} == {
        vehicle: {start: row.kwh for start, row in rows.items()} for vehicle, rows in found.items()
    }


moments = st.integers(0, 30 * HOUR // MINUTE).map(lambda minute: minute * MINUTE)


@given(streams(), streams(), streams(), st.lists(moments, min_size=2, max_size=5), st.tuples(moments, moments))
def test_windows_that_adjoin_add_up_and_the_vehicles_of_a_meter_have_all_of_it(
    meter: list[Reading], a: list[Reading], b: list[Reading], cuts: list[int], span: tuple[int, int]
) -> None:
    joins, leaves = sorted(span)
    if joins == leaves:
        leaves += MINUTE
    of_a, of_b = two_at_a_meter(meter, a, b, joins=joins, leaves=leaves)
    edges = sorted({0, END, *cuts})

    for vehicle, feeds in (of_a, of_b):
        whole = asked(vehicle, feeds)
        parts = [asked(vehicle, feeds, *window) for window in pairwise(edges)]
        assert pytest.approx(ac(whole)) == sum(map(ac, parts))
        assert pytest.approx(whole.vehicle.kwh) == sum(part.vehicle.kwh for part in parts)
        assert whole.vehicle.samples == sum(part.vehicle.samples for part in parts)
        assert whole.vehicle.known == sum(part.vehicle.known for part in parts)
    gave = of_a[1][0].energy.total(0, END).kwh
    assert pytest.approx(gave) == ac(asked(*of_a)) + ac(asked(*of_b))


@given(streams(), streams(), st.integers(0, 40), st.tuples(moments, moments))
def test_rows_and_readings_say_the_same(
    meter: list[Reading], vehicle: list[Reading], rows: int, window: tuple[int, int]
) -> None:
    start, end = sorted(window)
    # An edge inside a quarter needs the readings of it.
    until = min(rows * HOUR, start // QUARTER * QUARTER if start % QUARTER else LATER, end // QUARTER * QUARTER)

    def told(rows_until: int) -> Performance:
        feed = Feed(meter="m", start=0, end=END, energy=did(meter, rows_until=rows_until))
        return asked(did(vehicle, rows_until=rows_until), [feed], start, end + MINUTE)

    assert figures(told(0)) == figures(told(until))


def figures(found: Performance) -> tuple[object, ...]:
    def rounded(row: Quarter) -> tuple[object, ...]:
        return (round(row.kwh, 9), row.samples, row.known, row.resets, row.excluded)

    return (
        rounded(found.vehicle),
        [rounded(part.whole) for part in found.meters],
        found.compared and (round(found.compared.ac, 9), round(found.compared.dc, 9)),
        found.judgement.status,
        round(found.coverage, 9),
    )


# What is known ---------------------------------------------------------------------------------------------------


def fed(readings: Sequence[Reading], *spans: tuple[int, int]) -> list[Feed]:
    return [Feed(meter=f"{start}", start=start, end=end, energy=did(readings)) for start, end in spans]


def test_coverage_is_the_lesser_of_the_vehicle_and_of_its_meters_while_mapped() -> None:
    vehicle, meter = by_the_minute(0, 4 * HOUR, 0.1), by_the_minute(0, 2 * HOUR, 0.1)
    all_of_it, minute = (0, 4 * HOUR), MINUTE / HOUR

    def coverage(*spans: tuple[int, int], end: int = 4 * HOUR, now: int = LATER) -> float:
        return asked(did(vehicle), fed(meter, *spans), 0, end, now=now).coverage

    # Of its first reading nobody knows when its interval began.
    assert pytest.approx((4 - minute) / 4) == coverage()
    assert pytest.approx((2 - minute) / 4) == coverage(all_of_it)
    assert pytest.approx((1 - minute) / 2) == coverage((0, HOUR), (3 * HOUR, 4 * HOUR))
    assert pytest.approx((4 - minute) / 8) == coverage(end=8 * HOUR)
    assert pytest.approx((4 - minute) / 5) == coverage(end=8 * HOUR, now=5 * HOUR)
    # What is mapped later needs no meter yet.
    assert pytest.approx((4 - minute) / 5) == coverage((6 * HOUR, 7 * HOUR), end=8 * HOUR, now=5 * HOUR)
    assert 0.0 == asked(did(vehicle), [], 6 * HOUR, 7 * HOUR, now=5 * HOUR).coverage


def test_a_vehicle_without_a_meter_is_unmapped() -> None:
    found = asked(did(by_the_minute(0, HOUR, 0.1)), fed([], (5 * HOUR, 6 * HOUR)), 0, 2 * HOUR)

    assert ("unmapped", None, [], 60) == (found.judgement.status, found.compared, found.meters, found.vehicle.samples)


# Gaps ------------------------------------------------------------------------------------------------------------


@given(
    streams(),
    st.tuples(moments, moments),
    st.integers(0, 40),
    st.sampled_from([30 * MINUTE, 31 * MINUTE, 44 * MINUTE, HOUR, 2 * HOUR]),
)
def test_gaps_are_what_lies_between_the_readings_of_a_window(
    readings: list[Reading], window: tuple[int, int], rows: int, longest: int
) -> None:
    start, end = sorted(window)
    heard = sorted(reading.at for reading in readings)

    ranges = silent_ranges(did(readings, rows_until=rows * HOUR), start, end, longer_than=longest)
    around = [
        (max((at for at in heard if at <= since), default=None), min((at for at in heard if at > until), default=None))
        for since, until in ranges
    ]

    edges = [start, *(at for at in heard if start < at < end), end]
    right = [later - earlier for earlier, later in pairwise(edges) if later - earlier > longest]
    assert Gaps(count=len(right), longest=max(right, default=0)) == gaps(around, start, end, longer_than=longest)


# Holes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("silent_minutes", [30, 40, 65])
@pytest.mark.parametrize("is_the_vehicle", [True, False])
def test_a_silence_in_a_charge_does_no_harm_to_the_ratio_whenever_it_begins(
    *, is_the_vehicle: bool, silent_minutes: int
) -> None:
    for begin in range(10 * HOUR, 10 * HOUR + QUARTER, MINUTE):
        end = begin + silent_minutes * MINUTE
        both = [by_the_minute(8 * HOUR, 12 * HOUR, kwh) for kwh in (0.09, 0.1)]
        silent = 0 if is_the_vehicle else 1
        both[silent] = [one for one in both[silent] if not begin < one.at <= end]
        vehicle, meter = map(did, both)

        found = asked(vehicle, [Feed(meter="m", start=0, end=END, energy=meter)])

        assert (0.9, "ok") == (found.judgement.ratio, found.judgement.status)
