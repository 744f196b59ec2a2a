"""The parameters `bucket` and `timeZone`, and the stretches of the window that they make."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Final, TypeAlias
from zoneinfo import ZoneInfo

from pydantic import PlainValidator, WithJsonSchema

from ingestd.http.parameters import Window
from ingestd.http.problems import Problem, bad_parameter
from ingestd.model.periods import (
    ALIGNED,
    BUCKET_RULE,
    DAY,
    MOST_POINTS,
    QUARTER,
    Bucket,
    BucketLength,
    TimeRange,
    buckets_of,
    parse_bucket_length,
    points,
    smallest_bucket_length,
)


def _zone(name: object) -> ZoneInfo:
    fault = ValueError("a name of the IANA time zone database, such as Europe/Berlin")
    # All names begin with a capital. Other files in the same directory, such as localtime, do not.
    if not isinstance(name, str) or not name[:1].isupper():
        raise fault
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise fault from error


def _bucket_length(text: object) -> BucketLength:
    return parse_bucket_length(str(text))


_ZONE_SCHEMA: Final = {"type": "string", "description": "a name of the IANA time zone database", "default": "UTC"}
Zone: TypeAlias = Annotated[ZoneInfo, PlainValidator(_zone), WithJsonSchema(_ZONE_SCHEMA)]
_BUCKET_SCHEMA: Final = {"type": "string", "pattern": "^[0-9]{1,9}[smhd]$", "description": BUCKET_RULE}


class SeriesWindow(Window):
    """The window of a series, and the length of its buckets."""

    bucket: Annotated[BucketLength, PlainValidator(_bucket_length), WithJsonSchema(_BUCKET_SCHEMA)] | None = None
    time_zone: Zone = ZoneInfo("UTC")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The question for a series: the window, the buckets, the time zone."""

    window: TimeRange
    bucket: BucketLength
    zone: ZoneInfo
    buckets: Sequence[Bucket]


def of_device(series: SeriesWindow) -> Asked:
    """Buckets of any length that makes at most MOST_POINTS points."""
    return _asked(series, series.window(), at_least=timedelta())


def of_fleet(series: SeriesWindow) -> Asked:
    """For a window of more than a day, all buckets begin at a quarter: then they are sums of rows of the ledger."""
    window = series.window()
    if window.end - window.start <= DAY:
        return _asked(series, window, at_least=timedelta())
    asked = _asked(series, window, at_least=QUARTER)
    if not asked.bucket.is_whole_quarters:
        raise _bad_bucket("over more than a day the fleet's buckets are multiples of 15m", window, at_least=QUARTER)
    if any((bucket.start - ALIGNED) % QUARTER for bucket in asked.buckets[1:]):
        raise bad_parameter(
            "timeZone",
            f"in this window, the days of {asked.zone.key} begin within a quarter of an hour (UTC);"
            " over more than a day the fleet's buckets begin at a whole one",
        )
    return asked


def too_fine(fault: str, window: TimeRange) -> Problem:
    """Refuse buckets (400) for which too many readings would be read. Whole quarters are in rows of the ledger."""
    return _bad_bucket(fault, window, at_least=QUARTER)


def no_calendar(zone: ZoneInfo) -> Problem:
    """Refuse a window (400) that is not within the years 1 to 9999 in the time zone."""
    return bad_parameter("startTime", f"no calendar of {zone.key} reaches from there to the end of the window")


def _asked(series: SeriesWindow, window: TimeRange, *, at_least: timedelta) -> Asked:
    """Without `bucket`: a quarter of an hour, or longer if that would make too many points."""
    bucket, zone = series.bucket or smallest_bucket_length(window, at_least=QUARTER), series.time_zone
    try:
        if (number := points(window, bucket, zone)) > MOST_POINTS:
            fault = f"makes {number} points of this window, at most {MOST_POINTS}"
            raise _bad_bucket(fault, window, at_least=at_least)
        return Asked(window=window, bucket=bucket, zone=zone, buckets=buckets_of(window, bucket, zone))
    except OverflowError as error:
        raise no_calendar(zone) from error


def _bad_bucket(fault: str, window: TimeRange, *, at_least: timedelta) -> Problem:
    smallest = smallest_bucket_length(window, at_least=at_least)
    return bad_parameter(
        "bucket", f"{fault}; the smallest usual one that will do is {smallest.text}", smallestBucket=smallest.text
    )
