"""Stretches of time by which figures are asked for: buckets of one length, and the days to years of a time zone.

Pure: which stretches there are is told here, what lies in them by the store.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final, Literal, TypeAlias

from ingestd.analytics import TimeRange

QUARTER: Final = timedelta(minutes=15)
ALIGNED: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""A bucket begins here, and so do all others, before and after."""
MOST_POINTS: Final = 2000
LONGEST_BUCKET: Final = timedelta(days=366)
BUCKET_RULE: Final = f"a whole number and one of s, m, h, d, such as 15m; at most {LONGEST_BUCKET.days}d"

Calendar: TypeAlias = Literal["day", "week", "month", "year"]
CALENDARS: Final[tuple[Calendar, ...]] = ("day", "week", "month", "year")

_UNITS: Final = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_match_bucket: Final = re.compile(r"([0-9]{1,9})([smhd])").fullmatch


@dataclass(frozen=True, slots=True)
class Bucket:
    """Stretches of one length, told as `text`."""

    text: str
    length: timedelta

    @property
    def whole_quarters(self) -> bool:
        """Whether the rollups, which are made by the quarter of an hour, can be added up to it."""
        return self.length % QUARTER == timedelta()

    def points(self, window: TimeRange) -> int:
        """How many buckets have a part in the window."""
        first = (window.start - ALIGNED) // self.length
        last = -((ALIGNED - window.end) // self.length)
        return last - first


def parse_bucket(text: str) -> Bucket:
    """`30s`, `15m`, `1h`, `7d`. Raises ValueError."""
    matched = _match_bucket(text)
    if matched is not None:
        length = int(matched[1]) * _UNITS[matched[2]]
        if timedelta() < length <= LONGEST_BUCKET:
            return Bucket(text, length)
    raise ValueError(BUCKET_RULE)


_LADDER: Final = tuple(
    map(parse_bucket, ["1s", "5s", "10s", "15s", "30s", "1m", "5m", "10m", "15m", "30m", "1h", "2h", "3h", "6h"])
)
"""The buckets people ask for. The last one fits the longest window there is."""


def smallest_bucket(window: TimeRange, *, at_least: timedelta = timedelta()) -> Bucket:
    """The smallest of the usual buckets that makes no more than MOST_POINTS of a window of at most 366 days."""
    return next(bucket for bucket in _LADDER if bucket.length >= at_least and bucket.points(window) <= MOST_POINTS)


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
    found = []
    first = _first(window.start.astimezone(zone).date(), by)
    start = window.start
    while start < window.end:
        following = _following(first, by)
        end = min(_midnight(following, zone), window.end)
        if start < end:
            found.append(Period(label=_label(first, by), within=TimeRange(start=start, end=end)))
            start = end
        first = following
    return found


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


_LONGEST_DAYS: Final[dict[Calendar, int]] = {"day": 1, "week": 7, "month": 31, "year": 366}


def _following(first: date, by: Calendar) -> date:
    return _first(first + timedelta(days=_LONGEST_DAYS[by]), by)


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
