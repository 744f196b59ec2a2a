# ruff: noqa: SIM300 - expected == actual
"""Charging sessions out of readings: where they begin and end, and what they draw from which meter."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestd.analytics import ChargingSession, TimeRange
from ingestd.pipeline.delivery import Batch
from ingestd.store.series import Series
from ingestd.telemetry import to_microseconds
from tests.fakes import FakeOrigin
from tests.support.deliveries import delivery_of
from tests.support.energy import Sample
from tests.support.house import House, opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
TEN = datetime(2026, 11, 20, 10, tzinfo=UTC)
NOON = TEN + 2 * HOUR


@pytest.fixture
async def house(shared_database_url: str) -> AsyncIterator[House]:
    async with opened(shared_database_url) as house:
        house.clear()
        yield house


def at(minutes: float) -> datetime:
    return TEN + minutes * MINUTE


async def drive(house: House, energy: dict[float, float], *, soc: float = 50.0) -> None:
    """Readings of `v` by the minute from ten on; its state of charge is a percent higher each minute."""
    rows = [("v", to_microseconds(at(m)), soc + m, kwh, 20 + m / 2, None, 0) for m, kwh in energy.items()]
    await house.writer.write(Batch.of([delivery_of(FakeOrigin(), vehicles=rows)]))


async def draw(house: House, energy: dict[float, float], meter: str = "m") -> None:
    await house.write(meters=[Sample(device=meter, at=at(m), interval=kwh) for m, kwh in energy.items()])


async def sessions(house: House, start: datetime = TEN - HOUR, end: datetime = NOON) -> list[ChargingSession]:
    found = await Series(house.reads, analytics=house.analytics).sessions("v", TimeRange(start=start, end=end))
    assert found is not None
    return found


async def spans(house: House, start: datetime = TEN - HOUR, end: datetime = NOON) -> list[tuple[float, float]]:
    """Beginning and end of each session, in minutes from ten on."""
    return [((one.start - TEN) / MINUTE, (one.end - TEN) / MINUTE) for one in await sessions(house, start, end)]


def each_minute(*stretches: tuple[int, int], until: int = 60) -> dict[float, float]:
    """A reading every minute; half a kWh in those that are later than the first and not later than the last."""
    return {m: 0.5 if any(a < m <= b for a, b in stretches) else 0.0 for m in range(until + 1)}


async def test_a_session_lasts_from_the_reading_before_its_energy_to_its_last_energy(house: House) -> None:
    await drive(house, each_minute((5, 25)), soc=30)
    await draw(house, {m: kwh * 1.25 for m, kwh in each_minute((5, 25)).items()})
    await house.map("v", "m", TEN - HOUR)

    found = await sessions(house)

    # 20 min of half a kWh. At the beginning, at minute 5, it was at 30 + 5 %.
    assert [
        ChargingSession(
            start=at(5),
            end=at(25),
            open=False,
            ac_kwh=12.5,
            dc_kwh=10.0,
            soc_from=35.0,
            soc_to=55.0,
            max_temperature=32.5,
            samples=20,
        )
    ] == found
    assert (2.5, 0.8) == (found[0].loss_kwh, found[0].efficiency_ratio)


async def test_a_pause_of_a_quarter_of_an_hour_does_not_end_it_and_a_longer_one_does(house: House) -> None:
    await drive(house, each_minute((5, 10), (25, 30), (46, 50)))

    found = await sessions(house)

    assert [(at(5), at(30)), (at(46), at(50))] == [(one.start, one.end) for one in found]
    assert [(5.0, 25), (2.0, 4)] == [(one.dc_kwh, one.samples) for one in found]


async def test_a_silence_of_more_than_a_quarter_of_an_hour_ends_it(house: House) -> None:
    charging = each_minute((0, 60))

    await drive(house, {m: kwh for m, kwh in charging.items() if not 10 < m < 25 and not 40 < m < 56})

    # After the second silence nobody knows when it began: a minute ago, by the vehicle's cadence.
    assert [(0, 40), (55, 60)] == await spans(house)
    assert [50.0, 106.0] == [one.soc_from for one in await sessions(house)]


async def test_a_vehicle_that_reports_every_hour_may_miss_two(house: House) -> None:
    await drive(house, {0: 0, 60: 9, 120: 9, 300: 9, 540: 9, 600: 0})

    # After three hours it is the same session, after four another one, which began an hour before its first reading.
    assert [(0, 300), (480, 540)] == await spans(house, end=TEN + 12 * HOUR)


async def test_a_pause_without_energy_ends_it_however_seldom_the_vehicle_reports(house: House) -> None:
    await drive(house, {0: 0, 60: 9, 120: 0, 180: 9, 240: 0})

    assert [(0, 60), (120, 180)] == await spans(house, end=TEN + 12 * HOUR)


async def test_a_session_is_cut_to_the_window(house: House) -> None:
    await drive(house, each_minute((5, 50)))

    (found,) = await sessions(house, at(9.5), at(40))

    # Readings 10 to 39.
    assert (at(9.5), at(39), 15.0, 30, 60.0) == (found.start, found.end, found.dc_kwh, found.samples, found.soc_from)


async def test_the_first_reading_of_all_tells_of_an_interval_before_it(house: House) -> None:
    await drive(house, {0: 0.5, 1: 0.5, 2: 0.5, 30: 0})
    assert [(-1, 2)] == await spans(house)


async def test_a_single_reading_is_a_session_without_duration(house: House) -> None:
    await drive(house, {0: 0.5})
    assert [(0, 0)] == await spans(house)


@pytest.mark.parametrize(
    ("newest", "is_open"), [(20, True), (20 + 15, True), (20 + 16, False)], ids=["charging", "pause", "over"]
)
async def test_a_session_is_open_until_a_reading_says_that_it_is_over(
    house: House,
    newest: int,
    is_open: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    await drive(house, each_minute((5, 20), until=newest))

    assert [is_open] == [one.open for one in await sessions(house)]


async def test_a_register_charges_while_it_rises(house: House) -> None:
    values = {0: 100.0, 10: 100.0, 11: 101.0, 12: 102.5, 13: 102.5, 40: 102.5}
    await house.write(vehicles=[Sample(device="v", at=at(m), register=kwh) for m, kwh in values.items()])

    (found,) = await sessions(house)

    assert (at(10), at(12), 2.5) == (found.start, found.end, found.dc_kwh)


# What it draws


async def drawn(house: House) -> list[float]:
    return [one.ac_kwh for one in await sessions(house, end=TEN + 3 * HOUR)]


async def test_without_a_meter_there_is_neither_loss_nor_efficiency(house: House) -> None:
    await drive(house, each_minute((5, 25)))

    (found,) = await sessions(house)

    assert (0.0, None, None) == (found.ac_kwh, found.loss_kwh, found.efficiency_ratio)


async def test_intervals_of_the_meter_count_where_the_session_has_a_part_in_them(house: House) -> None:
    """The meter reports every quarter of an hour, which the session from 10:05 to 10:35 has a part in three of."""
    await drive(house, each_minute((5, 35)))
    await draw(house, {0: 1, 15: 2, 30: 4, 45: 8, 60: 16})
    await house.map("v", "m", TEN - HOUR)

    assert [2 + 4 + 8] == await drawn(house)


async def test_an_interval_that_ends_as_the_session_begins_does_not_count(house: House) -> None:
    await drive(house, each_minute((15, 30)))
    await draw(house, {0: 1, 15: 2, 30: 4, 45: 8, 60: 16})
    await house.map("v", "m", TEN - HOUR)

    assert [4] == await drawn(house)


@pytest.mark.parametrize(
    ("energy", "of_first", "of_second"),
    [
        pytest.param({-60: 0, 0: 1, 60: 2, 120: 4}, 0, 2, id="the one up to 11:00 has a part of both"),
        pytest.param({-75: 0, -15: 1, 45: 2, 105: 4}, 2, 4, id="the one up to 10:45 ends as the second begins"),
    ],
)
async def test_no_interval_counts_for_two_sessions(
    house: House, energy: dict[float, float], of_first: float, of_second: float
) -> None:
    await drive(house, each_minute((2, 12), (45, 58), until=90))
    await draw(house, energy)
    await house.map("v", "m", TEN - 2 * HOUR)

    assert [of_first, of_second] == await drawn(house)


async def test_of_a_meter_without_a_cadence_only_what_lies_in_the_session_counts(house: House) -> None:
    await drive(house, each_minute((5, 25)))
    await draw(house, {25: 10})
    await house.map("v", "m", TEN - HOUR)

    assert [10] == await drawn(house)


async def test_each_meter_counts_while_it_feeds_the_vehicle(house: House) -> None:
    await drive(house, each_minute((5, 35)))
    await draw(house, each_minute((0, 60)))
    await draw(house, {m: 2 * kwh for m, kwh in each_minute((0, 60)).items()}, meter="n")
    await house.map("v", "m", TEN - HOUR, at(15))
    await house.map("v", "n", at(25))

    # Of m the readings 6 to 14, of n those from 25 to 35.
    assert [9 * 0.5 + 11 * 1.0] == await drawn(house)


async def test_a_shared_meter_gives_by_what_each_took_in_the_hour(house: House) -> None:
    await drive(house, each_minute((5, 25)))
    await house.write(vehicles=[Sample(device="other", at=at(30), interval=30.0)])
    await draw(house, each_minute((0, 60)))
    await house.map("v", "m", TEN - HOUR)
    await house.map("other", "m", TEN - HOUR)

    # 10 of the hour's 40 kWh DC are its own: a quarter of the 10 kWh in its 20 min.
    assert [2.5] == await drawn(house)


# Whatever comes


async def test_a_vehicle_that_never_charged_has_no_sessions_and_one_that_is_unknown_not_even_that(house: House) -> None:
    await drive(house, each_minute())
    series = Series(house.reads, analytics=house.analytics)
    window = TimeRange(start=TEN, end=NOON)

    assert [] == await series.sessions("v", window)
    assert None is await series.sessions("nobody", window)


MINUTES = st.lists(st.integers(0, 400), min_size=1, max_size=30, unique=True)


def readings(draw: Any, minutes: Iterable[int]) -> dict[float, float]:  # noqa: ANN401 - what hypothesis draws with
    return {m: draw(st.sampled_from([0.0, 0.0, 0.25, 1.0])) for m in minutes}


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), vehicle=MINUTES, meter=MINUTES)
def test_every_reading_with_energy_is_in_one_session(
    shared_database_url: str, data: st.DataObject, vehicle: list[int], meter: list[int]
) -> None:
    energy, ac = readings(data.draw, vehicle), readings(data.draw, meter)

    async def run() -> None:
        async with opened(shared_database_url) as house:
            house.clear()
            await drive(house, energy)
            await draw(house, ac)
            await house.map("v", "m", TEN - HOUR)

            found = await sessions(house, end=TEN + 8 * HOUR)

            assert sum(energy.values()) == sum(one.dc_kwh for one in found)
            for minute, kwh in energy.items():
                of = [one for one in found if one.start < at(minute) <= one.end or one.start == one.end == at(minute)]
                assert (1 if kwh > 0 else min(1, len(of))) == len(of)
            assert all(one.end <= following.start for one, following in pairwise(found))
            assert {one.end for one in found} <= {at(minute) for minute, kwh in energy.items() if kwh > 0}
            assert sum(one.ac_kwh for one in found) <= sum(ac.values())

    asyncio.run(run())
