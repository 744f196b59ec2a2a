"""Divides a window into buckets of one length, or into the days, weeks, months or years of a time zone.

Pure. The store reads the energy of each bucket or period.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final, Literal, TypeAlias

QUARTER: Final = timedelta(minutes=15)
DAY: Final = timedelta(days=1)
ALIGNED: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""Buckets are counted from this time; those of whole days from this date in their time zone."""
_EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
MOST_POINTS: Final = 2000
LONGEST_BUCKET: Final = timedelta(days=366)
BUCKET_RULE: Final = f"a whole number and one of s, m, h, d, such as 15m; at most {LONGEST_BUCKET.days}d"

Calendar: TypeAlias = Literal["day", "week", "month", "year"]
CALENDARS: Final[tuple[Calendar, ...]] = ("day", "week", "month", "year")

_UNITS: Final = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_match_bucket: Final = re.compile(r"([0-9]{1,9})([smhd])").fullmatch


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeRange:
    """Both are aware datetimes. A reading at the start is not in the range: its energy lies before its timestamp."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class BucketLength:
    """The length of buckets; `text` as in the parameter `bucket`, such as 15m."""

    text: str
    length: timedelta

    @property
    def is_whole_quarters(self) -> bool:
        return self.length % QUARTER == timedelta()

    @property
    def is_whole_days(self) -> bool:
        """If so, the days are those of a time zone, with 23 or 25 hours when clocks change."""
        return self.length % DAY == timedelta()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """One bucket of a window."""

    start: datetime  # may be before the window
    within: TimeRange  # its part in the window


def parse_bucket_length(text: str) -> BucketLength:
    """The length of `30s`, `15m`, `1h`, `7d`. Raises ValueError."""
    matched = _match_bucket(text)
    if matched is not None:
        length = int(matched[1]) * _UNITS[matched[2]]
        if timedelta() < length <= LONGEST_BUCKET:
            return BucketLength(text, length)
    raise ValueError(BUCKET_RULE)


_LADDER: Final = tuple(
    map(parse_bucket_length, ["1s", "5s", "10s", "15s", "30s", "1m", "5m", "10m", "15m", "30m", "1h", "2h", "3h", "6h"])
)
"""The usual buckets. The last one is long enough for the longest window."""


def smallest_bucket_length(window: TimeRange, *, at_least: timedelta = timedelta()) -> BucketLength:
    """The smallest usual bucket that makes at most MOST_POINTS buckets of a window of at most 366 days."""
    return next(
        bucket
        for bucket in _LADDER
        if bucket.length >= at_least and len(_numbers(window, bucket.length)) <= MOST_POINTS
    )


def points(window: TimeRange, bucket: BucketLength, zone: tzinfo) -> int:
    """The number of buckets in a window. Only buckets of whole days are made to be counted."""
    if bucket.is_whole_days:
        return len(buckets_of(window, bucket, zone))
    return len(_numbers(window, bucket.length))


def buckets_of(window: TimeRange, bucket: BucketLength, zone: tzinfo) -> list[Bucket]:
    """The buckets that overlap the window, in order. Raises OverflowError beyond the years 1 to 9999.

    Buckets of whole days consist of days of the zone, as in `periods`. Others do not depend on the zone.
    """
    if not bucket.is_whole_days:
        return [_of_length(bucket.length, number, window) for number in _numbers(window, bucket.length)]

    def first(day: date) -> date:
        return day - (day - ALIGNED.date()) % bucket.length

    parts = _parts(window, zone, first, longest=bucket.length)
    return [Bucket(start=_midnight(day, zone), within=part) for day, part in parts]


def last_day(now: datetime) -> TimeRange:
    """The last 24 hours, extended back to a whole quarter of an hour."""
    return TimeRange(start=now - DAY - (now - ALIGNED) % QUARTER, end=now)


def _numbers(window: TimeRange, length: timedelta) -> range:
    """The numbers of the buckets that overlap the window; number 0 begins at ALIGNED."""
    return range((window.start - ALIGNED) // length, -((ALIGNED - window.end) // length))


def _of_length(length: timedelta, number: int, window: TimeRange) -> Bucket:
    start = ALIGNED + max(number * length, _EARLIEST - ALIGNED)
    end = ALIGNED + min((number + 1) * length, window.end - ALIGNED)
    return Bucket(start=start, within=TimeRange(start=max(start, window.start), end=end))


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """A day, week, month or year of a time zone, or its part in the window."""

    label: str  # 2026-03-29, 2026-W13, 2026-03, or 2026
    within: TimeRange


def periods(window: TimeRange, by: Calendar, zone: tzinfo) -> list[Period]:
    """The periods that overlap the window, in order. Raises OverflowError beyond the years 1 to 9999.

    A day begins at the first time that has its date, also if clocks change at midnight. A day that a zone left out
    (Pacific/Apia, 2011-12-30) does not exist. Weeks are those of ISO 8601: they begin on Monday.
    """
    parts = _parts(window, zone, lambda day: _first(day, by), longest=_LONGEST[by])
    return [Period(label=_label(day, by), within=part) for day, part in parts]


def _parts(
    window: TimeRange, zone: tzinfo, first: Callable[[date], date], *, longest: timedelta
) -> Iterator[tuple[date, TimeRange]]:
    """The first day of each run of days, and the run's part in the window.

    `first` returns the first day of the run that a day belongs to; `longest` is the length of the longest run.
    """
    day = first(window.start.astimezone(zone).date())
    start = window.start
    while start < window.end:
        next_day = first(day + longest)
        end = min(_midnight(next_day, zone), window.end)
        if start < end:
            yield day, TimeRange(start=start, end=end)
            start = end
        day = next_day


def _midnight(day: date, zone: tzinfo) -> datetime:
    """The start of the day: the first of two midnights, or the time of the change if clocks skip midnight."""
    return datetime.combine(day, time(), zone).astimezone(UTC)


def _first(day: date, by: Calendar) -> date:
    """The first day of the period that a day belongs to."""
    match by:
        case "day":
            return day
        case "week":
            return day - timedelta(days=day.weekday())
        case "month":
            return day.replace(day=1)
        case "year":
            return day.replace(month=1, day=1)


_LONGEST: Final[dict[Calendar, timedelta]] = {"day": DAY, "week": 7 * DAY, "month": 31 * DAY, "year": 366 * DAY}


def _label(first: date, by: Calendar) -> str:
    match by:
        case "day":
            return first.isoformat()
        case "week":
            year, week, _ = first.isocalendar()
            return f"{year:04}-W{week:02}"
        case "month":
            return first.isoformat()[:7]
        case "year":
            return first.isoformat()[:4]
