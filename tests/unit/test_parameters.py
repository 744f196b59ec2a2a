# ruff: noqa: SIM300 - expected == actual
"""Which window is asked for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from aiohttp.test_utils import make_mocked_request

from ingestd.http import parameters

DAY = timedelta(days=1)
NOON = datetime(2026, 11, 20, 12, 7, tzinfo=UTC)


def window(query: str) -> tuple[datetime, datetime]:
    found = parameters.question(make_mocked_request("GET", f"/?{query}"), parameters.Window).window()
    return found.start, found.end


def test_the_last_day_begins_at_a_whole_quarter_of_an_hour() -> None:
    before = datetime.now(UTC)

    start, end = window("")

    assert before <= end <= datetime.now(UTC)
    assert (0, 0, 0) == (start.minute % 15, start.second, start.microsecond)
    assert DAY <= end - start < DAY + timedelta(minutes=15)


def test_a_day_that_ends_when_it_is_said_begins_a_day_before() -> None:
    assert (NOON - DAY, NOON) == window("endTime=2026-11-20T12:07:00Z")


def test_what_begins_when_it_is_said_ends_now() -> None:
    start = datetime.now(UTC) - 3 * DAY

    found = window(f"startTime={start:%FT%TZ}")

    assert start.replace(microsecond=0) == found[0]
    assert pytest.approx(datetime.now(UTC).timestamp(), abs=60) == found[1].timestamp()
