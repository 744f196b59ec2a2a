# ruff: noqa: SIM300 - expected == actual
"""What rows of another rule, and marks that are not worked off yet, do to answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest

from ingestd.errors import StoreError
from ingestd.model.periods import TimeRange
from tests.support.energy import Sample
from tests.support.harness import opened

if TYPE_CHECKING:
    from tests.support.harness import Harness

DAY = timedelta(days=1)
START = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=12)
WINDOW = TimeRange(start=START - timedelta(hours=1), end=START + timedelta(hours=6))
EVERY_40_MINUTES = [
    Sample(device="v", at=START + timedelta(minutes=40 * number), interval=4.0 if number else 0.0)
    for number in range(6)
]


async def dc(harness: Harness) -> float | None:
    found = await harness.performances.of_vehicle("v", WINDOW)
    assert found is not None
    return found.dc_kwh


@pytest.mark.parametrize(
    ("max_kw", "max_gap", "expected"),
    [
        (400, timedelta(minutes=30), 20.0),
        (400, timedelta(hours=2), 20.0),
        # Of 40 minutes each, 5 kW are 3.33 kWh.
        (5, timedelta(hours=1), 0.0),
    ],
)
async def test_rows_of_another_rule_are_not_mixed_with_ours(
    database_url: str, max_kw: float, max_gap: timedelta, expected: float
) -> None:
    async with opened(database_url) as before:
        await before.write(vehicles=EVERY_40_MINUTES)
        await before.close(START + timedelta(hours=3))
        assert 20.0 == pytest.approx(await dc(before))
    async with opened(database_url, max_kw=max_kw, max_gap=max_gap) as harness:
        assert expected == pytest.approx(await dc(harness))
        fleet = await harness.fleet.energy(WINDOW)
        assert (0.0, WINDOW.start) == (fleet.dc_kwh, fleet.as_of)

        await harness.close(START + timedelta(hours=12))

        assert expected == pytest.approx(await dc(harness))
        assert expected == pytest.approx((await harness.fleet.energy(WINDOW)).dc_kwh)


async def test_rows_of_another_rule_are_deleted_day_by_day_and_a_daemon_that_was_stopped_goes_on(
    database_url: str,
) -> None:
    days = 3
    hourly = [Sample(device="v", at=START - timedelta(hours=n), interval=1.0) for n in range(24 * days, -1, -1)]
    counted = "SELECT count(*), count(*) FILTER (WHERE start > %s) FROM vehicle_quarter"
    async with opened(database_url) as before:
        await before.write(vehicles=hourly)
        await before.close(START + timedelta(hours=2))
    async with opened(database_url, max_kw=300) as harness:
        with psycopg.connect(database_url) as other:
            (rows, late), last_day = other.execute(counted, (START - DAY,)).fetchone() or (0, 0), START - DAY
            other.execute("SELECT FROM vehicle_quarter WHERE start > %s FOR UPDATE", (last_day,))
            with pytest.raises(StoreError):
                await harness.close(START + timedelta(hours=2))
        with psycopg.connect(database_url) as other:
            left = other.execute(counted, (last_day,)).fetchone()
            rule = other.execute("SELECT max_kw FROM ledger WHERE stream = 'vehicle'").fetchone()

        assert (400.0,) == rule
        assert left is not None
        assert late == left[1]
        assert late <= left[0] < rows
        await harness.close(START + timedelta(hours=2))
        window = TimeRange(start=START - days * DAY, end=START)
        assert pytest.approx(24.0 * days) == (await harness.fleet.energy(window)).dc_kwh


async def test_the_fleet_says_since_when_it_lags(database_url: str) -> None:
    async with opened(database_url) as harness:
        await harness.write(vehicles=EVERY_40_MINUTES)
        await harness.close(datetime.now(UTC))
        before = datetime.now(UTC)
        assert before <= (await harness.fleet.energy(WINDOW)).as_of

        await harness.write(vehicles=[Sample(device="v", at=START + timedelta(minutes=20), interval=1.0)])
        asked = datetime.now(UTC)

        lagging = await harness.fleet.energy(WINDOW)
        assert before - timedelta(seconds=1) <= lagging.as_of <= asked
        assert 20.0 == pytest.approx(lagging.dc_kwh)
        assert 21.0 == pytest.approx(await dc(harness))
        await harness.close(datetime.now(UTC))
        made = await harness.fleet.energy(WINDOW)
        assert asked <= made.as_of
        assert 21.0 == pytest.approx(made.dc_kwh)
