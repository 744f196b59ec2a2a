# ruff: noqa: SIM300 - expected == actual
"""What a series may be asked for: the parameters `bucket` and `timeZone`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest
from aiohttp.test_utils import make_mocked_request

from ingestd.http import buckets, parameters
from ingestd.http.problems import Problem
from ingestd.model.periods import MOST_POINTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from ingestd.http.buckets import Asked, SeriesWindow

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
MIDNIGHT = datetime(2026, 11, 20, tzinfo=UTC)


def query(start: datetime, length: timedelta, **others: str) -> SeriesWindow:
    window = {"startTime": start.isoformat(), "endTime": (start + length).isoformat()}
    request = make_mocked_request("GET", f"/?{urlencode(window | others)}")
    return parameters.question(request, buckets.SeriesWindow)


def refused(asked: Callable[[SeriesWindow], Asked], question: SeriesWindow) -> tuple[str, dict[str, object]]:
    with pytest.raises(Problem) as caught:
        asked(question)
    assert 400 == caught.value.status
    return caught.value.detail, caught.value.members


@pytest.mark.parametrize("of", [buckets.of_device, buckets.of_fleet])
def test_whoever_asks_for_nothing_has_quarters_of_an_hour_in_utc(of: Callable[[SeriesWindow], Asked]) -> None:
    asked = of(query(MIDNIGHT, DAY))

    assert ("15m", "UTC", 96) == (asked.bucket.text, asked.zone.key, len(asked.buckets))


@pytest.mark.parametrize("of", [buckets.of_device, buckets.of_fleet])
def test_points_are_limited_by_their_exact_number(of: Callable[[SeriesWindow], Asked]) -> None:
    length = MOST_POINTS * 15 * MINUTE

    assert MOST_POINTS == len(of(query(MIDNIGHT, length, bucket="15m")).buckets)
    # With a part of one more:
    detail, members = refused(of, query(MIDNIGHT - MINUTE, length, bucket="15m"))
    assert "makes 2001 points of this window, at most 2000" in detail
    assert "bucket" == members["parameter"]


@pytest.mark.parametrize("of", [buckets.of_device, buckets.of_fleet])
def test_buckets_of_days_are_those_of_the_time_zone(of: Callable[[SeriesWindow], Asked]) -> None:
    asked = of(query(MIDNIGHT, 365 * DAY, bucket="1d", timeZone="America/St_Johns"))  # -03:30, in summer -02:30

    assert (366, "America/St_Johns") == (len(asked.buckets), asked.zone.key)
    assert MIDNIGHT - 20.5 * 60 * MINUTE == asked.buckets[0].start


def test_beyond_a_day_the_buckets_of_the_fleet_begin_at_quarters_of_an_hour() -> None:
    detail, members = refused(buckets.of_fleet, query(MIDNIGHT, DAY + MINUTE, bucket="20m"))
    assert "multiples of 15m" in detail
    assert {"parameter": "bucket", "smallestBucket": "15m"} == members

    then = MIDNIGHT.replace(year=1971)  # Monrovia was 44 min 30 s behind
    days = {"bucket": "1d", "timeZone": "Africa/Monrovia"}
    detail, members = refused(buckets.of_fleet, query(then, 2 * DAY, **days))
    assert "the days of Africa/Monrovia begin within a quarter of an hour" in detail
    assert {"parameter": "timeZone"} == members

    assert 3 == len(buckets.of_device(query(then, 2 * DAY, **days)).buckets)
    assert 2 == len(buckets.of_fleet(query(then, DAY, **days)).buckets)
    # Another bucket has nothing to do with the zone, and no day begins within the window here:
    assert 49 == len(buckets.of_fleet(query(then + MINUTE, 2 * DAY, **(days | {"bucket": "1h"}))).buckets)
    assert 1 == len(buckets.of_fleet(query(then + DAY, 2 * DAY, **(days | {"bucket": "60d"}))).buckets)


def test_where_the_calendar_of_the_zone_ends_is_said() -> None:
    detail, members = refused(
        buckets.of_device, query(MIDNIGHT.replace(year=9999, month=12, day=31), DAY / 2, bucket="1d")
    )

    assert "no calendar of UTC reaches" in detail
    assert {"parameter": "startTime"} == members
