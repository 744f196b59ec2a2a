# ruff: noqa: SIM300 - expected == actual
"""Running totals of all devices: what the fleet's figures are made of, and what comes too late for them."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
import pytest

from ingestd.store.energy import TOTALS_REACH
from ingestd.store.rollups import TOTALS_LAG, Rollups
from tests.support.energy import START, Sample, intervals, minutes, register
from tests.support.house import PLAUSIBLE_KW, House, opened
from tests.support.polling import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BEFORE = START - timedelta(days=1)
FAR = START + timedelta(days=4)
QUARTER = minutes(7.5)
"""The end of the quarter of an hour in which START lies: 22:15."""


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    async with opened(database_url) as house:
        house.quiet_until(START)
        yield house


def query(house: House, statement: LiteralString, *parameters: object) -> list[Any]:
    with psycopg.connect(house.url, options="-c timezone=UTC", autocommit=True) as connection:
        cursor = connection.execute(statement, parameters or None)
        return cursor.fetchall() if cursor.description else []


def totals(house: House) -> list[tuple[Any, ...]]:
    """(until, kWh, samples) of the vehicles, in order of time."""
    return query(
        house,
        "SELECT until, kwh, samples FROM running_total WHERE stream = 'vehicle' AND readings > 0 ORDER BY until",
    )


def moments(house: House) -> list[datetime]:
    """Up to where each of the totals reaches."""
    return [until for (until,) in query(house, "SELECT until FROM running_total WHERE stream = 'vehicle' ORDER BY 1")]


def readings_stored(house: House) -> int:
    """As PostgreSQL's statistics have it, which lag a little."""
    statement: LiteralString = (
        "SELECT sum(n_tup_ins)::integer FROM pg_stat_user_tables WHERE starts_with(relname, 'vehicle_history')"
    )
    ((stored,),) = query(house, statement)
    return int(stored)


def begun_at(house: House) -> datetime:
    return moments(house)[0]


def belated(house: House) -> list[tuple[Any, ...]]:
    return query(house, "SELECT vehicle_id, ts, kwh FROM vehicle_belated ORDER BY ts, vehicle_id")


async def fleet(house: House, start: datetime = BEFORE, end: datetime = FAR) -> tuple[Any, ...]:
    """(kWh DC or nearly so, vehicles)."""
    found = await house.fleet(start, end)
    return pytest.approx(found.dc_kwh), found.vehicles


async def follow(house: House, first: float, last: float) -> None:
    """Totals begin at the one moment, so many minutes after START, and have come up to the other."""
    for number in (first, last):
        await house.rollups.catch_up(minutes(number))


async def test_they_follow_the_readings_at_their_pace(house: House) -> None:
    await house.write(vehicles=intervals(*[0.25] * 30))  # one a minute, 22:07:30 to 22:36:30

    await follow(house, 8.5, 28.5)  # from 22:16:00 on, when the first quarter is rolled up; to 22:36:00

    assert QUARTER == begun_at(house)
    made = totals(house)
    # Two readings take two minutes. Of what is younger than the lag nothing is said.
    assert 20 / 2 - 2 < len(made) < 20 / 2 + 4
    assert minutes(28.5) - timedelta(minutes=3) < made[-1][0] <= minutes(28.5) - TOTALS_LAG
    for until, kwh, samples in made:
        readings = sum(QUARTER <= minutes(n) < until for n in range(30))
        assert ([0.25 * readings], [readings]) == (kwh, samples)


async def test_without_readings_they_come_ever_more_seldom(house: House) -> None:
    await house.write(vehicles=intervals(0.25))

    await follow(house, 8.5, 55)

    seconds = [(after - before).total_seconds() for before, after in pairwise(moments(house))]
    assert [10, 20, 40, 80, 160, 320, 640, 900] == seconds


async def test_after_a_quiet_time_they_come_as_soon_as_readings_do(house: House, database_url: str) -> None:
    await house.write(vehicles=intervals(*[0.25] * 10))
    await follow(house, 8.5, 50)
    quiet = moments(house)[-1]
    stored = readings_stored(house)

    async with opened(database_url) as other:  # which says on its way out how much it has stored
        await other.write(vehicles=[Sample(device="v", at=minutes(50 + n / 12), interval=0.25) for n in range(2)])
    await eventually(lambda: readings_stored(house) == stored + 2)
    for number in range(1, 4):
        await house.rollups.catch_up(minutes(50) + TOTALS_LAG + timedelta(seconds=10 * number))

    assert [quiet, minutes(50) + timedelta(seconds=10)] == moments(house)[-2:]


async def test_they_are_what_the_fleets_figures_are_made_of(house: House) -> None:
    await house.write(vehicles=intervals(*[0.25] * 60))
    await follow(house, 8.5, 40)

    assert (60 * 0.25, 1) == await fleet(house)
    (first, first_kwh, _), (last, *_) = totals(house)[3], totals(house)[-3]
    query(house, "UPDATE running_total SET kwh = '{1000}' WHERE until = %s", last)
    assert (1000 - first_kwh[0], 1) == await fleet(house, first, last)


async def test_a_window_may_begin_and_end_anywhere_among_them(house: House) -> None:
    values = [2.0**-n for n in range(30)]  # each sum of some of them is another one
    await house.write(vehicles=intervals(*values))
    await follow(house, 8.5, 40)

    for first in range(0, 30, 2):
        for last in range(first, 30, 3):
            expected = sum(values[first : last + 1])
            found = await house.fleet(minutes(first), minutes(last + 0.1))
            assert pytest.approx(expected, abs=1e-12) == found.dc_kwh


async def test_a_window_may_begin_before_them(house: House) -> None:
    await house.write(vehicles=intervals(*[0.25] * 120))
    await follow(house, 60, 130)
    assert minutes(52.5) == begun_at(house)

    for first in (0, 3, 7.5, 10, 40, 50, 52.5, 55):
        readings = sum(n >= first for n in range(120))
        assert (readings * 0.25, 1) == await fleet(house, minutes(first), FAR)


async def test_what_is_belated_counts_at_once(house: House) -> None:
    await house.write(vehicles=intervals(*[0.25] * 30))
    await follow(house, 8.5, 30)
    late = [Sample(device="v", at=minutes(9.25), interval=3), Sample(device="w", at=minutes(12.25), interval=5)]

    await house.write(vehicles=late)

    assert [("v", minutes(9.25), 3.0), ("w", minutes(12.25), 5.0)] == belated(house)
    assert (30 * 0.25 + 8, 2) == await fleet(house)
    assert (0.25 * 3 + 5, 2) == await fleet(house, minutes(10), minutes(12.5))  # after one, with the other
    assert (0.25 * 3, 1) == await fleet(house, minutes(13), minutes(16))


async def test_what_is_redelivered_is_not_belated(house: House) -> None:
    await house.write(vehicles=intervals(*[0.25] * 30))
    await follow(house, 8.5, 30)

    await house.write(vehicles=intervals(*[0.25] * 12, 3, device="w") + intervals(*[0.25] * 12))
    await house.write(vehicles=intervals(*[0.25] * 12, 3, device="w"))

    # Of the second vehicle what is not older than the totals; of the first nothing is new.
    assert [("w", minutes(n), 3.0 if n == 12 else 0.25) for n in range(8, 13)] == belated(house)
    assert (30 * 0.25 + 12 * 0.25 + 3, 2) == await fleet(house)


async def test_what_is_late_for_an_announcement_only_is_counted_in_time(house: House) -> None:
    await house.write(vehicles=intervals(*[0.25] * 30))
    await follow(house, 8.5, 30)
    query(house, "UPDATE rollup SET announced = %s", minutes(40))

    await house.write(vehicles=[Sample(device="w", at=minutes(35), interval=5)])
    assert [("w", minutes(35), 5.0)] == belated(house)
    assert (30 * 0.25 + 5, 2) == await fleet(house)

    await follow(house, 30, 50)
    assert [] == belated(house)
    assert (30 * 0.25 + 5, 2) == await fleet(house)


async def test_much_that_is_belated_is_taken_in(house: House) -> None:
    await house.write(vehicles=intervals(*[0.25] * 60))
    await follow(house, 8.5, 60)
    # Nearly an hour of another vehicle, and of one that nobody has heard of.
    await house.write(vehicles=intervals(*[0.5] * 50, device="w") + intervals(*[1.0] * 50, device="x"))
    assert 2 * (50 - 8) == len(belated(house))
    everything = 60 * 0.25 + 50 * 1.5
    windows = [(minutes(n), minutes(n + 10.1)) for n in range(10, 40)]
    right = [(11 * 1.75, 3)] * len(windows)
    assert (everything, 3) == await fleet(house)
    assert right == [await fleet(house, *window) for window in windows]

    await follow(house, 60, 65)

    assert [] == belated(house)
    # Also in what their pace is told by: otherwise the next ones would seem to bring all of it.
    assert [(0,)] == query(
        house,
        "SELECT count(*) FROM running_total WHERE readings <> (SELECT coalesce(sum(n), 0) FROM unnest(samples) AS n)",
    )
    assert (everything, 3) == await fleet(house)
    assert right == [await fleet(house, *window) for window in windows]


async def test_a_little_that_is_belated_stays_beside_many(house: House) -> None:
    devices = [f"v{number}" for number in range(40)]
    await house.write(vehicles=[sample for device in devices for sample in intervals(*[0.25] * 30, device=device)])
    await follow(house, 8.5, 30)

    await house.write(vehicles=[Sample(device="v7", at=minutes(9.25), interval=3)])
    await follow(house, 30, 36)

    assert [("v7", minutes(9.25), 3.0)] == belated(house)
    assert (40 * 30 * 0.25 + 3, 40) == await fleet(house)


async def test_a_register_is_looked_at_by_itself(house: House) -> None:
    await house.write(vehicles=intervals(*[0.25] * 30))
    await follow(house, 8.5, 30)

    # 100 sets the mark, belated; 102 counts 2, and 103 another, in time.
    await house.write(vehicles=[Sample(device="v", at=minutes(9.25), register=100)])
    await house.write(vehicles=[Sample(device="v", at=minutes(10.25), register=102)])
    assert [("v", minutes(9.25), None), ("v", minutes(10.25), None)] == belated(house)
    await house.write(vehicles=[Sample(device="v", at=minutes(31), register=103)])

    assert (30 * 0.25 + 3, 1) == await fleet(house)
    assert (5 * 0.25 + 2, 1) == await fleet(house, minutes(10), minutes(14.5))
    await follow(house, 30, 60)
    assert (30 * 0.25 + 3, 1) == await fleet(house)
    assert (5 * 0.25 + 2, 1) == await fleet(house, minutes(10), minutes(14.5))
    assert (1.0, 1) == await fleet(house, minutes(30.5), minutes(31.5))


async def test_both_streams_have_their_own(house: House) -> None:
    await house.write(vehicles=intervals(*[0.25] * 30), meters=intervals(*[0.5] * 30, device="m"))
    await follow(house, 8.5, 40)
    await house.write(meters=[Sample(device="m", at=minutes(9.25), interval=3)])

    found = await house.fleet(minutes(8), minutes(20))
    assert [12 * 0.25, 12 * 0.5 + 3] == pytest.approx([found.dc_kwh, found.ac_kwh])
    assert [] == belated(house)


async def test_how_well_a_vehicle_is_covered_is_told_by_them_as_by_its_performance(house: House) -> None:
    # A reading a minute, for 90 minutes of 120, and for 20: less than a fifth.
    for number, readings in enumerate([90, 20]):
        await house.map(f"v{number}", f"m{number}", BEFORE)
        await house.write(
            vehicles=intervals(*[0.29] * readings, device=f"v{number}"),
            meters=intervals(*[0.3] * readings, device=f"m{number}"),
        )
    await follow(house, 8.5, 100)
    window = (minutes(0), minutes(120))

    assert ["ok", "insufficient-data"] == [(await house.performance(f"v{n}", *window)).status for n in range(2)]
    assert [([60.0, 60.0],)] == query(house, "SELECT DISTINCT cadence FROM running_total WHERE stream = 'vehicle'")
    assert {"ok": 1, "insufficient-data": 1} == (await house.fleet(*window)).statuses
    query(house, "UPDATE running_total SET cadence = '{10, 10}'")
    assert {"insufficient-data": 2} == (await house.fleet(*window)).statuses


async def test_those_that_nobody_asks_for_any_more_are_forgotten(house: House) -> None:
    await house.write(vehicles=intervals(*[0.25] * 30))
    await follow(house, 8.5, 30)
    await house.write(vehicles=[Sample(device="v", at=minutes(9.25), interval=3)])
    assert QUARTER == begun_at(house)

    later = TOTALS_REACH / timedelta(minutes=1) + 120
    await house.rollups.catch_up(minutes(later))

    assert minutes(30) < begun_at(house)
    assert [] == belated(house)
    assert (30 * 0.25 + 3, 1) == await fleet(house)
    assert (5 * 0.25, 1) == await fleet(house, minutes(10), minutes(14.5))


async def test_they_begin_anew_with_the_rollups(house: House, database_url: str) -> None:
    await house.write(vehicles=register(*range(100, 130)) + intervals(*[0.25] * 30, device="w"))
    await follow(house, 8.5, 30)
    await house.write(vehicles=[Sample(device="w", at=minutes(9.25), interval=3)])

    async with opened(database_url, plausible_kw=390) as other:
        await other.rollups.catch_up(minutes(60))
        assert minutes(52.5) == begun_at(house)
        assert [] == belated(house)
        assert (29 + 30 * 0.25 + 3, 2) == await fleet(other)


async def test_of_two_daemons_each_counts_on_from_where_they_are(house: House, database_url: str) -> None:
    await house.write(vehicles=intervals(*[0.25] * 60))
    async with opened(database_url) as other:
        for minute in range(9, 60):
            await (house if minute % 2 else other).rollups.catch_up(minutes(minute))

    assert (60 * 0.25, 1) == await fleet(house)
    assert [(0,)] == query(house, "SELECT count(*) FROM running_total WHERE kwh[1] <> 0.25 * samples[1]")


async def test_where_flushes_are_far_apart_they_wait_for_them(house: House, database_url: str) -> None:
    await house.write(vehicles=intervals(*[0.25] * 30))
    rollups = Rollups(database_url, plausible_kw=PLAUSIBLE_KW, flush_interval=timedelta(minutes=5))
    for number in (13.5, 20):
        await rollups.catch_up(minutes(number))
    await rollups.close()

    assert QUARTER == begun_at(house)
    assert minutes(12.5) < totals(house)[-1][0] <= minutes(15) - TOTALS_LAG


async def test_a_fleet_without_readings_has_none(house: House) -> None:
    house.clear()

    await house.rollups.catch_up(minutes(60))

    assert [] == query(house, "SELECT until FROM running_total")
    assert (0, 0) == await fleet(house)
