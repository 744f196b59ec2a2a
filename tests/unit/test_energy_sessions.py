# ruff: noqa: SIM300 - expected == actual
"""Charging sessions of real devices: when they begin and end, and whose the meter's energy is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.model.energy import HOUR, MINUTE, QUARTER, CountedReading, Reading
from ingestd.model.flow import Flow
from ingestd.model.sessions import MeterFeed, Session, ac_of, sessions
from tests.support.streams import streams
from tests.unit.test_energy_model import at, counted, intervals, register

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DAY = 24 * HOUR


def charged(
    vehicle: str, vehicles: Mapping[str, Sequence[Reading]], meter: Sequence[Reading], start: int = 0, end: int = DAY
) -> list[tuple[int, int, float, float]]:
    """(start, end, DC, AC) of each session of a vehicle, while the meter feeds all of them."""
    told = {name: counted(readings) for name, readings in vehicles.items()}
    flows = {name: Flow.of(readings) for name, readings in told.items()}
    feeding = MeterFeed(start=start, end=end, meter=Flow.of(counted(meter)), vehicles=flows)
    return [
        (
            one.start,
            one.end,
            round(flows[vehicle].energy(one.since, one.end), 6),
            round(ac_of(one, vehicle, [feeding]), 6),
        )
        for one in sessions(flows[vehicle])
    ]


def test_a_register_that_was_silent_for_the_charge_tells_one_session() -> None:
    vehicle = [Reading(at(0), register=100.0), Reading(at(6), register=130.0)]
    meter = intervals(0, DAY, MINUTE, 0.1)

    assert [(at(0), at(6), 30.0, 36.0)] == charged("A", {"A": vehicle}, meter)


def test_two_vehicles_at_one_meter_have_each_the_energy_of_its_own_charge() -> None:
    vehicles = {
        "A": intervals(at(14), at(14, 10), MINUTE, 0.2),
        "B": intervals(at(14, 40), at(14, 50), MINUTE, 0.2),
    }
    off = [*intervals(0, at(14), MINUTE, 0.0), *intervals(at(14, 10), at(14, 40), MINUTE, 0.0)]
    meter = [*off, *intervals(at(14), at(14, 10), MINUTE, 0.22), *intervals(at(14, 40), at(14, 50), MINUTE, 0.22)]

    assert [2.2] == [ac for _, _, _, ac in charged("A", vehicles, meter)]
    assert [2.2] == [ac for _, _, _, ac in charged("B", vehicles, meter)]


def test_two_sessions_within_one_reading_of_a_slow_meter_share_it() -> None:
    vehicle = [*intervals(at(9), at(9, 10), MINUTE, 0.2), *intervals(at(9, 40), at(9, 50), MINUTE, 0.2)]
    meter = [Reading(at(hour), kwh=4.4 if hour == 10 else 0.0) for hour in range(24)]

    assert [2.2, 2.2] == [ac for _, _, _, ac in charged("A", {"A": vehicle}, meter)]


def test_a_register_in_whole_kilowatt_hours_tells_one_session() -> None:
    start = at(8)
    vehicle = [
        Reading(time, register=50.0 + max(0, time - start) // (20 * MINUTE)) for time in range(0, at(11, 21), MINUTE)
    ]
    vehicle += [Reading(time, register=60.0) for time in range(at(11, 21), DAY, MINUTE)]
    meter = [*intervals(0, start, MINUTE, 0.0), *intervals(start, at(11, 20), MINUTE, 0.06)]
    meter += intervals(at(11, 20), DAY, MINUTE, 0.0)

    assert [(at(8), at(11, 20), 10.0, 12.0)] == charged("A", {"A": vehicle}, meter)


def test_a_counter_that_creeps_on_does_not_prolong_the_session() -> None:
    charge = register(*(100 + 0.1 * n for n in range(61)), start=at(9))
    creeping = [Reading(at(10) + n * MINUTE, register=106 + n * 0.005 / 60) for n in range(1, 600)]

    ((start, end, dc, _),) = charged("A", {"A": [*charge, *creeping]}, [])

    assert (at(9), at(10), 6.0) == (start, end, dc)


def test_a_reading_of_unknown_interval_is_no_session_by_itself_but_begins_one() -> None:
    alone = [Reading(at(12), kwh=8.5)]
    followed = [Reading(at(12), kwh=0.1), *intervals(at(12), at(12, 30), MINUTE, 0.1)]

    assert [] == sessions(Flow.of(counted(alone)))
    assert [(at(12), at(12, 30))] == [(one.start, one.end) for one in sessions(Flow.of(counted(followed)))]


@pytest.mark.parametrize(("pause", "count"), [(15, 1), (16, 2)])
def test_a_short_pause_does_not_end_a_session(pause: int, count: int) -> None:
    first = intervals(at(9), at(9, 30), MINUTE, 0.1)
    rest = intervals(at(9, 30), at(9, 30 + pause), MINUTE, 0.0)
    again = intervals(at(9, 30 + pause), at(10, 30), MINUTE, 0.1)

    assert count == len(sessions(Flow.of(counted([*first, *rest, *again]))))


# Windows ---------------------------------------------------------------------------------------------------------


@given(vehicle=streams(), other=streams(), meter=streams(), data=st.data())
def test_the_parts_of_a_session_in_windows_that_adjoin_add_up(
    vehicle: list[Reading], other: list[Reading], meter: list[Reading], data: st.DataObject
) -> None:
    """DC and AC alike, wherever the windows are cut and the mapping ends."""
    flows = {"A": Flow.of(counted(vehicle)), "B": Flow.of(counted(other))}
    edges = sorted(data.draw(st.lists(st.integers(0, 20 * HOUR), min_size=1, max_size=4)))
    mapped = data.draw(st.sampled_from([DAY * 30, 3 * HOUR]))
    feedings = [
        MeterFeed(start=-HOUR, end=mapped, meter=Flow.of(counted(meter)), vehicles=flows),
        MeterFeed(start=mapped, end=30 * DAY, meter=Flow.of(counted(meter)), vehicles={"A": flows["A"]}),
    ]
    for one in sessions(Flow.of(counted(vehicle))):
        windows = zip([-HOUR, *edges], [*edges, 30 * DAY], strict=True)
        parts = [part for start, end in windows if (part := one.within(start, end)) is not None]
        dc, ac = flows["A"].energy(one.since, one.end), ac_of(one, "A", feedings)

        assert pytest.approx(dc, abs=1e-9) == sum(flows["A"].energy(part.since, part.end) for part in parts)
        assert pytest.approx(ac, abs=1e-9) == sum(ac_of(part, "A", feedings) for part in parts)


@given(readings=streams(), data=st.data())
def test_what_flowed_is_found_as_if_all_readings_were_looked_at(readings: list[Reading], data: st.DataObject) -> None:
    ones = counted(readings)
    start, end = sorted(data.draw(st.integers(-HOUR, 20 * HOUR)) for _ in range(2))

    def share(one: CountedReading) -> float:
        length = max(one.length, 1)
        return max(0, min(end, one.at) - max(start, one.at - length)) / length

    assert pytest.approx(sum(one.kwh * share(one) for one in ones), abs=1e-9) == Flow.of(ones).within(start, end)
    told = [one for one in ones if one.kwh > 0]
    assert [n for n, one in enumerate(told) if share(one) > 0] == Flow.of(ones).overlapping(start, end)


def test_a_session_has_no_part_in_a_window_beside_it() -> None:
    one = Session(start=at(9), end=at(10), since=at(9))

    assert None is one.within(at(8), at(9))
    assert None is one.within(at(10), at(11))
    assert Session(start=at(9), end=at(9) + QUARTER, since=at(9)) == one.within(0, at(9) + QUARTER)


def test_a_register_that_tells_of_the_time_of_other_readings_is_one_session_with_them() -> None:
    vehicle = [
        Reading(at(1), register=0.0),
        Reading(at(5), kwh=0.0),
        *intervals(at(5), at(6), MINUTE, 0.1),
        *intervals(at(8), at(9), MINUTE, 0.1),
        Reading(at(12), register=60.0),
    ]

    ((start, end, dc, _),) = charged("A", {"A": vehicle}, [])

    # The first minute of the second charge tells of an unknown time.
    assert (at(1), at(12), 72.0) == (start, end, dc)
