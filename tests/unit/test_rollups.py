"""When rollups and running totals are looked after."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ingestd.store.rollups import TOTALS_GRAIN, TOTALS_LAG, Rollups

MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - it adds the zone
WHOLE = datetime(2026, 1, 1, tzinfo=UTC)


@given(now=MOMENTS, flush_interval=st.timedeltas(timedelta(0), timedelta(minutes=10)))
def test_they_are_looked_after_as_soon_as_totals_may_reach_up_to_whole_ten_seconds(
    now: datetime, flush_interval: timedelta
) -> None:
    rollups = Rollups("", plausible_kw=400.0, flush_interval=flush_interval)

    pause = rollups.due_in(now)

    assert timedelta(0) < pause <= TOTALS_GRAIN
    reach = now + pause - flush_interval - TOTALS_LAG
    assert timedelta(0) == (reach - WHOLE) % TOTALS_GRAIN
