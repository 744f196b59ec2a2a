# ruff: noqa: SIM300 - expected == actual
"""Which buckets, days and months a window has a part in."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.model.periods import (
    ALIGNED,
    CALENDARS,
    MOST_POINTS,
    Bucket,
    BucketLength,
    Calendar,
    TimeRange,
    buckets_of,
    parse_bucket_length,
    periods,
    points,
    smallest_bucket_length,
)

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
YEAR = timedelta(days=366)
BERLIN = ZoneInfo("Europe/Berlin")
QUARTERS = parse_bucket_length("15m")

MOMENTS = st.datetimes(datetime(1960, 1, 1), datetime(2060, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - their bounds have none
LENGTHS = st.timedeltas(timedelta(microseconds=1), YEAR)


ZONES = st.sampled_from(
    [
        "UTC",
        "Europe/Berlin",
        "Asia/Kathmandu",
        "America/Santiago",
        "Atlantic/Azores",
        "Pacific/Chatham",
        "Australia/Lord_Howe",  # by half an hour
        "Africa/Cairo",  # at midnight
        "Pacific/Apia",  # by a day, in 2011
    ]
)


def window(start: datetime, length: timedelta) -> TimeRange:
    return TimeRange(start=start, end=start + length)


def hours(window: TimeRange) -> float:
    return (window.end - window.start) / HOUR


def utc(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}Z")


@pytest.mark.parametrize(
    ("text", "length"),
    [("1s", timedelta(seconds=1)), ("90m", 90 * MINUTE), ("24h", 24 * HOUR), ("366d", YEAR), ("0015m", 15 * MINUTE)],
)
def test_a_bucket_is_a_whole_number_and_a_unit(text: str, length: timedelta) -> None:
    assert BucketLength(text, length) == parse_bucket_length(text)


@pytest.mark.parametrize(
    "text",
    ["", "m", "15", "0s", "-1m", "1.5h", "15min", "15M", "1w", " 15m", "367d", "999999999d", "9999999999s", "\u0661m"],
)
def test_nothing_else_is_a_bucket(text: str) -> None:
    with pytest.raises(ValueError, match="such as 15m"):
        parse_bucket_length(text)


@pytest.mark.parametrize(
    ("text", "whole"), [("15m", True), ("90m", True), ("1d", True), ("20m", False), ("30s", False)]
)
def test_some_buckets_are_made_of_whole_quarters(text: str, whole: bool) -> None:  # noqa: FBT001 - a parameter of the test
    assert whole == parse_bucket_length(text).is_whole_quarters


@pytest.mark.parametrize(("text", "whole"), [("1d", True), ("24h", True), ("7d", True), ("23h", False), ("36h", False)])
def test_some_buckets_are_made_of_whole_days(text: str, whole: bool) -> None:  # noqa: FBT001 - a parameter of the test
    assert whole == parse_bucket_length(text).is_whole_days


@pytest.mark.parametrize(
    ("start", "end", "number"),
    [
        ("2026-11-20T10:00:00", "2026-11-20T11:00:00", 4),
        ("2026-11-20T10:07:00", "2026-11-20T11:00:00", 4),  # the first in part
        ("2026-11-20T10:07:00", "2026-11-20T11:00:01", 5),  # the last as well
        ("2026-11-20T10:07:00", "2026-11-20T10:08:00", 1),
        ("1969-12-31T23:59:00", "1970-01-01T00:01:00", 2),
    ],
)
def test_every_bucket_with_a_part_in_the_window_is_a_point(start: str, end: str, number: int) -> None:
    asked = TimeRange(start=utc(start), end=utc(end))

    assert number == points(asked, QUARTERS, UTC) == len(buckets_of(asked, QUARTERS, UTC))


def test_buckets_of_a_second_are_counted_without_being_made() -> None:
    assert 366 * 86_400 == points(window(utc("2026-01-01T00:00:00"), YEAR), parse_bucket_length("1s"), UTC)


def test_a_bucket_is_named_by_its_start_also_where_that_was_before_the_window() -> None:
    asked = TimeRange(start=utc("2026-11-20T10:07:00"), end=utc("2026-11-20T10:20:00"))
    quarter = utc("2026-11-20T10:15:00")

    assert [
        Bucket(start=utc("2026-11-20T10:00:00"), within=TimeRange(start=asked.start, end=quarter)),
        Bucket(start=quarter, within=TimeRange(start=quarter, end=asked.end)),
    ] == buckets_of(asked, QUARTERS, BERLIN)


@given(start=MOMENTS, length=st.timedeltas(timedelta(microseconds=1), timedelta(hours=5)), minutes=st.integers(1, 100))
def test_a_bucket_shorter_than_a_day_knows_no_zone(start: datetime, length: timedelta, minutes: int) -> None:
    bucket, asked = parse_bucket_length(f"{minutes}m"), window(start, length)
    begin = start - (start - ALIGNED) % bucket.length

    found = buckets_of(asked, bucket, ZoneInfo("Asia/Kathmandu"))

    made = [begin + number * bucket.length for number in range(400) if begin + number * bucket.length < asked.end]
    assert made == [one.start for one in found]
    assert len(made) == points(asked, bucket, UTC)
    assert [max(made[0], asked.start), *made[1:]] == [one.within.start for one in found]
    assert [*made[1:], asked.end] == [one.within.end for one in found]


@pytest.mark.parametrize("start", ["0001-01-01T00:00:00", "9999-12-31T00:00:00"])
def test_a_bucket_may_go_on_beyond_the_calendar(start: str) -> None:
    asked = window(utc(start), 20 * HOUR)

    (found,) = buckets_of(asked, parse_bucket_length("8000h"), UTC)

    assert asked == found.within


CHANGES = st.sampled_from(
    [
        ("Europe/Berlin", "2026-03-29T01:00:00"),
        ("Europe/Berlin", "2026-10-25T01:00:00"),
        ("Australia/Lord_Howe", "2026-04-04T15:00:00"),  # by half an hour
        ("Australia/Lord_Howe", "2026-10-03T15:30:00"),
        ("America/St_Johns", "2010-03-14T03:31:00"),  # at 00:01
        ("America/St_Johns", "2010-11-07T02:31:00"),  # at 00:01, into the day before
        ("America/St_Johns", "2026-11-01T04:30:00"),
        ("Pacific/Apia", "2011-12-30T10:00:00"),  # by a day
        ("Africa/Cairo", "2026-04-23T22:00:00"),  # there is no midnight
        ("Africa/Cairo", "2026-10-29T21:00:00"),  # from midnight
    ]
)
"""Zones, and moments at which their clocks are changed."""


@given(
    change=CHANGES,
    before=st.timedeltas(timedelta(), timedelta(days=4)),
    length=st.timedeltas(timedelta(microseconds=1), timedelta(days=8)),
    days=st.integers(1, 9),
)
def test_buckets_of_days_make_up_the_window_and_are_those_of_the_zone(
    change: tuple[str, str], before: timedelta, length: timedelta, days: int
) -> None:
    zone, bucket = ZoneInfo(change[0]), parse_bucket_length(f"{days}d")
    asked = window(utc(change[1]) - before, length)

    found = buckets_of(asked, bucket, zone)

    parts = [one.within for one in found]
    assert (asked.start, asked.end) == (parts[0].start, parts[-1].end)
    assert all(one.end == following.start for one, following in pairwise(parts))
    assert all(part.start < part.end for part in parts)
    assert found[0].start <= asked.start
    assert [part.start for part in parts[1:]] == [one.start for one in found[1:]]
    assert len(found) == points(asked, bucket, zone)

    # Each begins at midnight, or where clocks go past it, with the first of its dates.
    for one in found:
        day = one.start.astimezone(zone)
        before_it = (one.start - timedelta(microseconds=1)).astimezone(zone)
        assert before_it.date() < day.date()
        assert (day.hour, day.minute) == (0, 0) or before_it.utcoffset() != day.utcoffset()
        left_out = (one.start, day.date()) == (utc("2011-12-30T10:00:00"), date(2011, 12, 31))
        assert (day.date() - date(1970, 1, 1)).days % days == 0 or left_out

    # No date in it belongs to another.
    at = asked.start
    while at < asked.end:
        (its,) = (one for one in found if one.within.start <= at < one.within.end)
        dates = (at.astimezone(zone).date() - its.start.astimezone(zone).date()).days
        assert -1 <= dates < days if "St_Johns" in zone.key else 0 <= dates < days
        at += timedelta(minutes=97)


@given(
    change=CHANGES,
    starts=st.lists(st.timedeltas(-timedelta(days=5), timedelta(days=5)), min_size=2, max_size=2),
    days=st.integers(1, 5),
)
def test_all_windows_agree_on_the_buckets(change: tuple[str, str], starts: list[timedelta], days: int) -> None:
    zone, bucket = ZoneInfo(change[0]), parse_bucket_length(f"{days}d")
    until = utc(change[1]) + timedelta(days=12)

    one, other = (
        [one.start for one in buckets_of(TimeRange(start=utc(change[1]) + start, end=until), bucket, zone)]
        for start in sorted(starts)
    )

    assert one[-len(other) :] == other


def test_a_day_that_its_zone_left_out_is_no_bucket() -> None:
    asked = TimeRange(start=utc("2011-12-29T10:00:00"), end=utc("2012-01-01T10:00:00"))

    found = buckets_of(asked, parse_bucket_length("1d"), ZoneInfo("Pacific/Apia"))

    days = ["2011-12-29T10:00:00", "2011-12-30T10:00:00", "2011-12-31T10:00:00"]  # the 29th, the 31st, the 1st
    assert [utc(day) for day in days] == [one.start for one in found]
    assert [24, 24, 24] == [hours(one.within) for one in found]


def test_buckets_of_days_have_an_hour_less_or_more_where_clocks_change() -> None:
    spring = TimeRange(start=utc("2026-03-27T23:00:00"), end=utc("2026-03-30T22:00:00"))
    autumn = TimeRange(start=utc("2026-10-23T22:00:00"), end=utc("2026-10-26T23:00:00"))

    assert [24, 23, 24] == [hours(one.within) for one in buckets_of(spring, parse_bucket_length("1d"), BERLIN)]
    assert [24, 25, 24] == [hours(one.within) for one in buckets_of(autumn, parse_bucket_length("24h"), BERLIN)]


@given(start=MOMENTS, length=LENGTHS, zone=ZONES)
def test_buckets_of_one_day_are_the_days_of_totals(start: datetime, length: timedelta, zone: str) -> None:
    asked = window(start, length)

    found = buckets_of(asked, parse_bucket_length("1d"), ZoneInfo(zone))

    assert [day.within for day in periods(asked, "day", ZoneInfo(zone))] == [one.within for one in found]


@given(start=MOMENTS, length=LENGTHS, at_least=st.sampled_from([timedelta(), 15 * MINUTE]))
def test_there_is_always_a_bucket_that_is_not_too_small(
    start: datetime, length: timedelta, at_least: timedelta
) -> None:
    bucket = smallest_bucket_length(window(start, length), at_least=at_least)

    assert points(window(start, length), bucket, UTC) <= MOST_POINTS
    assert bucket.length >= at_least


@pytest.mark.parametrize(
    ("length", "bucket"), [(HOUR, "5s"), (33 * HOUR, "1m"), (timedelta(days=7), "10m"), (YEAR, "6h")]
)
def test_the_smallest_bucket_is_one_that_people_ask_for(length: timedelta, bucket: str) -> None:
    assert bucket == smallest_bucket_length(window(utc("2026-01-01T00:00:00"), length)).text


def test_a_day_has_23_hours_when_summer_time_begins_and_25_when_it_ends() -> None:
    spring = periods(TimeRange(start=utc("2026-03-27T23:00:00"), end=utc("2026-03-30T22:00:00")), "day", BERLIN)
    autumn = periods(TimeRange(start=utc("2026-10-23T22:00:00"), end=utc("2026-10-26T23:00:00")), "day", BERLIN)

    # Midnight in Berlin is at 23:00Z in winter and at 22:00Z in summer.
    assert [("2026-03-28", 24), ("2026-03-29", 23), ("2026-03-30", 24)] == [(p.label, hours(p.within)) for p in spring]
    assert TimeRange(start=utc("2026-03-28T23:00:00"), end=utc("2026-03-29T22:00:00")) == spring[1].within
    assert [("2026-10-24", 24), ("2026-10-25", 25), ("2026-10-26", 24)] == [(p.label, hours(p.within)) for p in autumn]
    assert TimeRange(start=utc("2026-10-24T22:00:00"), end=utc("2026-10-25T23:00:00")) == autumn[1].within


def test_a_month_with_a_change_of_the_clocks_is_an_hour_shorter_or_longer() -> None:
    found = periods(TimeRange(start=utc("2026-02-28T23:00:00"), end=utc("2026-10-31T23:00:00")), "month", BERLIN)

    assert ["2026-03", "2026-04", "2026-05", "2026-06", "2026-07", "2026-08", "2026-09", "2026-10"] == [
        period.label for period in found
    ]
    assert (31 * 24 - 1, 30 * 24, 31 * 24 + 1) == (
        hours(found[0].within),
        hours(found[1].within),
        hours(found[-1].within),
    )


def test_a_zone_may_be_three_quarters_of_an_hour_off() -> None:
    found = periods(window(utc("2026-11-20T12:00:00"), 12 * HOUR), "day", ZoneInfo("Asia/Kathmandu"))  # +05:45

    assert [("2026-11-20", utc("2026-11-20T18:15:00")), ("2026-11-21", utc("2026-11-21T00:00:00"))] == [
        (period.label, period.within.end) for period in found
    ]


@pytest.mark.parametrize(
    ("zone", "day", "begins", "length"),
    [
        # Clocks go from 01:00 back to 00:00, so the date begins with the first of two midnights.
        ("Atlantic/Azores", "2026-10-25", "2026-10-25T00:00:00", 25),
        # Clocks go from 24:00 back to 23:00, and the day goes on.
        ("America/Santiago", "2026-04-04", "2026-04-04T03:00:00", 25),
        # Clocks go from 00:00 forward to 01:00: there is no midnight.
        ("America/Santiago", "2026-09-06", "2026-09-06T04:00:00", 23),
    ],
)
def test_a_day_begins_with_the_first_moment_of_its_date(zone: str, day: str, begins: str, length: int) -> None:
    around = window(utc(f"{day}T00:00:00") - timedelta(days=1), timedelta(days=3))

    (found,) = (period for period in periods(around, "day", ZoneInfo(zone)) if period.label == day)

    assert (utc(begins), length) == (found.within.start, hours(found.within))


def test_a_week_is_that_of_iso_8601_and_a_year_may_begin_within_one() -> None:
    around = TimeRange(start=utc("2026-12-20T00:00:00"), end=utc("2027-01-12T00:00:00"))

    weeks, years = (periods(around, by, ZoneInfo("UTC")) for by in ("week", "year"))

    assert ["2026-W51", "2026-W52", "2026-W53", "2027-W01", "2027-W02"] == [week.label for week in weeks]
    assert utc("2027-01-04T00:00:00") == weeks[3].within.start
    assert [("2026", 12 * 24), ("2027", 11 * 24)] == [(year.label, hours(year.within)) for year in years]


def test_a_day_that_its_zone_left_out_is_none() -> None:
    around = TimeRange(start=utc("2011-12-29T10:00:00"), end=utc("2012-01-01T10:00:00"))

    found = periods(around, "day", ZoneInfo("Pacific/Apia"))

    assert [("2011-12-29", 24), ("2011-12-31", 24), ("2012-01-01", 24)] == [
        (day.label, hours(day.within)) for day in found
    ]


@pytest.mark.parametrize("start", ["02:25", "02:30", "02:45", "03:29", "03:30"])
def test_a_day_goes_on_where_clocks_are_put_back_into_the_day_before(start: str) -> None:
    """In St. John's, at 00:01 (02:31Z) of 7 November 2010, to 23:01: the day began a minute before that."""
    asked = window(utc(f"2010-11-07T{start}:00"), 3 * HOUR)
    midnight = utc("2010-11-07T02:30:00")

    found = periods(asked, "day", ZoneInfo("America/St_Johns"))

    whole_day = [("2010-11-07", TimeRange(start=max(midnight, asked.start), end=asked.end))]
    before = [("2010-11-06", TimeRange(start=asked.start, end=midnight))] if asked.start < midnight else []
    assert before + whole_day == [(day.label, day.within) for day in found]


@given(start=MOMENTS, length=LENGTHS, zone=ZONES, by=st.sampled_from(CALENDARS))
def test_periods_make_up_the_window(start: datetime, length: timedelta, zone: str, by: Calendar) -> None:
    asked = window(start, length)

    found = periods(asked, by, ZoneInfo(zone))

    assert (asked.start, asked.end) == (found[0].within.start, found[-1].within.end)
    assert all(one.within.end == next_.within.start and one.label < next_.label for one, next_ in pairwise(found))
    for period in found:
        assert period.within.start < period.within.end
        first = period.within.start.astimezone(ZoneInfo(zone)).date()
        year, week, _ = first.isocalendar()
        assert f"{year:04}-W{week:02}" == period.label if by == "week" else first.isoformat().startswith(period.label)


@pytest.mark.parametrize("start", ["0001-01-01T00:00:00", "9999-12-31T00:00:00"])
def test_where_the_calendar_ends_is_an_error(start: str) -> None:
    zone = ZoneInfo("America/New_York")

    with pytest.raises(OverflowError):
        periods(window(utc(start), 20 * HOUR), "day", zone)
    with pytest.raises(OverflowError):
        buckets_of(window(utc(start), 20 * HOUR), parse_bucket_length("1d"), zone)
