# ruff: noqa: SIM300 - expected == actual
"""Charging sessions of real devices: when they begin and end, and whose the meter's energy is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ingestd.model.energy import HOUR, MINUTE, Reading
from ingestd.model.sessions import Feeding, ac_of, energy, sessions
from tests.unit.test_energy_model import at, counted, intervals, register

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DAY = 24 * HOUR


def charged(
    vehicle: str, vehicles: Mapping[str, Sequence[Reading]], meter: Sequence[Reading], start: int = 0, end: int = DAY
) -> list[tuple[int, int, float, float]]:
    """(start, end, DC, AC) of each session of a vehicle, while the meter feeds all of them."""
    told = {name: counted(readings) for name, readings in vehicles.items()}
    feeding = Feeding(start=start, end=end, meter=counted(meter), vehicles=told)
    return [
        (
            one.start,
            one.end,
            round(energy(told[vehicle], one.since, one.end), 6),
            round(ac_of(one, vehicle, [feeding]), 6),
        )
        for one in sessions(told[vehicle])
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

    assert [] == sessions(counted(alone))
    assert [(at(12), at(12, 30))] == [(one.start, one.end) for one in sessions(counted(followed))]


@pytest.mark.parametrize(("pause", "count"), [(15, 1), (16, 2)])
def test_a_short_pause_does_not_end_a_session(pause: int, count: int) -> None:
    first = intervals(at(9), at(9, 30), MINUTE, 0.1)
    rest = intervals(at(9, 30), at(9, 30 + pause), MINUTE, 0.0)
    again = intervals(at(9, 30 + pause), at(10, 30), MINUTE, 0.1)

    assert count == len(sessions(counted([*first, *rest, *again])))
