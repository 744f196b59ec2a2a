# ruff: noqa: SIM300 - expected == actual
"""Charging sessions out of readings: where they begin and end, and what they draw from which meter."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestd.model.periods import Period, TimeRange
from ingestd.model.sessions import SessionRule
from ingestd.model.stream import METER
from ingestd.store.series import Series
from tests.support.energy import Sample
from tests.support.harness import Harness, opened
from tests.support.stages import at_every_stage
from tests.support.streams import streams

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from ingestd.model.answers import ChargingSession
    from ingestd.model.energy import Reading

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MIDNIGHT = datetime(2026, 11, 20, tzinfo=UTC)
LATER = MIDNIGHT + 26 * HOUR
"""When all is closed."""
DAYS = TimeRange(start=MIDNIGHT - DAY, end=MIDNIGHT + 30 * DAY)


@pytest.fixture
async def harness(shared_database_url: str) -> AsyncIterator[Harness]:
    async with opened(shared_database_url) as harness:
        harness.clear()
        yield harness


def at(hour: float, minute: float = 0) -> datetime:
    return MIDNIGHT + hour * HOUR + minute * MINUTE


def intervals(
    start: datetime, end: datetime, every: timedelta, kwh: float, *, device: str = "A", soc: float = 50.0
) -> list[Sample]:
    """Readings after start, up to and with end."""
    count = (end - start) // every
    return [
        Sample(device=device, at=start + number * every, interval=kwh, soc=soc, temperature=20 + number / 2)
        for number in range(1, count + 1)
    ]


def rising(
    start: datetime, values: Sequence[float], every: timedelta = MINUTE, *, device: str = "A", soc: float = 50.0
) -> list[Sample]:
    """Readings of a register from start on."""
    return [
        Sample(device=device, at=start + number * every, register=value, soc=soc) for number, value in enumerate(values)
    ]


def series(harness: Harness, history: timedelta | None = None) -> Series:
    return Series(harness.kept(history), session=SessionRule())


async def sessions(
    harness: Harness, vehicle: str = "A", start: datetime = MIDNIGHT, end: datetime = MIDNIGHT + DAY
) -> list[ChargingSession]:
    found = await series(harness).sessions(vehicle, TimeRange(start=start, end=end))
    assert found is not None
    assert None is found.reason
    return found.items


def summary(found: Sequence[ChargingSession]) -> list[tuple[datetime, datetime, float, float]]:
    """Start, end, DC and AC of each."""
    return [(one.start, one.end, round(one.dc_kwh, 6), round(one.ac_kwh, 6)) for one in found]


# Where they begin and end ----------------------------------------------------------------------------------------


async def test_a_session_lasts_from_the_reading_before_its_energy_to_its_last_energy(harness: Harness) -> None:
    charge = [
        Sample(device="A", at=at(10, m), interval=0.5 if 5 < m <= 25 else 0.0, soc=30 + m, temperature=20 + m / 2)
        for m in range(61)
    ]

    async def ask() -> list[ChargingSession]:
        return await sessions(harness)

    answers = await at_every_stage(
        harness,
        ask,
        now=LATER,
        vehicles=charge,
        meters=intervals(at(9), at(11), MINUTE, 0.625, device="m"),
        mapped=[("A", "m", at(10, 5), at(10, 25))],
    )

    for found in answers:
        (one,) = found
        assert (at(10, 5), at(10, 25), False) == (one.start, one.end, one.open)
        assert (35.0, 55.0, 32.5, 20) == (one.soc_from, one.soc_to, one.max_temperature, one.samples)
        assert pytest.approx(10.0) == one.dc_kwh
        assert pytest.approx(12.5) == one.ac_kwh
        assert pytest.approx(2.5) == one.loss_kwh
        assert pytest.approx(0.8) == one.efficiency_ratio


async def test_a_session_begins_where_a_register_that_was_at_rest_began_to_rise(harness: Harness) -> None:
    """At rest for a day and read by the minute, then 150 kW from nine on."""
    rest = rising(MIDNIGHT - 15 * HOUR, [500.0] * (24 * 60 + 1))
    charge = rising(at(9, 1), [500 + 2.5 * number for number in range(1, 61)])

    async def ask() -> list[tuple[datetime, datetime, float, float]]:
        return summary(await sessions(harness))

    answers = await at_every_stage(harness, ask, now=LATER, vehicles=rest + charge)
    assert [[(at(9), at(10), 150.0, 0.0)]] * 4 == answers


async def test_a_register_that_was_silent_for_the_charge_tells_one_session(harness: Harness) -> None:
    vehicle = [
        Sample(device="A", at=at(0), register=100.0, soc=30),
        Sample(device="A", at=at(6), register=130.0, soc=80, temperature=33),
    ]
    meter = intervals(at(0), at(24), MINUTE, 0.1, device="m")

    async def ask() -> list[ChargingSession]:
        return await sessions(harness)

    for found in await at_every_stage(
        harness, ask, now=LATER, vehicles=vehicle, meters=meter, mapped=[("A", "m", at(0), None)]
    ):
        assert [(at(0), at(6), 30.0, 36.0)] == summary(found)
        assert [(30.0, 80.0, 33.0, 1)] == [
            (one.soc_from, one.soc_to, one.max_temperature, one.samples) for one in found
        ]

    # In the midst of it no reading tells of the battery.
    (part,) = await sessions(harness, start=at(2), end=at(3))
    assert [(at(2), at(3), 5.0, 6.0)] == summary([part])
    assert (30.0, 30.0, None, 0) == (part.soc_from, part.soc_to, part.max_temperature, part.samples)


async def test_a_register_in_whole_kilowatt_hours_tells_one_session(harness: Harness) -> None:
    vehicle = rising(at(0), [50.0 + min(10, max(0, (m - 8 * 60) // 20)) for m in range(24 * 60)])
    meter = [*intervals(at(0), at(8), MINUTE, 0.0, device="m")]
    meter += intervals(at(8), at(11, 20), MINUTE, 0.06, device="m")
    meter += intervals(at(11, 20), at(24), MINUTE, 0.0, device="m")

    async def ask() -> list[tuple[datetime, datetime, float, float]]:
        return summary(await sessions(harness))

    answers = await at_every_stage(
        harness, ask, now=LATER, vehicles=vehicle, meters=meter, mapped=[("A", "m", at(0), None)]
    )
    assert [[(at(8), at(11, 20), 10.0, 12.0)]] * 4 == answers


async def test_a_counter_that_creeps_on_does_not_prolong_the_session(harness: Harness) -> None:
    charge = rising(at(9), [100 + 0.1 * number for number in range(61)])
    creeping = rising(at(10, 1), [106 + number * 0.005 / 60 for number in range(1, 600)])

    async def ask() -> list[tuple[datetime, datetime, float, float]]:
        return summary(await sessions(harness))

    answers = await at_every_stage(harness, ask, now=LATER, vehicles=charge + creeping)
    assert [[(at(9), at(10), 6.0, 0.0)]] * 4 == answers


@pytest.mark.parametrize(("pause", "starts"), [(15, [at(9)]), (16, [at(9), at(9, 46)])])
async def test_a_pause_of_a_quarter_of_an_hour_does_not_end_it_and_a_longer_one_does(
    harness: Harness, pause: int, starts: list[datetime]
) -> None:
    again = at(9, 30 + pause)
    await harness.write(
        vehicles=[
            *intervals(at(8), at(9), MINUTE, 0.0),
            *intervals(at(9), at(9, 30), MINUTE, 0.5),
            *intervals(at(9, 30), again, MINUTE, 0.0),
            *intervals(again, at(11), MINUTE, 0.5),
        ]
    )

    assert starts == [one.start for one in await sessions(harness)]


async def test_a_single_reading_of_unknown_interval_is_no_session(harness: Harness) -> None:
    await harness.write(vehicles=[Sample(device="A", at=at(10), interval=8.5)])
    assert [] == await sessions(harness)


@pytest.mark.parametrize(
    ("newest", "is_open"),
    [(at(10, 20), True), (at(10, 35), True), (at(10, 36), False)],
    ids=["charging", "pause", "over"],
)
async def test_a_session_is_open_until_a_reading_says_that_it_is_over(
    harness: Harness,
    newest: datetime,
    is_open: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    await harness.write(
        vehicles=[*intervals(at(10), at(10, 20), MINUTE, 0.5), *intervals(at(10, 20), newest, MINUTE, 0.0)]
    )

    assert [is_open] == [one.open for one in await sessions(harness)]


# What they draw --------------------------------------------------------------------------------------------------


async def test_without_a_meter_there_is_neither_loss_nor_efficiency(harness: Harness) -> None:
    await harness.write(vehicles=intervals(at(10), at(10, 20), MINUTE, 0.5))

    (one,) = await sessions(harness)

    assert (0.0, None, None) == (one.ac_kwh, one.loss_kwh, one.efficiency_ratio)


async def test_two_vehicles_at_one_meter_have_each_the_energy_of_its_own_charge(harness: Harness) -> None:
    vehicles = intervals(at(14), at(14, 10), MINUTE, 0.2) + intervals(at(14, 40), at(14, 50), MINUTE, 0.2, device="B")
    charging = [(at(14), at(14, 10), 0.22), (at(14, 10), at(14, 40), 0.0), (at(14, 40), at(14, 50), 0.22)]
    meter = [one for start, end, kwh in charging for one in intervals(start, end, MINUTE, kwh, device="m")]

    async def ask() -> list[list[tuple[datetime, datetime, float, float]]]:
        return [summary(await sessions(harness, vehicle)) for vehicle in ("A", "B")]

    # The first reading of all has no interval before it.
    expected = [[(at(14, 1), at(14, 10), 2.0, 2.2)], [(at(14, 41), at(14, 50), 2.0, 2.2)]]
    mapped = [("A", "m", at(0), None), ("B", "m", at(0), None)]
    answers = await at_every_stage(harness, ask, now=LATER, vehicles=vehicles, meters=meter, mapped=mapped)
    assert [expected] * 4 == answers


async def test_two_sessions_within_one_reading_of_a_slow_meter_share_it(harness: Harness) -> None:
    kwh = {hour: 4.4 if hour == 10 else 0.0 for hour in range(24)}
    meter = [Sample(device="m", at=at(hour), interval=energy) for hour, energy in kwh.items()]
    vehicle = intervals(at(9), at(9, 10), MINUTE, 0.2) + intervals(at(9, 40), at(9, 50), MINUTE, 0.2)

    async def ask() -> list[tuple[float, float]]:
        return [(round(one.dc_kwh, 6), round(one.ac_kwh, 6)) for one in await sessions(harness)]

    mapped = [("A", "m", at(0), None)]
    answers = await at_every_stage(harness, ask, now=LATER, vehicles=vehicle, meters=meter, mapped=mapped)
    assert [[(2.0, 2.2), (2.0, 2.2)]] * 4 == answers


async def test_each_meter_counts_while_it_feeds_the_vehicle(harness: Harness) -> None:
    await harness.write(
        vehicles=intervals(at(10), at(10, 40), MINUTE, 0.5),
        meters=intervals(at(9), at(11), MINUTE, 0.6, device="m") + intervals(at(9), at(11), MINUTE, 1.0, device="n"),
    )
    await harness.map("A", "m", at(9), at(10, 15))
    await harness.map("A", "n", at(10, 25))

    # Readings of m up to 10:15, those of n later than 10:25 (15 each).
    assert [round(15 * 0.6 + 15 * 1.0, 6)] == [round(one.ac_kwh, 6) for one in await sessions(harness)]


async def test_another_vehicle_shares_a_meter_only_while_it_is_mapped_to_it(harness: Harness) -> None:
    await harness.write(
        vehicles=intervals(at(9), at(10), MINUTE, 0.1) + intervals(at(9), at(10), MINUTE, 0.3, device="B"),
        meters=intervals(at(8), at(10), MINUTE, 0.5, device="m"),
    )
    await harness.map("A", "m", at(8))
    await harness.map("B", "m", at(9, 30))

    # All of it for half an hour, then a quarter of it.
    (one,) = await sessions(harness)
    assert pytest.approx(30 * 0.5 + 30 * 0.5 / 4) == one.ac_kwh


# Windows ---------------------------------------------------------------------------------------------------------


async def test_a_session_is_cut_to_the_window(harness: Harness) -> None:
    await harness.write(vehicles=intervals(at(10), at(10, 50), MINUTE, 0.5, soc=60))

    for is_closed in (False, True):
        if is_closed:
            await harness.close(LATER)
        (one,) = await sessions(harness, start=at(10, 9.5), end=at(10, 40))

        # Readings 10 to 40.
        assert (at(10, 9.5), at(10, 40), 15.5, 31) == (one.start, one.end, one.dc_kwh, one.samples)


async def test_a_window_that_ends_within_the_first_short_interval_has_nothing_of_it(harness: Harness) -> None:
    await harness.write(vehicles=intervals(at(9), at(10), MINUTE, 0.0) + intervals(at(10), at(10, 30), MINUTE, 0.5))

    assert [] == await sessions(harness, end=at(10, 0.5))
    assert [(at(10, 0.5), 15.0)] == [(one.start, one.dc_kwh) for one in await sessions(harness, start=at(10, 0.5))]


async def test_a_vehicle_that_never_charged_has_no_sessions_and_one_that_is_unknown_not_even_that(
    harness: Harness,
) -> None:
    await harness.write(vehicles=intervals(at(9), at(10), MINUTE, 0.0))

    assert [] == await sessions(harness)
    assert None is await series(harness).sessions("nobody", TimeRange(start=MIDNIGHT, end=LATER))


async def test_behind_the_retention_of_history_sessions_cannot_be_told(harness: Harness) -> None:
    now = datetime.now(UTC)
    await harness.write(vehicles=intervals(now - 10 * HOUR, now - 5 * HOUR, MINUTE, 0.5))
    told = series(harness, history=7 * HOUR)

    around = await told.sessions("A", TimeRange(start=now - 9 * HOUR, end=now))
    behind = await told.sessions("A", TimeRange(start=now - 9 * HOUR, end=now - 8 * HOUR))
    before = await told.sessions("A", TimeRange(start=now - 6 * HOUR, end=now))

    assert around is not None
    assert behind is not None
    assert before is not None
    (one,) = around.items
    assert timedelta() <= one.start - (now - 7 * HOUR) < MINUTE
    assert [] == behind.items
    assert around.reason == behind.reason == f"readings from before {one.start:%Y-%m-%dT%H:%M:%SZ} are no longer kept"
    assert (1, None) == (len(before.items), before.reason)


# Whatever comes --------------------------------------------------------------------------------------------------


def samples(device: str, readings: Sequence[Reading]) -> list[Sample]:
    return [
        Sample(device=device, at=MIDNIGHT + timedelta(microseconds=one.at), interval=one.kwh, register=one.register)
        for one in readings
    ]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(vehicle=streams(), other=streams(), meter=streams(), data=st.data())
def test_sessions_of_windows_that_adjoin_add_up(
    shared_database_url: str,
    vehicle: list[Reading],
    other: list[Reading],
    meter: list[Reading],
    data: st.DataObject,
) -> None:
    span = timedelta(microseconds=max(vehicle[-1].at, meter[-1].at)) + HOUR
    start, end = MIDNIGHT - HOUR, MIDNIGHT + span
    edges = sorted(start + (end - start) * data.draw(st.floats(0.01, 0.99)) for _ in range(2))
    closed = data.draw(st.sampled_from([None, MIDNIGHT + span / 2, end + DAY]))
    shared_from = data.draw(st.sampled_from([start, MIDNIGHT + 3 * HOUR]))

    async def run() -> None:
        async with opened(shared_database_url) as harness:
            harness.clear()
            await harness.map("A", "m", start)
            await harness.map("B", "m", shared_from)
            await harness.write(meters=samples("m", meter), vehicles=samples("A", vehicle) + samples("B", other))
            if closed is not None:
                await harness.close(closed)

            whole = await sessions(harness, "A", start, end)
            parts = [await sessions(harness, "A", *window) for window in pairwise([start, *edges, end])]

            for figure in ("dc_kwh", "ac_kwh", "samples"):
                expected = sum(getattr(one, figure) for one in whole)
                assert pytest.approx(expected, abs=1e-6) == sum(getattr(one, figure) for part in parts for one in part)
            assert all(one.end <= following.start for one, following in pairwise(whole))
            of_other = await sessions(harness, "B", start, end)
            fed = await series(harness).totals(METER, "m", DAYS, [Period(label="all", within=DAYS)])
            assert fed is not None
            assert sum(one.ac_kwh for one in whole + of_other) <= (fed.items[0].kwh or 0) + 1e-6

    asyncio.run(run())
