# ruff: noqa: SIM300 - expected == actual
"""Energy of one device by days, weeks, months and years of a time zone."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import psycopg
import pytest

from ingestd.model.answers import Total
from ingestd.model.periods import TimeRange, periods
from ingestd.model.sessions import SessionRule
from ingestd.model.stream import METER, VEHICLE
from ingestd.store.series import Series
from tests.support.energy import Sample
from tests.support.harness import Harness, opened
from tests.support.stages import at_every_stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ingestd.model.answers import Answer
    from ingestd.model.periods import Calendar
    from ingestd.model.stream import Stream

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
async def harness(database_url: str) -> AsyncIterator[Harness]:
    async with opened(database_url) as harness:
        harness.clear()
        yield harness


def utc(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}Z")


async def answer(
    harness: Harness,
    window: TimeRange,
    by: Calendar,
    zone: str = "UTC",
    *,
    stream: Stream = VEHICLE,
    device: str = "v",
    history: timedelta | None = None,
) -> Answer[Total] | None:
    series = Series(harness.kept(history), session=SessionRule())
    return await series.totals(stream, device, window, periods(window, by, ZoneInfo(zone)))


async def totals(
    harness: Harness, window: TimeRange, by: Calendar, zone: str = "UTC", *, stream: Stream = VEHICLE
) -> list[tuple[str, float | None, int | None]]:
    found = await answer(harness, window, by, zone, stream=stream)
    assert found is not None
    assert None is found.reason
    return [(one.label, None if one.kwh is None else round(one.kwh, 6), one.samples) for one in found.items]


def hourly(start: str, hours: int) -> list[Sample]:
    """1 kWh in each hour, told at its end; at the start there is nothing to tell of."""
    sent = range(hours + 1)
    return [Sample(device="v", at=utc(start) + number * HOUR, interval=1.0 if number else 0.0) for number in sent]


async def test_a_reading_stamped_midnight_belongs_to_the_day_that_ended(harness: Harness) -> None:
    meter = [
        Sample(device="v", at=utc("2026-11-20T12:00:00"), interval=3.0),
        Sample(device="v", at=utc("2026-11-21T00:00:00"), interval=5.0),
    ]
    window = TimeRange(start=utc("2026-11-20T00:00:00"), end=utc("2026-11-22T00:00:00"))

    async def ask() -> list[tuple[str, float | None, int | None]]:
        return await totals(harness, window, "day", stream=METER)

    answers = await at_every_stage(harness, ask, now=utc("2026-11-22T02:00:00"), meters=meter)
    assert [[("2026-11-20", 8.0, 2), ("2026-11-21", None, 0)]] * 4 == answers


async def test_the_counter_of_a_charge_that_begins_again_at_0_counts_for_its_day(harness: Harness) -> None:
    charge = [round(0.1 + 0.2 * number, 6) for number in range(28)]  # up to 5.5
    start = utc("2026-11-20T18:00:00")
    vehicle = [Sample(device="v", at=start + n * MINUTE, register=value) for n, value in enumerate(charge)]
    vehicle += [Sample(device="v", at=start + DAY + n * MINUTE, register=value) for n, value in enumerate([0.1, 0.2])]
    window = TimeRange(start=utc("2026-11-20T00:00:00"), end=utc("2026-11-22T00:00:00"))

    async def ask() -> list[tuple[str, float | None, int | None]]:
        return await totals(harness, window, "day")

    answers = await at_every_stage(harness, ask, now=utc("2026-11-22T02:00:00"), vehicles=vehicle)
    assert [[("2026-11-20", 5.4, 28), ("2026-11-21", 0.2, 2)]] * 4 == answers


async def test_days_that_begin_within_an_hour_have_their_part_of_it(harness: Harness) -> None:
    """In Kathmandu, midnight is at 18:15Z: a quarter of the hour from 18:00 belongs to the day that ends."""
    first = utc("2026-03-28T00:00:00")
    window = TimeRange(start=first, end=first + 2 * DAY)

    async def ask() -> list[tuple[str, float | None]]:
        return [(day, kwh) for day, kwh, _ in await totals(harness, window, "day", "Asia/Kathmandu")]

    vehicle = hourly("2026-03-28T00:00:00", 2 * 24)
    assert [[("2026-03-28", 18.25), ("2026-03-29", 24.0), ("2026-03-30", 5.75)]] * 4 == await at_every_stage(
        harness, ask, now=first + 2 * DAY + 2 * HOUR, vehicles=vehicle
    )


async def test_months_are_those_of_the_time_zone(harness: Harness) -> None:
    """Of the hours around midnight of 1 April in Berlin, which is at 22:00Z."""
    await harness.write(vehicles=hourly("2026-03-31T20:00:00", 4))
    window = TimeRange(start=utc("2026-03-31T00:00:00"), end=utc("2026-06-02T00:00:00"))

    for is_closed in (False, True):
        if is_closed:
            await harness.close(utc("2026-04-01T04:00:00"))
        in_berlin = [(month, kwh) for month, kwh, _ in await totals(harness, window, "month", "Europe/Berlin")]
        in_utc = [(month, kwh) for month, kwh, _ in await totals(harness, window, "month")]

        assert [("2026-03", 2.0), ("2026-04", 2.0), ("2026-05", None), ("2026-06", None)] == in_berlin
        assert [("2026-03", 4.0), ("2026-04", None), ("2026-05", None), ("2026-06", None)] == in_utc


async def test_weeks_and_years_are_those_of_the_time_zone(harness: Harness) -> None:
    """Of the hours around midnight of Thursday, 1 January in Berlin, which is at 23:00Z, and of Monday."""
    await harness.write(vehicles=hourly("2025-12-31T20:00:00", 4) + hourly("2026-01-04T20:00:00", 4))
    window = TimeRange(start=utc("2025-12-29T12:00:00"), end=utc("2026-01-06T00:00:00"))

    for is_closed in (False, True):
        if is_closed:
            await harness.close(utc("2026-01-05T04:00:00"))
        weeks = [(week, kwh) for week, kwh, _ in await totals(harness, window, "week", "Europe/Berlin")]
        years = [(year, kwh) for year, kwh, _ in await totals(harness, window, "year", "Europe/Berlin")]

        assert [("2026-W01", 7.0), ("2026-W02", 1.0)] == weeks
        assert [("2025", 3.0), ("2026", 5.0)] == years


async def test_a_day_that_its_zone_left_out_is_none(harness: Harness) -> None:
    """In Apia, 29 December ended at 10:00Z, and 31 December began."""
    await harness.write(vehicles=hourly("2011-12-29T10:00:00", 3 * 24))
    window = TimeRange(start=utc("2011-12-29T10:00:00"), end=utc("2012-01-01T10:00:00"))

    for is_closed in (False, True):
        if is_closed:
            await harness.close(utc("2012-01-01T12:00:00"))
        days = [(day, kwh) for day, kwh, _ in await totals(harness, window, "day", "Pacific/Apia")]
        assert [("2011-12-29", 24.0), ("2011-12-31", 24.0), ("2012-01-01", 24.0)] == days


async def test_a_year_of_days_adds_up_to_the_year(harness: Harness) -> None:
    await harness.write(vehicles=hourly("2026-01-10T00:00:00", 10 * 24))
    await harness.close(utc("2026-01-16T07:00:00"))  # half of it
    window = TimeRange(start=utc("2026-01-01T00:00:00"), end=utc("2027-01-01T00:00:00"))

    days = await totals(harness, window, "day", "America/St_Johns")
    (*_, year) = await totals(harness, window, "year", "America/St_Johns")

    assert ("2026", 240.0) == year[:2]
    assert 240.0 == sum(kwh or 0.0 for _, kwh, _ in days)


async def test_who_has_neither_reported_nor_been_mapped_is_unknown(harness: Harness) -> None:
    window = TimeRange(start=utc("2026-11-20T00:00:00"), end=utc("2026-11-21T00:00:00"))
    await harness.map("expected", "meter", window.start)

    assert None is await answer(harness, window, "day", device="nobody")
    found = await answer(harness, window, "day", device="expected")
    assert found is not None
    assert [Total(label="2026-11-20", within=window, kwh=None, samples=0)] == found.items


async def test_behind_the_retention_of_history_whole_days_are_told_and_parts_of_a_quarter_are_not(
    harness: Harness,
) -> None:
    await harness.write(vehicles=hourly("2026-01-10T00:00:00", 3 * 24))
    await harness.close(utc("2026-01-13T02:00:00"))
    with psycopg.connect(harness.url, autocommit=True) as connection:
        connection.execute("DELETE FROM vehicle_history")
    window = TimeRange(start=utc("2026-01-10T05:05:00"), end=utc("2026-01-13T00:00:00"))

    found = await answer(harness, window, "day", history=DAY)

    assert found is not None
    assert [("2026-01-10", None, None), ("2026-01-11", 24.0, 24), ("2026-01-12", 24.0, 24)] == [
        (one.label, one.kwh, one.samples) for one in found.items
    ]
    assert found.reason is not None
    assert "no longer kept" in found.reason


async def test_totals_add_up_to_the_dc_of_the_performance_and_sessions_to_its_ac(harness: Harness) -> None:
    start = utc("2026-11-20T18:00:00")
    charge = range(1, 241)  # over midnight
    await harness.map("v", "m", start)
    await harness.write(
        vehicles=[Sample(device="v", at=start, interval=0.0)]
        + [Sample(device="v", at=start + (180 + n) * MINUTE, interval=0.17) for n in (0, *charge)],
        meters=[Sample(device="m", at=start + n * MINUTE, interval=0.2 if n > 180 else 0.0) for n in range(421)],
    )
    window = TimeRange(start=start + 7 * MINUTE, end=start + 8 * HOUR)
    series = Series(harness.snapshots, session=SessionRule())

    for is_closed in (False, True):
        if is_closed:
            await harness.close(start + 10 * HOUR)
        performance = await harness.performance("v", window.start, window.end)
        days = await totals(harness, window, "day")
        sessions = await series.sessions("v", window)

        assert sessions is not None
        assert pytest.approx(performance.dc_kwh) == sum(kwh or 0.0 for _, kwh, _ in days)
        assert pytest.approx(performance.dc_kwh) == sum(one.dc_kwh for one in sessions.items)
        assert pytest.approx(performance.ac_kwh) == sum(one.ac_kwh for one in sessions.items)
