# ruff: noqa: SIM300 - expected == actual
"""Energy over time: by buckets, by days and months of a time zone; from history and rollups alike, at every moment."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestd.analytics import FleetPoint, Point, TimeRange, Total
from ingestd.periods import parse_bucket, periods, stretches
from ingestd.pipeline.delivery import Batch
from ingestd.store.series import Series
from ingestd.telemetry import METER, VEHICLE, to_microseconds
from tests.fakes import FakeOrigin
from tests.support.deliveries import delivery_of
from tests.support.energy import Sample, counted
from tests.support.house import PLAUSIBLE_KW, House, opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from ingestd.periods import Calendar, Stretch
    from ingestd.telemetry import Row

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    async with opened(database_url) as house:
        yield house


def series(house: House) -> Series:
    return Series(house.reads, analytics=house.analytics)


def buckets(window: TimeRange, bucket: str, zone: str = "UTC") -> list[Stretch]:
    return stretches(window, parse_bucket(bucket), ZoneInfo(zone))


def reading(at: datetime, kwh: float, *, soc: float = 50.0, temperature: float = 20.0) -> Row:
    """Of the vehicle `v`."""
    return ("v", to_microseconds(at), soc, kwh, temperature, None, 0)


async def write(house: House, rows: Iterable[Row]) -> None:
    await house.writer.write(Batch.of([delivery_of(FakeOrigin(), vehicles=list(rows))]))


def utc(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}Z")


# One device


async def test_every_bucket_of_the_window_is_there(house: House) -> None:
    await write(
        house,
        [
            reading(NOON + 8 * MINUTE, 0.5, soc=10, temperature=20),
            reading(NOON + 14 * MINUTE, 0.25, soc=12, temperature=25),
            reading(NOON + 9 * MINUTE, 0.25, soc=11, temperature=18),  # comes late
            reading(NOON + 30 * MINUTE, 0.0, soc=15, temperature=30),
            reading(NOON + 50 * MINUTE, 0.5, soc=20, temperature=31),
            reading(NOON + 59 * MINUTE, 9.0),  # behind the window
        ],
    )
    window = TimeRange(start=NOON + 4 * MINUTE, end=NOON + 55 * MINUTE)

    points = await series(house).of_device(VEHICLE, "v", window, buckets(window, "15m"))

    # Of the first bucket 11 min lie in the window, which is 660 s; of the last 10 min, which is a sixth of an hour.
    assert [
        Point(start=NOON, kwh=1.0, kw=3600 / 660, soc=12.0, averaged=21.0, samples=3),
        Point(start=NOON + 15 * MINUTE, kwh=None, kw=None, soc=None, averaged=None, samples=0),
        Point(start=NOON + 30 * MINUTE, kwh=0.0, kw=0.0, soc=15.0, averaged=30.0, samples=1),
        Point(start=NOON + 45 * MINUTE, kwh=0.5, kw=3.0, soc=20.0, averaged=31.0, samples=1),
    ] == points


async def test_a_meter_has_no_state_of_charge(house: House) -> None:
    await house.write(meters=[Sample(device="m", at=NOON, interval=0.5)])

    window = TimeRange(start=NOON, end=NOON + HOUR)
    points = await series(house).of_device(METER, "m", window, buckets(window, "1h"))

    assert [Point(start=NOON, kwh=0.5, kw=0.5, soc=None, averaged=230.0, samples=1)] == points


async def test_a_register_counts_where_it_rises(house: House) -> None:
    values = {0: 100.0, 14: 101.0, 16: 103.0, 46: 103.0}
    await house.write(vehicles=[Sample(device="v", at=NOON + m * MINUTE, register=kwh) for m, kwh in values.items()])

    window = TimeRange(start=NOON, end=NOON + HOUR)
    points = await series(house).of_device(VEHICLE, "v", window, buckets(window, "15m"))

    assert points is not None
    assert [1.0, 2.0, None, 0.0] == [point.kwh for point in points]


@pytest.mark.parametrize("start", ["0001-01-01T00:00:01", "9999-12-31T00:00:00"])
async def test_a_window_at_the_end_of_the_calendar_is_as_good_as_any(house: House, start: str) -> None:
    await write(house, [reading(NOON, 1)])
    window = TimeRange(start=utc(start), end=utc(start) + 23 * HOUR)

    for bucket in ["1h", "7h"]:
        asked = buckets(window, bucket)
        points = await series(house).of_device(VEHICLE, "v", window, asked)
        of_fleet = await series(house).of_fleet(window, asked)

        assert points is not None
        assert len(asked) == len(points) == len(of_fleet)


async def test_who_has_neither_reported_nor_been_mapped_is_unknown(house: House) -> None:
    window = TimeRange(start=NOON, end=NOON + HOUR)
    await house.map("announced", "meter", NOON)
    await write(house, [reading(NOON - DAY, 1)])
    known = [(VEHICLE, "v"), (VEHICLE, "announced"), (METER, "meter")]
    unknown = [(VEHICLE, "nobody"), (METER, "v"), (VEHICLE, "meter")]

    for stream, device in known + unknown:
        answers = [
            await series(house).of_device(stream, device, window, buckets(window, "1h")),
            await series(house).totals(stream, device, window, periods(window, "day", UTC)),
        ]

        if (stream, device) in unknown:
            assert [None, None] == answers
        else:
            assert [
                [Point(start=NOON, kwh=None, kw=None, soc=None, averaged=None, samples=0)],
                [Total(label="2026-11-20", within=window, kwh=None, samples=0)],
            ] == answers


# The days and months of a time zone


async def totals(house: House, window: TimeRange, by: Calendar, zone: str) -> list[tuple[str, float | None, int]]:
    found = await series(house).totals(VEHICLE, "v", window, periods(window, by, ZoneInfo(zone)))
    assert found is not None
    return [(total.label, total.kwh, total.samples) for total in found]


def hourly(start: str, hours: int) -> list[Row]:
    """1 kWh in each hour, told at half past."""
    return [reading(utc(start) + number * HOUR + 30 * MINUTE, 1.0) for number in range(hours)]


@pytest.mark.parametrize("rolled_up", [False, True])
async def test_a_day_has_23_hours_when_summer_time_begins(house: House, rolled_up: bool) -> None:  # noqa: FBT001 - a parameter of the test
    await write(house, hourly("2026-03-28T00:00:00", 3 * 24))
    if rolled_up:
        await house.rollups.catch_up(utc("2026-03-29T12:00:00"))

    # Midnight in Berlin is at 23:00Z up to 29 March and at 22:00Z from then on; 28 March began before the readings did.
    window = TimeRange(start=utc("2026-03-27T23:00:00"), end=utc("2026-03-30T22:00:00"))
    assert [("2026-03-28", 23.0, 23), ("2026-03-29", 23.0, 23), ("2026-03-30", 24.0, 24)] == await totals(
        house, window, "day", "Europe/Berlin"
    )
    # In Kathmandu, it is at 18:15Z: of the first day there are the readings of 00:30 to 17:30, of the last the rest.
    window = TimeRange(start=utc("2026-03-28T00:00:00"), end=utc("2026-03-31T00:00:00"))
    assert [("2026-03-28", 18.0), ("2026-03-29", 24.0), ("2026-03-30", 24.0), ("2026-03-31", 6.0)] == [
        (day, kwh) for day, kwh, _ in await totals(house, window, "day", "Asia/Kathmandu")
    ]


@pytest.mark.parametrize("rolled_up", [False, True])
async def test_a_day_has_25_hours_when_summer_time_ends(house: House, rolled_up: bool) -> None:  # noqa: FBT001 - a parameter of the test
    await write(house, hourly("2026-10-24T00:00:00", 3 * 24))
    if rolled_up:
        await house.rollups.catch_up(utc("2026-10-25T12:00:00"))

    # Midnight in Berlin is at 22:00Z up to 25 October and at 23:00Z from then on; 24 October began before the readings.
    window = TimeRange(start=utc("2026-10-23T22:00:00"), end=utc("2026-10-26T23:00:00"))
    assert [("2026-10-24", 22.0, 22), ("2026-10-25", 25.0, 25), ("2026-10-26", 24.0, 24)] == await totals(
        house, window, "day", "Europe/Berlin"
    )


@pytest.mark.parametrize("rolled_up", [False, True])
async def test_buckets_of_days_are_days_of_the_time_zone(house: House, rolled_up: bool) -> None:  # noqa: FBT001 - a parameter of the test
    await write(house, hourly("2026-03-27T00:00:00", 5 * 24))
    if rolled_up:
        await house.rollups.catch_up(utc("2026-03-30T12:00:00"))
    window = TimeRange(start=utc("2026-03-27T23:00:00"), end=utc("2026-03-30T12:00:00"))
    asked = buckets(window, "1d", "Europe/Berlin")

    points = await series(house).of_device(VEHICLE, "v", window, asked)
    of_fleet = await series(house).of_fleet(window, asked)

    assert points is not None
    days = ["2026-03-27T23:00:00", "2026-03-28T23:00:00", "2026-03-29T22:00:00"]  # 28 to 30 March
    expected = list(zip(map(utc, days), [24.0, 23.0, 14.0], strict=True))
    assert expected == [(point.start, point.kwh) for point in points]
    assert expected == [(point.start, point.dc_kwh) for point in of_fleet]
    assert [1.0, 1.0, 1.0] == [point.kw for point in points]


async def test_months_are_those_of_the_time_zone(house: House) -> None:
    """Of the readings around midnight of 1 April in Berlin, which is at 22:00Z."""
    await write(house, hourly("2026-03-31T20:00:00", 4))
    await write(house, hourly("2026-05-31T20:00:00", 4))
    window = TimeRange(start=utc("2026-03-31T00:00:00"), end=utc("2026-06-02T00:00:00"))

    assert [("2026-03", 2.0, 2), ("2026-04", 2.0, 2), ("2026-05", 2.0, 2), ("2026-06", 2.0, 2)] == await totals(
        house, window, "month", "Europe/Berlin"
    )
    assert [("2026-03", 4.0, 4), ("2026-04", None, 0), ("2026-05", 4.0, 4), ("2026-06", None, 0)] == await totals(
        house, window, "month", "UTC"
    )


# Whatever comes, and whatever is rolled up


BEGIN = datetime(2026, 11, 18, 22, 7, 30, tzinfo=UTC)
MOMENTS = st.integers(0, 20 * 60).map(lambda minutes: BEGIN + timedelta(minutes=minutes))
DEVICES = {METER: ("a", "b"), VEHICLE: ("a", "c")}
BUCKETS = st.sampled_from(["15m", "30m", "75m", "1h", "1d", "2d", "7m", "20m"])


@st.composite
def samples(draw: st.DrawFn) -> list[Sample]:
    """Of some devices, with intervals and registers; the registers rise, and are reset at times."""
    made: dict[tuple[str, datetime], Sample] = {}
    for device in draw(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=12)):
        at = draw(MOMENTS)
        figures: dict[str, Any] = (
            {"register": draw(st.sampled_from([0.0, 1.0, 90.0, 100.0, 105.0, 130.0]))}
            if draw(st.booleans())
            else {"interval": draw(st.floats(0, 5))}
        )
        made[device, at] = Sample(device=device, at=at, **figures)
    return list(made.values())


def expected(written: Iterable[Sample], device: str, asked: Sequence[Stretch]) -> dict[datetime, float]:
    """Energy by bucket; only those with a reading."""
    energy: dict[datetime, float] = defaultdict(float)
    for one in counted([sample for sample in written if sample.device == device], PLAUSIBLE_KW):
        for bucket in asked:
            if bucket.within.start <= one.at < bucket.within.end:
                energy[bucket.start] += one.kwh
    return energy


def added(parts: Sequence[dict[datetime, float]]) -> dict[datetime, float]:
    return {start: sum(part.get(start, 0.0) for part in parts) for start in set().union(*parts)}


def near(energy: dict[datetime, float]) -> dict[datetime, Any]:
    return {start: pytest.approx(kwh, abs=1e-9) for start, kwh in energy.items()}


def sent(points: Sequence[FleetPoint], figure: str) -> dict[datetime, float]:
    return {point.start: getattr(point, figure) for point in points if getattr(point, figure) is not None}


async def check(house: House, written: list[Sample], window: TimeRange, asked: Sequence[Stretch]) -> None:
    of = {
        (stream, device): expected(written, device, asked) for stream, devices in DEVICES.items() for device in devices
    }
    fleet = await series(house).of_fleet(window, asked)
    assert near(added([of[METER, "a"], of[METER, "b"]])) == sent(fleet, "ac_kwh")
    assert near(added([of[VEHICLE, "a"], of[VEHICLE, "c"]])) == sent(fleet, "dc_kwh")
    assert len(asked) == len(fleet)

    whole = await house.fleet(window.start, window.end)
    assert pytest.approx(whole.ac_kwh, abs=1e-9) == sum(sent(fleet, "ac_kwh").values())
    assert pytest.approx(whole.dc_kwh, abs=1e-9) == sum(sent(fleet, "dc_kwh").values())

    points = await series(house).of_device(VEHICLE, "a", window, asked)
    if points is not None:
        assert [point.start for point in fleet] == [point.start for point in points]
        assert near(of[VEHICLE, "a"]) == {point.start: point.kwh for point in points if point.kwh is not None}
        days = await series(house).totals(VEHICLE, "a", window, periods(window, "day", BERLIN))
        assert days is not None
        assert pytest.approx(sum(of[VEHICLE, "a"].values()), abs=1e-9) == sum(day.kwh or 0.0 for day in days)


async def test_settled_quarters_and_edges_make_up_every_bucket(house: House) -> None:
    """Every ten minutes over midnight, but for an hour of silence; `b` has a register, and of `c` some comes late."""
    every = [BEGIN + number * 10 * MINUTE for number in range(40) if not 14 <= number < 20]
    intervals = {
        device: [Sample(device=device, at=at, interval=number % 7 + 1.0) for number, at in enumerate(every)]
        for device in ("a", "c")
    }
    rising = [Sample(device="b", at=at, register=10.0 * number) for number, at in enumerate(every)]
    late = intervals["c"][5:8]
    house.quiet_until(BEGIN)
    await house.write(
        meters=intervals["a"] + rising,
        vehicles=intervals["a"] + [sample for sample in intervals["c"] if sample not in late],
    )
    await house.rollups.catch_up(BEGIN + 5 * HOUR)

    written = intervals["a"] + rising + [sample for sample in intervals["c"] if sample not in late]
    windows = [(0, 400), (13, 177), (30, 31), (47.5, 107.5), (170, 290), (299, 399)]
    for comes in ([], late):
        await house.write(vehicles=comes)
        written += comes
        for start, end in windows:
            window = TimeRange(start=BEGIN + start * MINUTE, end=BEGIN + end * MINUTE)
            for bucket, zone in [("15m", "UTC"), ("1d", "UTC"), ("1d", "Asia/Kathmandu"), ("7m", "UTC")]:
                await check(house, written, window, buckets(window, bucket, zone))


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), arriving=samples())
def test_points_are_what_the_readings_say_at_every_moment_and_add_up_to_the_fleet(
    database_url: str, data: st.DataObject, arriving: list[Sample]
) -> None:
    async def run() -> None:
        async with opened(database_url) as house:
            house.clear()
            house.quiet_until(BEGIN)
            written: list[Sample] = []
            while len(written) < len(arriving):
                chunk = arriving[len(written) : len(written) + data.draw(st.integers(4, 8))]
                await house.write(
                    meters=[sample for sample in chunk if sample.device in DEVICES[METER]],
                    vehicles=[sample for sample in chunk if sample.device in DEVICES[VEHICLE]],
                )
                written += chunk
                if data.draw(st.booleans()):
                    await house.rollups.catch_up(BEGIN + timedelta(minutes=data.draw(st.integers(0, 24 * 60))))
                start, end = sorted(data.draw(st.tuples(MOMENTS, MOMENTS)))
                window = TimeRange(start=start, end=end + data.draw(st.sampled_from([MINUTE, HOUR, DAY])))
                zone = data.draw(st.sampled_from(["UTC", "Asia/Kathmandu", "America/St_Johns"]))
                await check(house, written, window, buckets(window, data.draw(BUCKETS), zone))

    asyncio.run(run())
