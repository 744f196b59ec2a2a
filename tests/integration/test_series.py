# ruff: noqa: SIM300 - expected == actual
"""One device's energy by buckets and by the days of a time zone, exact at every moment of the ledger."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestd.model.answers import Answer, Point, Total
from ingestd.model.device_energy import total
from ingestd.model.energy import Reading, count
from ingestd.model.periods import Bucket, TimeRange, buckets_of, parse_bucket_length, periods
from ingestd.model.quarters import Quarter, quarters
from ingestd.model.sessions import SESSION_RULE
from ingestd.model.stream import METER, VEHICLE
from ingestd.model.timestamps import to_microseconds
from ingestd.store.series import Series
from tests.support.energy import Sample
from tests.support.harness import Harness, opened
from tests.support.streams import streams

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from ingestd.model.periods import Calendar, Period
    from ingestd.model.stream import Stream

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
async def harness(database_url: str) -> AsyncIterator[Harness]:
    async with opened(database_url) as harness:
        yield harness


def series(harness: Harness) -> Series:
    return Series(harness.snapshots, session=SESSION_RULE)


async def points_of(harness: Harness, stream: Stream, device: str, asked: Sequence[Bucket]) -> list[Point]:
    window = TimeRange(start=asked[0].within.start, end=asked[-1].within.end)
    found = await series(harness).of_device(stream, device, window, asked)
    assert found is not None
    assert found.reason is None
    return found.items


async def totals_of(harness: Harness, stream: Stream, device: str, asked: Sequence[Period]) -> list[Total]:
    window = TimeRange(start=asked[0].within.start, end=asked[-1].within.end)
    found = await series(harness).totals(stream, device, window, asked)
    assert found is not None
    assert found.reason is None
    return found.items


def buckets(window: TimeRange, bucket: str, zone: str = "UTC") -> list[Bucket]:
    return buckets_of(window, parse_bucket_length(bucket), ZoneInfo(zone))


def utc(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}Z")


async def test_every_bucket_of_the_window_is_there(harness: Harness) -> None:
    def at(minute: int, kwh: float, soc: float, temperature: float) -> Sample:
        return Sample(device="v", at=NOON + minute * MINUTE, interval=kwh, soc=soc, temperature=temperature)

    await harness.write(
        vehicles=[
            at(4, 9.0, 1, 1),  # belongs to what was before the window
            at(8, 0.5, 10, 20),
            at(15, 0.25, 12, 25),
            at(9, 0.25, 11, 18),  # comes late
            at(30, 0.0, 15, 30),
            at(45, 0.5, 20, 31),
            at(55, 0.25, 21, 32),
            at(59, 9.0, 99, 99),
        ]
    )
    window = TimeRange(start=NOON + 4 * MINUTE, end=NOON + 70 * MINUTE)
    until_55 = TimeRange(start=window.start, end=NOON + 55 * MINUTE)

    points = await points_of(harness, VEHICLE, "v", buckets(until_55, "15m"))

    # Of the first bucket 11 min lie in the window, which is 660 s; of the last 10 min, which is a sixth of an hour.
    assert [
        Point(start=NOON, kwh=1.0, kw=1.0 / (660 / 3600), spread=False, soc=12.0, averaged=21.0, samples=3),
        Point(start=NOON + 15 * MINUTE, kwh=0.0, kw=0.0, spread=False, soc=15.0, averaged=30.0, samples=1),
        Point(start=NOON + 30 * MINUTE, kwh=0.5, kw=2.0, spread=False, soc=20.0, averaged=31.0, samples=1),
        Point(start=NOON + 45 * MINUTE, kwh=0.25, kw=1.5, spread=False, soc=21.0, averaged=32.0, samples=1),
    ] == points

    points = await points_of(harness, VEHICLE, "v", buckets(window, "15m"))

    assert (
        Point(start=NOON + 60 * MINUTE, kwh=None, kw=None, spread=False, soc=None, averaged=None, samples=0)
        == points[-1]
    )


async def test_a_long_interval_has_a_part_in_every_bucket(harness: Harness) -> None:
    await harness.write(meters=[Sample(device="m", at=NOON + n * HOUR, interval=6.0) for n in range(3)])
    window = TimeRange(start=NOON, end=NOON + HOUR)

    points = await points_of(harness, METER, "m", buckets(window, "20m"))

    assert [(2.0, 6.0, 0, None), (2.0, 6.0, 0, None), (2.0, 6.0, 1, 230.0)] == [
        (point.kwh, point.kw, point.samples, point.averaged) for point in points
    ]
    assert {None} == {point.soc for point in points}


@pytest.mark.parametrize("start", ["0001-01-01T00:00:01", "9999-12-31T00:00:00"])
async def test_a_window_at_the_end_of_the_calendar_is_as_good_as_any(harness: Harness, start: str) -> None:
    await harness.write(vehicles=[Sample(device="v", at=NOON, interval=1)])
    await harness.close(NOON + HOUR)
    window = TimeRange(start=utc(start), end=utc(start) + 23 * HOUR)

    for bucket in ("1h", "7m", "50h"):
        asked = buckets(window, bucket)
        points = await points_of(harness, VEHICLE, "v", asked)

        assert [bucket.start for bucket in asked] == [point.start for point in points]


async def test_who_has_neither_reported_nor_been_mapped_is_unknown(harness: Harness) -> None:
    window = TimeRange(start=NOON, end=NOON + HOUR)
    await harness.map("expected", "meter", NOON)
    await harness.write(vehicles=[Sample(device="v", at=NOON - DAY, interval=1)])
    known = [(VEHICLE, "v"), (VEHICLE, "expected"), (METER, "meter")]
    unknown = [(VEHICLE, "nobody"), (METER, "v"), (VEHICLE, "meter")]

    for stream, device in known + unknown:
        answers = [
            await series(harness).of_device(stream, device, window, buckets(window, "1h")),
            await series(harness).totals(stream, device, window, periods(window, "day", UTC)),
        ]

        if (stream, device) in unknown:
            assert [None, None] == answers
        else:
            nothing = Point(start=NOON, kwh=None, kw=None, spread=False, soc=None, averaged=None, samples=0)
            no_total = Total(label="2026-11-20", within=window, kwh=None, samples=0)
            assert [Answer(items=[nothing], reason=None), Answer(items=[no_total], reason=None)] == answers


def hourly(start: str, hours: int) -> list[Sample]:
    """1 kWh in each hour, told at half past; by the minute, as it were."""
    return [
        Sample(device="v", at=utc(start) + number * HOUR + after, interval=kwh)
        for number in range(hours)
        for after, kwh in ((29 * MINUTE, 0.0), (30 * MINUTE, 1.0))
    ]


async def totals(harness: Harness, window: TimeRange, by: Calendar, zone: str) -> list[tuple[str, object, object]]:
    found = await totals_of(harness, VEHICLE, "v", periods(window, by, ZoneInfo(zone)))
    return [(one.label, one.kwh, one.samples) for one in found]


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize(
    ("written_from", "start", "end", "days"),
    [
        ("2026-03-28T00:00:00", "2026-03-27T23:00:00", "2026-03-30T22:00:00", [23, 23, 24]),
        ("2026-10-24T00:00:00", "2026-10-23T22:00:00", "2026-10-26T23:00:00", [22, 25, 24]),
    ],
)
async def test_days_are_those_of_the_time_zone(
    harness: Harness,
    closed: bool,  # noqa: FBT001
    written_from: str,
    start: str,
    end: str,
    days: list[int],
) -> None:
    """Around a change of the clocks; the first day began before the readings did."""
    await harness.write(vehicles=hourly(written_from, 3 * 24))
    if closed:
        await harness.close(utc(end) - 12 * HOUR)
    window = TimeRange(start=utc(start), end=utc(end))
    asked = buckets(window, "1d", "Europe/Berlin")

    points = await points_of(harness, VEHICLE, "v", asked)

    assert [(bucket.start, day, 2 * day) for bucket, day in zip(asked, days, strict=True)] == [
        (point.start, point.kwh, point.samples) for point in points
    ]
    assert [(day, 2 * day) for day in days] == [
        (kwh, samples) for _, kwh, samples in await totals(harness, window, "day", "Europe/Berlin")
    ]


async def test_midnight_belongs_to_the_day_that_ended(harness: Harness) -> None:
    midnight = utc("2026-11-20T23:00:00")  # in Berlin
    await harness.write(vehicles=[Sample(device="v", at=NOON, interval=3), Sample(device="v", at=midnight, interval=5)])
    window = TimeRange(start=NOON - HOUR, end=NOON + DAY)

    assert [("2026-11-20", 8.0, 2), ("2026-11-21", None, 0)] == await totals(harness, window, "day", "Europe/Berlin")


BEGIN = datetime(2026, 3, 28, 18, 7, tzinfo=UTC)
BUCKETS = st.sampled_from(["7m", "15m", "20m", "1h", "75m", "6h", "1d", "2d"])
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns"])


def sample(reading: Reading) -> Sample:
    return Sample(
        device="m",
        at=BEGIN + timedelta(microseconds=reading.at),
        interval=reading.kwh,
        register=reading.register,
        voltage=reading.averaged,
    )


def expected(arrived: list[Sample], within: TimeRange, harness: Harness) -> Quarter:
    """By the rule, of all readings at once."""
    readings = [
        Reading(to_microseconds(one.at), one.interval, one.register, one.voltage)
        for one in sorted(arrived, key=lambda one: one.at)
    ]
    counted = count(readings, rule=harness.rules[METER], now=to_microseconds(datetime.now(UTC)))
    return total(quarters(counted, to_microseconds(within.start), to_microseconds(within.end)).values())


def near(figure: float) -> Any:  # noqa: ANN401 - pytest's
    return pytest.approx(figure, abs=1e-9)


async def check(harness: Harness, arrived: list[Sample], window: TimeRange, bucket: str, zone: str) -> None:
    asked = buckets(window, bucket, zone)
    days = periods(window, "day", ZoneInfo(zone))

    points = await points_of(harness, METER, "m", asked)
    totals = await totals_of(harness, METER, "m", days)

    for one, point in zip(asked, points, strict=True):
        its = expected(arrived, one.within, harness)
        assert (one.start, its.samples, its.is_empty) == (point.start, point.samples, point.kwh is None)
        assert near(its.kwh) == (point.kwh or 0.0)
        assert near(its.averaged) == (point.averaged or 0.0) * its.samples
    for day, of_day in zip(days, totals, strict=True):
        its = expected(arrived, day.within, harness)
        assert (near(its.kwh), its.samples) == (of_day.kwh or 0.0, of_day.samples)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(readings=streams(), data=st.data())
def test_points_and_totals_are_what_the_readings_say_whatever_comes_when(
    database_url: str, readings: list[Reading], data: st.DataObject
) -> None:
    samples = [sample(one._replace(averaged=float(number))) for number, one in enumerate(readings)]
    order = data.draw(st.permutations(samples)) if data.draw(st.booleans()) else samples

    async def run() -> None:
        async with opened(database_url) as harness:
            harness.clear()
            for number, one in enumerate(order):
                await harness.write(meters=[one])
                if data.draw(st.integers(0, 2)) == 0:
                    await harness.closing.catch_up(one.at + 2 * HOUR)
                if data.draw(st.integers(0, 2)) == 0:
                    start = BEGIN + data.draw(st.integers(-60, 40 * 60)) * MINUTE
                    length = data.draw(st.sampled_from([MINUTE, HOUR, 5 * HOUR, DAY, 3 * DAY]))
                    window = TimeRange(start=start, end=start + length)
                    await check(harness, order[: number + 1], window, data.draw(BUCKETS), data.draw(ZONES))

    asyncio.run(run())
