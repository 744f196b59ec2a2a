# ruff: noqa: SIM300 - expected == actual
"""How far a vehicle's figures can be relied on: coverage, gaps, enough energy, and what cannot be told any more."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg
import pytest

from ingestd.model.periods import TimeRange, buckets_of, parse_bucket_length
from ingestd.model.sessions import SessionRule
from ingestd.model.stream import VEHICLE
from ingestd.store.fleet import Fleet
from ingestd.store.performance import Performances
from ingestd.store.series import Series
from tests.support.energy import Sample
from tests.support.harness import POLICY, Harness, opened
from tests.support.scenes import (
    BEGIN,
    DAY,
    LATER,
    MINUTE,
    WAYS,
    Asked,
    Scene,
    answered,
    asked,
    at,
    figures,
    intervals,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from ingestd.model.answers import Performance
    from tests.support.scenes import Answers

ALL = range(241)
"""Minutes from 8:00 to 12:00."""


@pytest.fixture
async def harness(shared_database_url: str) -> AsyncIterator[Harness]:
    async with opened(shared_database_url) as harness:
        harness.clear()
        yield harness


def at_minutes(device: str, numbers: Iterable[float], *, kwh: float = 0.125) -> list[Sample]:
    """Readings so many minutes after 8:00."""
    return [Sample(device=device, at=at(8, number), interval=kwh) for number in numbers]


def quality(found: Performance) -> tuple[float | None, int | None, float | None]:
    return found.coverage, found.gaps, found.longest_gap


def of_four_hours(
    vehicle: Iterable[float], meter: Iterable[float], known: float, gaps: int, longest: float
) -> tuple[Scene, list[Asked]]:
    """When they were read, in minutes after 8:00, and what is right: minutes known, gaps, the longest in minutes."""
    scene = Scene(vehicles=at_minutes("v", vehicle), meters=at_minutes("m", meter))
    return scene, [asked(8, 12, coverage=round(known / 240, 9), gaps=(gaps, longest * 60.0))]


CASES = {
    "every minute": of_four_hours(ALL, ALL, 240, 0, 0),
    "the vehicle every five minutes": of_four_hours(ALL[::5], ALL, 240, 0, 0),
    "the meter every hour": of_four_hours(ALL, ALL[::60], 240, 0, 0),
    # Until 9:40; of the first reading nobody knows when its interval began.
    "the vehicle comes late": of_four_hours(ALL[100:], ALL, 140, 1, 100),
    "the vehicle leaves early": of_four_hours(ALL[:151], ALL, 150, 1, 90),
    # 60 min are not longer than an hour; the reading behind them tells of a minute, as the next one does.
    "silent for an hour": of_four_hours([*ALL[:101], *ALL[160:]], ALL, 181, 0, 0),
    "silent for longer": of_four_hours([*ALL[:101], *ALL[161:]], ALL, 179, 1, 61),
    # From 8:14 to 9:16: three whole quarters, and less than a minute of two others.
    "silent about whole quarters": of_four_hours([*ALL[:15], *ALL[76:]], ALL, 178, 1, 62),
    "silent twice": of_four_hours([*ALL[:10], *ALL[80:90], *ALL[200:]], ALL, 58, 2, 111),
    # The lesser of both counts. Gaps are the vehicle's.
    "the meter is silent for half of the time": of_four_hours(ALL, ALL[:121], 120, 0, 0),
    "nothing of the vehicle": of_four_hours([], ALL, 0, 1, 240),
    "nothing of the meter": of_four_hours(ALL, [], 0, 0, 0),
    "a single reading of the vehicle": of_four_hours([120], ALL, 0, 2, 120),
}


@pytest.fixture(scope="module")
def answers(shared_database_url: str) -> Answers:
    return answered(shared_database_url, CASES)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES)
def test_coverage_is_the_share_of_time_that_is_known_and_gaps_are_longer_than_an_hour(
    answers: Answers, case: str, way: str
) -> None:
    (right,), (found,) = CASES[case][1], answers[case, way]

    assert right.right == {name: found[name] for name in right.right}


async def test_each_meter_is_to_be_known_in_the_time_it_was_mapped(harness: Harness) -> None:
    await harness.map("v", "m", at(8, 30), at(8, 45))
    await harness.map("v", "n", at(8, 45))
    await harness.write(vehicles=at_minutes("v", ALL), meters=[*at_minutes("m", ALL), *at_minutes("n", ALL[:52])])

    # Of the 210 min with a meter, 15 and 6 are known.
    assert 21 / 210 == (await harness.performance("v", at(8), at(12))).coverage


async def test_what_lies_in_the_future_need_not_be_known(harness: Harness) -> None:
    now = datetime.now(UTC)
    times = [now - n * 5 * MINUTE for n in range(1, 12)]
    samples = [Sample(device="both", at=time, interval=0.125) for time in times]
    await harness.map("both", "both", BEGIN)
    await harness.write(vehicles=samples, meters=samples)

    today = await harness.performance("both", times[-1], now + DAY)
    tomorrow = await harness.performance("both", now + DAY, now + 2 * DAY)

    assert pytest.approx(50 / 55, abs=0.02) == today.coverage
    assert (0, 0.0, "ok") == (today.gaps, today.longest_gap, today.judgement.status)
    assert (0.0, 0, 0.0, "insufficient-data") == (*quality(tomorrow), tomorrow.judgement.status)


@pytest.mark.parametrize(
    ("kwh", "mapped_until", "status", "reason"),
    [
        pytest.param(0.5, 240, "ok", "100.0% of the AC arrived", id="enough of both"),
        pytest.param(
            0.499, 240, "insufficient-data", "0.499 kWh of AC can be compared, at least 0.5 needed", id="too little AC"
        ),
        pytest.param(24.0, 120, "ok", "100.0% of the AC arrived", id="half of the DC is compared"),
        pytest.param(
            24.0,
            105,
            "insufficient-data",
            "44% of the energy can be compared, at least 50% needed",
            id="less than half of the DC is compared",
        ),
    ],
)
async def test_a_ratio_takes_enough_energy_and_enough_of_it_to_compare(
    harness: Harness, *, kwh: float, mapped_until: float, status: str, reason: str
) -> None:
    await harness.map("v", "m", BEGIN, at(8, mapped_until))
    await harness.write(
        vehicles=at_minutes("v", ALL[1:], kwh=kwh / 240), meters=at_minutes("m", ALL[1:], kwh=kwh / 240)
    )

    found = await harness.performance("v", at(8), at(12))

    assert (status, reason) == (found.judgement.status, found.judgement.reason)
    assert (pytest.approx(1.0) if status == "ok" else None) == found.efficiency_ratio


@pytest.mark.parametrize(
    ("meter", "status"),
    [pytest.param(1e-6, "ok", id="hardly anything"), pytest.param(0.0, "insufficient-data", id="no AC")],
)
async def test_even_where_nothing_is_demanded_nothing_is_divided_by_nothing(
    shared_database_url: str, meter: float, status: str
) -> None:
    async with opened(shared_database_url, policy=replace(POLICY, min_kwh=0.0, min_share=0.0)) as harness:
        harness.clear()
        await harness.map("v", "m", BEGIN)
        await harness.write(
            vehicles=at_minutes("v", [0, 1], kwh=0.45e-6), meters=at_minutes("m", [0, 1], kwh=meter / 2)
        )

        found = await harness.performance("v", at(7), at(12))

    assert (status, pytest.approx(0.9) if status == "ok" else None) == (found.judgement.status, found.efficiency_ratio)


async def test_a_vehicle_has_a_threshold_of_its_own(harness: Harness) -> None:
    await harness.map("v", "m", BEGIN)
    await harness.write(vehicles=at_minutes("v", ALL, kwh=0.08), meters=at_minutes("m", ALL, kwh=0.1))
    statuses = []
    for threshold in (None, 0.8, 0.81):
        await harness.set(VEHICLE, "v", threshold=threshold)
        found = await harness.performance("v", at(8), at(12))
        statuses.append((found.threshold, found.judgement.status))

    assert [(0.85, "below-threshold"), (0.8, "ok"), (0.81, "below-threshold")] == statuses


async def test_another_most_power_counts_all_readings_anew(harness: Harness) -> None:
    await harness.write(vehicles=at_minutes("v", ALL, kwh=1.0))
    await harness.close(LATER)
    await harness.set(VEHICLE, "v", max_kw=50)  # 0.83 kWh a minute
    await harness.write(vehicles=[Sample(device="v", at=at(14), interval=0.5)])

    at_once = await harness.performance("v", at(8), at(24))
    await harness.close(LATER)

    assert (0.5, 240) == (at_once.dc_kwh, at_once.excluded)
    assert figures(at_once) == figures(await harness.performance("v", at(8), at(24)))


async def test_by_another_rule_all_readings_are_counted_anew(harness: Harness) -> None:
    await harness.write(vehicles=at_minutes("v", ALL, kwh=1.0))
    await harness.close(LATER)

    async with opened(harness.url, max_kw=50) as stricter:
        await stricter.close(LATER)
        found = await stricter.performance("v", at(8), at(12))

    assert (0.0, 240) == (found.dc_kwh, found.excluded)


# Who is known ----------------------------------------------------------------------------------------------------


async def test_a_vehicle_of_which_nothing_is_known_has_no_performance(harness: Harness) -> None:
    assert None is await harness.performances.of_vehicle("nobody", TimeRange(start=at(0), end=at(24)))


@pytest.mark.parametrize("kept", ["live", "history", "quarter", "mapping"])
async def test_a_vehicle_is_known_by_whatever_is_there_of_it(harness: Harness, kept: str) -> None:
    if kept == "mapping":
        await harness.map("v", "m", at(30))
    await harness.write(vehicles=at_minutes("v", ALL))
    await harness.close(LATER)
    with psycopg.connect(harness.url, autocommit=True) as connection:
        for table in {"live", "history", "quarter"} - {kept}:
            connection.execute(f"TRUNCATE vehicle_{table}".encode())

    found = await harness.performance("v", at(-10), at(-9))  # when it did nothing

    assert (0.0, 0.0, "unmapped", None, 0) == (
        found.ac_kwh,
        found.dc_kwh,
        found.judgement.status,
        found.compared,
        found.samples,
    )


@pytest.mark.parametrize(
    ("year", "gaps"), [pytest.param(1, 1, id="the first year"), pytest.param(9999, 0, id="the last year")]
)
async def test_a_window_may_be_as_far_away_as_there_are_dates(harness: Harness, year: int, gaps: int) -> None:
    await harness.map("v", "m", BEGIN)
    await harness.write(vehicles=at_minutes("v", ALL))
    start, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year, 12, 31, 23, 59, tzinfo=UTC)

    found = await harness.performance("v", start, end)

    assert (0.0, 0.0, gaps) == (found.dc_kwh, found.coverage, found.gaps)


# Behind the retention of history ---------------------------------------------------------------------------------


def with_retention(harness: Harness) -> Performances:
    """Of a daemon that keeps history from 8:00 of the third day on."""
    kept = datetime.now(UTC) - at(56)
    return Performances(harness.kept(kept), policy=POLICY)


def forget(harness: Harness) -> None:
    """The first two days, as partitions that are dropped."""
    with psycopg.connect(harness.url, autocommit=True) as connection:
        connection.execute("DELETE FROM vehicle_history WHERE ts < %s", (at(48),))
        connection.execute("DELETE FROM meter_history WHERE ts < %s", (at(48),))


async def charge_for_days(harness: Harness) -> None:
    await harness.map("v", "m", at(42))
    await harness.write(
        vehicles=intervals("v", at(40), at(62), 5 * MINUTE, 0.09),
        meters=intervals("m", at(40), at(62), 5 * MINUTE, 0.1),
    )
    await harness.close(at(63))


async def test_behind_the_retention_whole_quarters_are_told_and_gaps_are_not(harness: Harness) -> None:
    await charge_for_days(harness)
    performances = with_retention(harness)
    window = TimeRange(start=at(40, 15), end=at(60))
    before = await performances.of_vehicle("v", window)
    forget(harness)
    found = await performances.of_vehicle("v", window)

    assert before is not None
    assert found is not None
    assert figures(before) == figures(found)
    assert (None, None, "ok") == (found.gaps, found.longest_gap, found.judgement.status)
    assert pytest.approx((60 - 40.25) * 12 * 0.09) == found.dc_kwh


@pytest.mark.parametrize(
    ("start", "end", "edge"),
    [
        pytest.param(at(40, 7), at(60), at(40, 7), id="the start"),
        pytest.param(at(40), at(45, 7), at(45, 7), id="the end"),
        pytest.param(at(40), at(60), at(43, 1), id="an edge of the mapping"),
    ],
)
async def test_behind_the_retention_a_part_of_a_quarter_cannot_be_told(
    harness: Harness, start: datetime, end: datetime, edge: datetime
) -> None:
    await charge_for_days(harness)
    if edge == at(43, 1):
        await harness.mappings.set(
            vehicle_id="v", meter_id="n", valid_from=edge, valid_to=None, replace=True, who="test"
        )

    found = await with_retention(harness).of_vehicle("v", TimeRange(start=start, end=end))

    assert found is not None
    assert {None} == {
        found.ac_kwh, found.dc_kwh, found.samples, found.meter_samples, found.compared, found.efficiency_ratio,
        found.coverage, found.gaps, found.longest_gap, found.resets, found.excluded, found.average_temperature,
    }  # fmt: skip
    assert {None} >= {meter.ac_kwh for meter in found.meters} | {meter.samples for meter in found.meters}
    assert "insufficient-data" == found.judgement.status
    assert re.match("readings from before [^ ]+ are no longer kept", found.judgement.reason)


async def test_an_edge_behind_which_all_is_there_is_told(harness: Harness) -> None:
    await charge_for_days(harness)
    forget(harness)

    found = await with_retention(harness).of_vehicle("v", TimeRange(start=at(57, 3), end=at(58, 7)))

    assert found is not None
    assert (round(13 * 0.09, 9), (0, 0.0)) == (figures(found)["dc"], figures(found)["gaps"])


async def test_behind_the_retention_of_the_ledger_no_answer_shows_what_is_left_as_if_it_were_all(
    harness: Harness,
) -> None:
    """Rows of the first day and a half are gone, or will be soon."""
    await charge_for_days(harness)
    snapshots = harness.kept(None, ledger=datetime.now(UTC) - at(44, 30))
    window = TimeRange(start=at(40), end=at(60))
    series = Series(snapshots, session=SessionRule())

    performance = await Performances(snapshots, policy=POLICY).of_vehicle("v", window)
    hours = await series.of_device(VEHICLE, "v", window, buckets_of(window, parse_bucket_length("1h"), UTC))
    fleet = await Fleet(snapshots, policy=POLICY).energy(window)

    assert performance is not None
    assert hours is not None
    assert (None, "insufficient-data") == (performance.dc_kwh, performance.judgement.status)
    assert [*5 * [None], *15 * [1.08]] == [None if one.kwh is None else round(one.kwh, 9) for one in hours.items]
    for reason in (performance.judgement.reason, hours.reason, fleet.reason):
        assert reason is not None
        assert re.fullmatch("energy from before [^ ]+ is no longer kept", reason)
    later = TimeRange(start=at(50), end=at(60))
    assert None is (await Fleet(snapshots, policy=POLICY).energy(later)).reason


async def test_many_changes_of_the_mapping_leave_what_was_before_to_the_rows(harness: Harness) -> None:
    await charge_for_days(harness)
    for number in range(20):
        meter = "m" if number % 2 else "n"
        await harness.map("v", meter, at(57, 7 + 12 * number))
    expected = await harness.performance("v", at(40), at(62))
    forget(harness)

    found = await with_retention(harness).of_vehicle("v", TimeRange(start=at(40), end=at(62)))

    assert found is not None
    assert {**figures(expected), "gaps": (None, None)} == figures(found)
