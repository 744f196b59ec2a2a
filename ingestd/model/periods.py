"""Stretches of time by which figures are asked for: buckets of one length or of days, and the days to years of a zone.

Pure: which stretches there are is told here, what lies in them by the store.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final, Literal, TypeAlias

QUARTER: Final = timedelta(minutes=15)
DAY: Final = timedelta(days=1)
ALIGNED: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""A bucket begins here, and so do all others, before and after; those of whole days on this date of their zone."""
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
    """Both aware. A reading at the start belongs to what was before: it tells the energy before its timestamp."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class BucketLength:
    """Of which length the stretches are; told as `text`."""

    text: str
    length: timedelta

    @property
    def is_whole_quarters(self) -> bool:
        return self.length % QUARTER == timedelta()

    @property
    def is_whole_days(self) -> bool:
        """Then its days are those of a time zone, of 23 or 25 hours where clocks change."""
        return self.length % DAY == timedelta()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """One bucket."""

    start: datetime  # also where that was before the window
    within: TimeRange  # what of it lies in the window


def parse_bucket_length(text: str) -> BucketLength:
    """`30s`, `15m`, `1h`, `7d`. Raises ValueError."""
    matched = _match_bucket(text)
    if matched is not None:
        length = int(matched[1]) * _UNITS[matched[2]]
        if timedelta() < length <= LONGEST_BUCKET:
            return BucketLength(text, length)
    raise ValueError(BUCKET_RULE)


_LADDER: Final = tuple(
    map(parse_bucket_length, ["1s", "5s", "10s", "15s", "30s", "1m", "5m", "10m", "15m", "30m", "1h", "2h", "3h", "6h"])
)
"""The buckets people ask for. The last one fits the longest window there is."""


def smallest_bucket_length(window: TimeRange, *, at_least: timedelta = timedelta()) -> BucketLength:
    """The smallest of the usual buckets that makes no more than MOST_POINTS of a window of at most 366 days."""
    return next(
        bucket
        for bucket in _LADDER
        if bucket.length >= at_least and len(_numbers(window, bucket.length)) <= MOST_POINTS
    )


def points(window: TimeRange, bucket: BucketLength, zone: tzinfo) -> int:
    """How many stretches there are; those of a second in a year are counted without being made."""
    if bucket.is_whole_days:
        return len(buckets_of(window, bucket, zone))
    return len(_numbers(window, bucket.length))


def buckets_of(window: TimeRange, bucket: BucketLength, zone: tzinfo) -> list[Bucket]:
    """Those of which the window has a part, in order. Raises OverflowError at the calendar's ends.

    Whole days are days of the zone, as those of `periods`; any other length is the same in every zone.
    """
    if not bucket.is_whole_days:
        return [_of_length(bucket.length, number, window) for number in _numbers(window, bucket.length)]

    def first(day: date) -> date:
        return day - (day - ALIGNED.date()) % bucket.length

    parts = _parts(window, zone, first, longest=bucket.length)
    return [Bucket(start=_midnight(day, zone), within=part) for day, part in parts]


def last_day(now: datetime) -> TimeRange:
    """The last 24 hours and the quarter of an hour that is under way: from a whole quarter on."""
    return TimeRange(start=now - DAY - (now - ALIGNED) % QUARTER, end=now)


def _numbers(window: TimeRange, length: timedelta) -> range:
    """Of the buckets of which the window has a part; number 0 begins at ALIGNED."""
    return range((window.start - ALIGNED) // length, -((ALIGNED - window.end) // length))


def _of_length(length: timedelta, number: int, window: TimeRange) -> Bucket:
    start = ALIGNED + max(number * length, _EARLIEST - ALIGNED)
    end = ALIGNED + min((number + 1) * length, window.end - ALIGNED)
    return Bucket(start=start, within=TimeRange(start=max(start, window.start), end=end))


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """A day, week, month or year of a time zone, as far as it lies in the window asked for."""

    label: str  # 2026-03-29, 2026-W13, 2026-03, or 2026
    within: TimeRange


def periods(window: TimeRange, by: Calendar, zone: tzinfo) -> list[Period]:
    """Those of which the window has a part, in order. Raises OverflowError at the calendar's ends.

    A day begins at the first moment that has its date: also where clocks are put back past midnight or forward from it.
    A day that its zone left out (Pacific/Apia, 2011-12-30) is none. Weeks are those of ISO 8601: from Monday.
    """
    parts = _parts(window, zone, lambda day: _first(day, by), longest=_LONGEST[by])
    return [Period(label=_label(day, by), within=part) for day, part in parts]


def _parts(
    window: TimeRange, zone: tzinfo, first: Callable[[date], date], *, longest: timedelta
) -> Iterator[tuple[date, TimeRange]]:
    """The first day of each run of days, and what of the run lies in the window.

    `first` tells the first day of the run that a day belongs to; `longest` is the length of the longest run.
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
    """When the day begins: the first of two midnights; where clocks go past it, the moment when they do."""
    return datetime.combine(day, time(), zone).astimezone(UTC)


def _first(day: date, by: Calendar) -> date:
    """The first day of the period that this one belongs to."""
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
