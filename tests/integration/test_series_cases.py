# ruff: noqa: SIM300 - expected == actual
"""Cases of the field by buckets, asked at every stage of closing; and what is told when history is gone."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestd.model.answers import Point
from ingestd.model.energy import Reading, count
from ingestd.model.periods import Period, TimeRange, buckets_of, parse_bucket_length
from ingestd.model.quarters import quarters
from ingestd.model.sessions import SessionRule
from ingestd.model.stream import METER, VEHICLE
from ingestd.model.timestamps import to_microseconds
from ingestd.store.series import Series
from tests.support.energy import Sample
from tests.support.harness import Harness, opened
from tests.support.stages import at_every_stage
from tests.support.streams import streams

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from ingestd.model.answers import Answer
    from ingestd.model.periods import Bucket
    from ingestd.model.stream import Stream

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MIDNIGHT = datetime(2026, 11, 20, tzinfo=UTC)
NOON = MIDNIGHT + 12 * HOUR
LATER = MIDNIGHT + 26 * HOUR
"""When all is closed."""


@pytest.fixture
async def harness(database_url: str) -> AsyncIterator[Harness]:
    async with opened(database_url) as harness:
        harness.clear()
        yield harness


def at(hour: float, minute: float = 0) -> datetime:
    return MIDNIGHT + hour * HOUR + minute * MINUTE


def series(harness: Harness, history: timedelta | None = None) -> Series:
    return Series(harness.kept(history), session=SessionRule())


def buckets(window: TimeRange, bucket: str, zone: str = "UTC") -> list[Bucket]:
    return buckets_of(window, parse_bucket_length(bucket), ZoneInfo(zone))


async def answer(
    harness: Harness, window: TimeRange, bucket: str, *, stream: Stream = VEHICLE, history: timedelta | None = None
) -> Answer[Point]:
    device = "v" if stream is VEHICLE else "m"
    found = await series(harness, history).of_device(stream, device, window, buckets(window, bucket))
    assert found is not None
    return found


async def points(
    harness: Harness, start: datetime, end: datetime, bucket: str, stream: Stream = VEHICLE
) -> list[Point]:
    found = await answer(harness, TimeRange(start=start, end=end), bucket, stream=stream)
    assert None is found.reason
    return found.items


def register(start: datetime, values: Sequence[float], every: timedelta, device: str = "v") -> list[Sample]:
    return [Sample(device=device, at=start + number * every, register=value) for number, value in enumerate(values)]


# One device ------------------------------------------------------------------------------------------------------


async def test_where_nothing_tells_of_energy_it_is_null(harness: Harness) -> None:
    vehicle = [Sample(device="v", at=at(12, minute), interval=0.1) for minute in (5, 50)]

    async def ask() -> list[tuple[float | None, float | None, int | None]]:
        found = await points(harness, NOON, NOON + 2 * HOUR, "30m")
        return [(point.kwh, point.kw, point.samples) for point in found]

    expected = [(pytest.approx(0.1 + 0.1 * 25 / 45), pytest.approx(0.2 + 0.2 * 25 / 45), 1)]
    expected += [(pytest.approx(0.1 * 20 / 45), pytest.approx(0.2 * 20 / 45), 1)]
    for found in await at_every_stage(harness, ask, now=LATER, vehicles=vehicle):
        assert [*expected, (None, None, 0), (None, None, 0)] == found


async def test_a_bucket_tells_whether_it_has_energy_that_is_spread(harness: Harness) -> None:
    register_reading = [
        Sample(device="v", at=at(12), register=100.0),
        Sample(device="v", at=at(12, 50), register=105.0),
    ]
    each_minute = [Sample(device="v", at=at(12, 50) + number * MINUTE, register=105.0 + number) for number in (1, 2, 3)]

    async def ask() -> list[bool | None]:
        return [point.spread for point in await points(harness, NOON, NOON + 75 * MINUTE, "15m")]

    for found in await at_every_stage(harness, ask, now=LATER, vehicles=register_reading + each_minute):
        assert [True, True, True, True, False] == found


async def test_a_meter_has_no_state_of_charge(harness: Harness) -> None:
    await harness.write(meters=[Sample(device="m", at=NOON + HOUR, interval=0.5)])

    assert [Point(start=NOON, kwh=0.5, kw=0.5, spread=False, soc=None, averaged=230.0, samples=1)] == await points(
        harness, NOON, NOON + HOUR, "1h", METER
    )


async def test_a_half_hourly_register_that_was_at_rest_rises_from_half_an_hour_before(harness: Harness) -> None:
    """5.5 at 8:30 and at 9:00: 2.75 in each quarter-hour from 8:00, and nothing before."""
    vehicle = register(MIDNIGHT, [*[100.0] * 17, 105.5, 111.0, *[111.0] * 6], 30 * MINUTE)

    async def ask() -> list[float | None]:
        return [point.kwh for point in await points(harness, at(7), at(9, 30), "15m")]

    expected = [0.0, 0.0, 0.0, 0.0, *[pytest.approx(2.75)] * 4, 0.0, 0.0]
    for found in await at_every_stage(harness, ask, now=LATER, vehicles=vehicle):
        assert expected == [kwh or 0.0 for kwh in found]


@pytest.mark.parametrize(
    ("every", "polls", "rise"), [(timedelta(seconds=30), 120, 11.0), (timedelta(seconds=10), 90, 2.75)]
)
async def test_a_register_that_is_polled_more_often_than_it_rises_counts_each_hour(
    harness: Harness, every: timedelta, polls: int, rise: float
) -> None:
    """By 11 at each full hour, three times; by 2.75 each quarter-hour."""
    steps = round(33 / rise)
    values = [200 + rise * (number // polls) for number in range(polls * (steps + 1))]

    async def ask() -> float:
        found = await points(harness, at(6), at(12), "1h", METER)
        return round(sum(point.kwh or 0.0 for point in found[:4]), 6)

    start = at(9) - steps * polls * every
    answers = await at_every_stage(harness, ask, now=at(13), meters=register(start, values, every, "m"))
    assert [33.0] * 4 == answers


async def test_quarter_hours_belong_to_the_hour_that_they_end(harness: Harness) -> None:
    meter = [Sample(device="m", at=at(7, 45 + 15 * number), interval=2.5) for number in range(1, 10)]

    async def ask() -> list[float | None]:
        return [point.kwh for point in await points(harness, at(8), at(11), "1h", METER)]

    answers = await at_every_stage(harness, ask, now=LATER, meters=meter)
    assert [[10.0, 10.0, None]] * 4 == answers


# The clocks of a time zone ---------------------------------------------------------------------------------------


async def test_a_day_that_the_zone_left_out_is_no_bucket(harness: Harness) -> None:
    begin = datetime(2011, 12, 29, 10, tzinfo=UTC)  # midnight in Apia, also a day later; the 30th is left out
    window = TimeRange(start=begin, end=begin + 3 * DAY)
    await harness.write(
        vehicles=[Sample(device="v", at=begin + hour * HOUR, interval=1.0) for hour in range(3 * 24 + 1)]
    )

    found = await series(harness).of_device(VEHICLE, "v", window, buckets(window, "1d", "Pacific/Apia"))

    assert found is not None
    assert [(begin + day * DAY, 24.0) for day in range(3)] == [(point.start, point.kwh) for point in found.items]


# Behind the retention of history ---------------------------------------------------------------------------------


async def test_what_history_no_longer_tells_is_null_with_a_reason(harness: Harness) -> None:
    """Whole quarter-hours are told by the ledger, an edge within one and the state of charge are not."""
    now = datetime.now(UTC)
    begin = now.replace(minute=0, second=0, microsecond=0) - 10 * HOUR
    await harness.write(
        vehicles=[Sample(device="v", at=begin + number * MINUTE, interval=0.5) for number in range(1, 6 * 60)]
    )
    await harness.close(now)
    kept = now - begin - 2 * HOUR  # all but the first two hours
    with psycopg.connect(harness.url, autocommit=True) as connection:
        connection.execute("DELETE FROM vehicle_history WHERE ts <= %s", (now - kept,))
    window = TimeRange(start=begin + 20 * MINUTE, end=begin + 5 * HOUR)

    found = await answer(harness, window, "1h", history=kept)

    assert [(None, None), (30.0, None), (30.0, 50.0), (30.0, 50.0), (30.0, 50.0)] == [
        (point.kwh, point.soc) for point in found.items
    ]
    assert [None, 60, 60, 60, 60] == [point.samples for point in found.items]
    assert found.reason is not None
    assert "no longer kept" in found.reason

    # By twenty minutes nothing of it can be told, up to an hour behind the edge: a reading may tell of so much.
    found = await answer(harness, window, "20m", history=kept)
    assert {None} == {point.kwh for point in found.items[:5]}
    assert [10.0, 10.0, 10.0] == [point.kwh for point in found.items[-3:]]
    recent = await answer(harness, TimeRange(start=begin + 4 * HOUR, end=begin + 5 * HOUR), "20m", history=kept)
    assert ([10.0, 10.0, 10.0], None) == ([point.kwh for point in recent.items], recent.reason)


async def test_a_meter_whose_whole_quarters_are_told_needs_no_reason(harness: Harness) -> None:
    now = datetime.now(UTC)
    begin = now.replace(minute=0, second=0, microsecond=0) - 10 * HOUR
    await harness.write(meters=[Sample(device="m", at=begin + n * MINUTE, interval=0.5) for n in range(1, 121)])
    await harness.close(now)

    window = TimeRange(start=begin, end=begin + 2 * HOUR)
    found = await answer(harness, window, "1h", stream=METER, history=4 * HOUR)

    assert ([30.0, 30.0], None) == ([point.kwh for point in found.items], found.reason)


# Whatever comes --------------------------------------------------------------------------------------------------

BEGIN = datetime(2025, 10, 30, tzinfo=UTC)
"""So long ago that nothing waits for what follows."""
BUCKETS = st.sampled_from(["15m", "30m", "75m", "1h", "1d", "2d", "7m", "20m", "50m"])


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(readings=streams(), data=st.data())
def test_buckets_are_what_the_rule_says_and_add_up_to_the_window(
    database_url: str, readings: list[Reading], data: st.DataObject
) -> None:
    """In any order of arrival, at any moment of closing."""
    order = data.draw(st.permutations(readings)) if data.draw(st.booleans()) else readings
    split = data.draw(st.integers(0, len(order)))
    last = BEGIN + timedelta(microseconds=readings[-1].at)

    def samples(part: Sequence[Reading]) -> list[Sample]:
        return [
            Sample(device="v", at=BEGIN + timedelta(microseconds=one.at), interval=one.kwh, register=one.register)
            for one in part
        ]

    begin = to_microseconds(BEGIN)
    rule = Harness(database_url).rules[VEHICLE]
    counted = count([one._replace(at=begin + one.at) for one in readings], rule=rule, now=begin + 10**13)

    async def check(harness: Harness) -> None:
        start, end = sorted(
            data.draw(st.lists(st.integers(-90, (last - BEGIN) // MINUTE + 90), min_size=2, max_size=2, unique=True))
        )
        window = TimeRange(start=BEGIN + start * MINUTE, end=BEGIN + end * MINUTE)
        asked = buckets(window, data.draw(BUCKETS), data.draw(st.sampled_from(["UTC", "Asia/Kathmandu"])))
        if len(asked) > 400:
            return
        found = await series(harness).of_device(VEHICLE, "v", window, asked)
        assert found is not None
        for bucket, point in zip(asked, found.items, strict=True):
            rows = quarters(counted, to_microseconds(bucket.within.start), to_microseconds(bucket.within.end)).values()
            is_told = any(row.samples or row.parts for row in rows)
            assert (pytest.approx(sum(row.kwh for row in rows), abs=1e-9) if is_told else None) == point.kwh
            assert sum(row.samples for row in rows) == point.samples
            assert (50.0 if point.samples else None) == point.soc
        whole = await series(harness).totals(VEHICLE, "v", window, [Period(label="all", within=window)])
        assert whole is not None
        assert pytest.approx(whole.items[0].kwh or 0.0, abs=1e-9) == sum(point.kwh or 0.0 for point in found.items)

    async def run() -> None:
        async with opened(database_url) as harness:
            harness.clear()
            await harness.write(vehicles=samples(order[:split]))
            if data.draw(st.booleans()):
                await harness.close(last)
            await harness.write(vehicles=samples(order[split:]))
            await check(harness)
            if data.draw(st.booleans()):
                await harness.close(last + 5 * HOUR)
                await check(harness)

    asyncio.run(run())
