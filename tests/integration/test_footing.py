# ruff: noqa: SIM300 - expected == actual
"""How far a vehicle's figures can be relied on: coverage, gaps and status, from history and from rollups alike."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from ingestd.analytics import TimeRange
from ingestd.store.reads import Analytics
from ingestd.store.rollups import LAG
from tests.support.energy import Sample
from tests.support.house import JUDGEMENT, House, opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from ingestd.analytics import Performance

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
START = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - 2 * DAY
"""In the past, as what lies in the future cannot be covered; at midnight, so that there is little to be rolled up."""
END = START + HOUR
KWH = 0.125


@pytest.fixture
async def house(shared_database_url: str) -> AsyncIterator[House]:
    async with opened(shared_database_url) as house:
        house.clear()
        yield house


def minutes(number: float) -> datetime:
    return START + timedelta(minutes=number)


def at_minutes(device: str, numbers: Iterable[float], *, kwh: float = KWH) -> list[Sample]:
    return [Sample(device=device, at=minutes(number), interval=kwh) for number in numbers]


def footing(found: Performance) -> tuple[float, int, float]:
    return found.coverage, found.gaps, found.longest_gap


def cadences_in_rollups(house: House) -> list[tuple[float | None]]:
    """Seconds, of each vehicle's days."""
    with psycopg.connect(house.url) as connection:
        return connection.execute("SELECT cadence FROM vehicle_day").fetchall()


ALL = range(60)
EVERY_FIVE = range(0, 60, 5)
SKIPPING = sorted(set(ALL) - {10, 11, 20, 21, 22, 23, 24, 40})


@pytest.mark.parametrize(
    ("vehicle", "meter", "expected"),
    [
        # 60 readings, a minute each, are all of an hour.
        pytest.param(ALL, ALL, (1.0, 0, 0.0), id="every minute"),
        # The cadence is the device's own: 12 readings of 5 min are all of an hour too.
        pytest.param(EVERY_FIVE, ALL, (1.0, 0, 0.0), id="the vehicle every five minutes"),
        pytest.param(ALL, EVERY_FIVE, (1.0, 0, 0.0), id="the meter every five minutes"),
        # 45 of 60 minutes. From the window's start to the first reading there are 15 min.
        pytest.param(range(15, 60), ALL, (0.75, 1, 900.0), id="the vehicle comes late"),
        # 45 of 60 minutes. From minute 44, the last reading, to the window's end there are 16 min.
        pytest.param(range(45), ALL, (0.75, 1, 960.0), id="the vehicle leaves early"),
        # 52 of 60. From minute 9 to 12, from 19 to 25 (6 min), and from 39 to 41.
        pytest.param(SKIPPING, ALL, (52 / 60, 3, 360.0), id="some readings are missing"),
        # The meter covers half of the hour, and the lesser counts. Gaps are the vehicle's: none.
        pytest.param(ALL, range(30), (0.5, 0, 0.0), id="the meter is silent for half of the time"),
        pytest.param(range(15), range(30), (0.25, 1, 46 * 60.0), id="both are silent"),
        # 1.4 min are longer than the usual minute by less than half: no gap. 4 readings of a minute each.
        pytest.param([0, 1, 2.4, 3.4], ALL, (4 / 60, 1, 56.6 * 60), id="a little late is no gap"),
        pytest.param([], ALL, (0.0, 1, 3600.0), id="nothing of the vehicle"),
        pytest.param(ALL, [], (0.0, 0, 0.0), id="nothing of the meter"),
        # Of a single reading nobody can say what it covers: 0. From minute 0 to the end.
        pytest.param([0], ALL, (0.0, 1, 3600.0), id="a single reading of the vehicle"),
        pytest.param(ALL, [0], (0.0, 0, 0.0), id="a single reading of the meter"),
    ],
)
async def test_coverage_is_the_share_of_time_that_readings_stand_for_and_gaps_are_where_they_are_missing(
    house: House, vehicle: list[float], meter: list[float], expected: tuple[float, int, float]
) -> None:
    await house.map("v", "m", START - DAY)
    await house.write(vehicles=at_minutes("v", vehicle), meters=at_minutes("m", meter))

    found = await house.performance("v", START, END)
    await house.rollups.catch_up(END + HOUR)
    again = await house.performance("v", START, END)

    assert pytest.approx(expected) == footing(found)
    # Rolled up, the cadence is not told from the readings themselves, but by the quarter of an hour.
    assert pytest.approx(expected, abs=0.02) == footing(again)
    assert found.status == again.status


async def test_a_cadence_is_known_with_the_second_reading(house: House) -> None:
    # The first quarter of an hour has one reading only, from which nothing can be told.
    await house.write(vehicles=at_minutes("v", [5, 20, 35]))

    known = []
    for over in (15, 30):
        await house.rollups.catch_up(minutes(over) + LAG)
        known += cadences_in_rollups(house)

    assert [(None,), (900.0,)] == known


async def test_each_meter_is_to_cover_the_time_it_was_mapped(house: House) -> None:
    # Half an hour without a meter, a quarter with one that reports, and a quarter with one that does for 6 min.
    await house.map("v", "m", minutes(30), minutes(45))
    await house.map("v", "n", minutes(45))
    await house.write(
        vehicles=at_minutes("v", ALL), meters=[*at_minutes("m", ALL), *at_minutes("n", [*range(30), *range(45, 51)])]
    )

    # Of the 30 min with a meter, 15 + 6 are covered.
    assert 21 / 30 == (await house.performance("v", START, END)).coverage


async def test_what_lies_in_the_future_need_not_be_covered(house: House) -> None:
    now = datetime.now(UTC)
    times = [now - n * timedelta(minutes=5) for n in range(1, 11)]
    samples = [Sample(device="both", at=at, interval=KWH) for at in times]
    await house.map("both", "both", START)
    await house.write(vehicles=samples, meters=samples)

    today = await house.performance("both", times[-1], now + DAY)
    tomorrow = await house.performance("both", now + DAY, now + 2 * DAY)

    # 50 min in 10 readings, and the moment that has passed since.
    assert pytest.approx(1.0, abs=0.02) == today.coverage
    assert (0, 0.0, "ok") == (today.gaps, today.longest_gap, today.status)
    assert (0.0, 0, 0.0, "insufficient-data") == (*footing(tomorrow), tomorrow.status)


@pytest.mark.parametrize("rolled_up", [False, True], ids=["history", "rollups"])
@pytest.mark.parametrize(
    ("kwh", "covered", "status"),
    [
        pytest.param(0.5, 12, "ok", id="enough of both"),
        pytest.param(0.499, 60, "insufficient-data", id="too little AC, and all covered"),
        pytest.param(50.0, 11, "insufficient-data", id="too little covered, and plenty of AC"),
    ],
)
async def test_a_ratio_takes_enough_energy_and_enough_coverage(
    house: House, *, kwh: float, covered: int, status: str, rolled_up: bool
) -> None:
    # 0.2 of an hour are 12 min.
    await house.map("v", "m", START)
    both = [*at_minutes("x", [0], kwh=kwh), *at_minutes("x", range(1, covered), kwh=0.0)]
    await house.write(
        vehicles=[replace(sample, device="v") for sample in both],
        meters=[replace(sample, device="m") for sample in both],
    )
    if rolled_up:
        await house.rollups.catch_up(END + HOUR)

    found = await house.performance("v", START, END)

    assert (status, 1.0 if status == "ok" else None) == (found.status, found.efficiency_ratio)
    assert (kwh, kwh, covered / 60) == (found.ac_kwh, found.dc_kwh, found.coverage)


@pytest.mark.parametrize(
    ("vehicle", "meter", "status"),
    [
        pytest.param([0.0, 1.0], 1e-6, "ok", id="hardly anything"),
        pytest.param([0.0, 1.0], 0.0, "insufficient-data", id="no AC"),
        pytest.param([0.0], 1e-6, "insufficient-data", id="no coverage"),
    ],
)
async def test_even_where_nothing_is_demanded_nothing_is_divided_by_nothing(
    house: House, vehicle: list[float], meter: float, status: str
) -> None:
    lenient = Analytics(house.reads, judgement=replace(JUDGEMENT, min_kwh=0.0, min_coverage=0.0))
    await house.map("v", "m", START)
    await house.write(vehicles=at_minutes("v", vehicle, kwh=0.9e-6 / len(vehicle)))
    await house.write(meters=at_minutes("m", [0, 1], kwh=meter / 2))

    found = await lenient.performance("v", TimeRange(start=START, end=END))

    assert found is not None
    assert (status, pytest.approx(0.9) if status == "ok" else None) == (found.status, found.efficiency_ratio)


async def a_motley_fleet(house: House) -> set[str]:
    """Vehicles of every status, shared and changed meters, registers, gaps; returns those that are mapped."""
    vehicles: list[Sample] = []
    meters: list[Sample] = []
    for name, ac, dc, covered in [
        ("ok", 0.1, 0.09, 60),
        ("below", 0.1, 0.08, 60),
        ("lenient", 0.1, 0.08, 60),
        ("implausible", 0.1, 0.11, 60),
        ("too-little", 0.001, 0.001, 60),
        ("hardly-covered", 1.0, 0.9, 5),
        ("seen-once", 1.0, 0.9, 1),
        ("silent", 1.0, 0.9, 0),
    ]:
        vehicles += at_minutes(name, range(covered), kwh=dc)
        meters += at_minutes(f"of-{name}", ALL, kwh=ac)
        await house.map(name, f"of-{name}", START - DAY)
    meters += at_minutes("of-two", ALL, kwh=0.5)
    for name, dc in (("one", 0.3), ("other", 0.1)):
        vehicles += at_minutes(name, ALL, kwh=dc)
        await house.map(name, "of-two", START + HOUR / 4 if name == "other" else START)
    vehicles += at_minutes("moved", ALL, kwh=0.09) + at_minutes("came", ALL, kwh=0.02)
    await house.map("moved", "of-ok", START, minutes(20))
    await house.map("moved", "of-below", minutes(20))
    await house.map("came", "of-lenient", minutes(40), minutes(50))
    for number in ALL:
        vehicles.append(Sample(device="register", at=minutes(number), register=100 + 0.09 * number))
        meters.append(Sample(device="of-register", at=minutes(number), register=0.0 if number == 9 else 0.1 * number))
    await house.map("register", "of-register", START)
    vehicles += at_minutes("unmapped", ALL)
    await house.write(vehicles=vehicles, meters=meters)
    with psycopg.connect(house.url, autocommit=True) as connection:
        connection.execute("INSERT INTO device_setting VALUES ('vehicle', 'lenient', 0.75)")
    return {sample.device for sample in vehicles} - {"unmapped"} | {"silent"}


async def test_all_vehicles_at_once_are_judged_as_each_by_itself(house: House) -> None:
    mapped = await a_motley_fleet(house)
    for now in (None, minutes(31), END + HOUR):  # nothing rolled up, half of it, all of it
        if now is not None:
            await house.rollups.catch_up(now)
        for start, end in ((START, END), (minutes(7.5), minutes(52.5)), (START - DAY, START + DAY)):
            alone = {name: await house.performance(name, start, end) for name in (*mapped, "unmapped")}
            at_once = {
                one.vehicle_id: one for one in await house.analytics.efficiencies(TimeRange(start=start, end=end))
            }
            fleet = await house.fleet(start, end)

            expected: dict[str, tuple[Any, ...]] = {
                name: (found.status, found.threshold, pytest.approx(found.ac_kwh), pytest.approx(found.dc_kwh))
                for name, found in alone.items()
                if name in mapped
            }
            assert expected == {
                name: (one.status, one.threshold, one.ac_kwh, one.dc_kwh) for name, one in at_once.items()
            }
            ratios = {
                name: found.efficiency_ratio for name, found in alone.items() if found.efficiency_ratio is not None
            }
            assert pytest.approx(ratios) == {
                name: one.efficiency_ratio for name, one in at_once.items() if one.efficiency_ratio is not None
            }
            assert Counter(found.status for found in alone.values()) == fleet.statuses
            assert pytest.approx(sum(alone[name].ac_kwh for name in mapped)) == fleet.mapped_ac_kwh
            assert pytest.approx(sum(alone[name].dc_kwh for name in mapped)) == fleet.mapped_dc_kwh
            assert pytest.approx(sorted(ratios.values())[:10]) == [one.efficiency_ratio for one in fleet.worst]


async def test_of_many_vehicles_the_ten_worst_are_shown_the_worst_first(house: House) -> None:
    for number in range(12):
        await house.map(f"v-{number:02}", f"m-{number:02}", START)
    await house.write(
        vehicles=[one for n in range(12) for one in at_minutes(f"v-{n:02}", range(4), kwh=1 - abs(n - 4) / 64)],
        meters=[one for n in range(12) for one in at_minutes(f"m-{n:02}", range(4), kwh=1.0)],
    )

    fleet = await house.fleet(START, minutes(4))

    # Vehicle 4 loses nothing, and each other 1/64 for every step away from it: 11 is the worst, at equal ratios the
    # name decides, and the last two, 4 and 5, are left out.
    assert ["v-11", "v-10", "v-09", "v-00", "v-08", "v-01", "v-07", "v-02", "v-06", "v-03"] == [
        one.vehicle_id for one in fleet.worst
    ]
    assert [1 - steps / 64 for steps in (7, 6, 5, 4, 4, 3, 3, 2, 2, 1)] == [one.efficiency_ratio for one in fleet.worst]


async def test_the_fleets_devices_are_those_with_a_reading_in_the_window(house: House) -> None:
    for name in ("reporting", "silent", "later"):
        await house.map(name, f"m-{name}", START - DAY)
    await house.write(
        vehicles=at_minutes("reporting", range(4)) + at_minutes("later", range(30, 34)),
        meters=at_minutes("m-reporting", range(4)) + at_minutes("m-later", range(30, 34)) + at_minutes("m", range(4)),
    )

    fleet = await house.fleet(START, minutes(4))

    assert (1, 2) == (fleet.vehicles, fleet.meters)
    assert {"ok": 1, "insufficient-data": 2} == fleet.statuses


async def test_of_a_meters_vehicles_only_those_of_the_window_are_judged(house: House) -> None:
    await house.map("before", "m", START - 2 * DAY, START - DAY)
    await house.map("first", "m", START, minutes(30))
    await house.map("second", "m", minutes(30))  # and on
    await house.map("after", "m", END + DAY)
    await house.write(
        vehicles=at_minutes("first", range(30), kwh=0.9) + at_minutes("second", range(30, 60), kwh=0.9),
        meters=at_minutes("m", range(60), kwh=1.0),
    )

    judged = await house.analytics.efficiencies(TimeRange(start=START, end=END))

    assert {("first", "ok", 30.0), ("second", "ok", 30.0)} == {
        (one.vehicle_id, one.status, one.ac_kwh) for one in judged
    }
