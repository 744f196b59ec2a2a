"""Whatever a window of the whole fleet is put together from counts every moment of it once, and nothing else."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from ingestd.analytics import TimeRange
from ingestd.store.energy import QUARTER, edges, parts_of_all, quarter_before
from ingestd.telemetry import METER

if TYPE_CHECKING:
    from collections.abc import Iterator

SECOND = timedelta(seconds=1)
FIRST = datetime(2026, 11, 18, tzinfo=UTC)
MOMENTS = st.integers(0, 3 * 24 * 3600).map(lambda seconds: FIRST + seconds * SECOND)
QUARTERS = st.integers(0, 3 * 24 * 4).map(lambda number: FIRST + number * QUARTER)


@st.composite
def windows(draw: st.DrawFn) -> tuple[TimeRange, datetime | None, datetime | None, datetime | None]:
    """(window, settled, totals from, totals until), as the database may say."""
    start, end = sorted(draw(st.lists(MOMENTS, min_size=2, max_size=2, unique=True)))
    settled = draw(st.none() | QUARTERS)
    totals_until = draw(st.none() | MOMENTS.filter(lambda moment: start < moment <= end))
    totals_from = None if totals_until is None else draw(MOMENTS.filter(lambda moment: moment <= totals_until))
    return TimeRange(start=start, end=end), settled, totals_from, totals_until


def midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def taken(parts: dict[str, Any], end: datetime) -> Iterator[tuple[datetime, datetime, int]]:
    """(from, until, sign) of each part, as `sums_of_all` takes it."""
    of = {name.removeprefix("meter_"): value for name, value in parts.items()}
    yield of["lead_from"], of["lead_until"], of["lead_sign"]
    if of["first_day"] <= of["last_day"]:
        yield (
            midnight(of["first_day"]) + of["after"] * QUARTER,
            midnight(of["last_day"]) + of["upto"] * QUARTER,
            1,
        )
    yield of["rolled_until"], of["totals_from"], 1
    yield of["totals_from"], of["totals_until"], 1
    yield of["totals_until"], end, 1


@given(case=windows(), moments=st.lists(MOMENTS, min_size=1, max_size=20))
def test_every_moment_of_a_window_counts_once(
    case: tuple[TimeRange, datetime | None, datetime | None, datetime | None], moments: list[datetime]
) -> None:
    window, *reached = case
    parts = list(taken(parts_of_all(METER, window, *reached), window.end))

    for moment in [*moments, window.start, window.end, window.start - SECOND, window.end - SECOND]:
        counted = sum(sign for since, until, sign in parts if since <= moment < until)
        assert int(window.start <= moment < window.end) == counted


@given(case=windows())
def test_rollups_are_taken_where_they_are_settled_and_totals_from_one_to_another(
    case: tuple[TimeRange, datetime | None, datetime | None, datetime | None],
) -> None:
    window, settled, totals_from, totals_until = case
    parts: dict[str, Any] = dict(parts_of_all(METER, window, settled, totals_from, totals_until))

    if parts["meter_first_day"] <= parts["meter_last_day"]:
        assert settled is not None
        assert settled >= parts["meter_rolled_until"]
    if totals_until is not None:
        assert (totals_from, totals_until) == (parts["meter_totals_from"], parts["meter_totals_until"])


@given(case=windows())
def test_the_settled_part_of_a_window_is_made_of_whole_quarters_in_it(
    case: tuple[TimeRange, datetime | None, datetime | None, datetime | None],
) -> None:
    window, settled, *_ = case
    head_until, tail_from = edges(METER, window, settled).values()

    assert window.start <= head_until <= tail_from <= window.end
    if head_until < tail_from:
        assert settled is not None
        assert tail_from <= settled
        assert (head_until, tail_from) == (quarter_before(head_until), quarter_before(tail_from))
        assert head_until - window.start < QUARTER
