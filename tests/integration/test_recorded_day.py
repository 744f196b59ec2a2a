# ruff: noqa: SIM300 - expected == actual
"""A day that was recorded in the field: the same by intervals and by a register, whatever is closed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.energy import Sample
from tests.support.harness import Harness, opened
from tests.support.scenes import Figures, figures

CHARGING_DAY = Path(__file__).parents[3] / "shared" / "data" / "charging-day.jsonl"
DAY = timedelta(days=1)


async def test_a_recorded_day_is_the_same_by_intervals_and_by_a_register(database_url: str) -> None:
    if not CHARGING_DAY.exists():
        pytest.skip("no recorded day beside the repository")
    payloads = [json.loads(line)["payload"] for line in CHARGING_DAY.read_text().splitlines()]
    meter = [
        Sample(device="m", at=datetime.fromisoformat(one["timestamp"]), interval=one["kwhConsumedAc"])
        for one in payloads
        if "meterId" in one
    ]
    intervals = [
        Sample(device="interval", at=datetime.fromisoformat(one["timestamp"]), interval=one["kwhDeliveredDc"])
        for one in payloads
        if "vehicleId" in one
    ]
    midnight = intervals[0].at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)

    async with opened(database_url) as harness:
        await harness.map("interval", "m", midnight)
        await harness.write(meters=meter, vehicles=[*intervals, *as_register(intervals)])
        answers = [await both(harness, midnight)]
        await harness.close(midnight + 2 * DAY)
        answers.append(await both(harness, midnight))

    assert answers[0] == answers[1]
    by_interval, by_register = answers[0]
    assert (10.718, 10.21, 0.9526, "ok") == (
        round(by_interval["ac"], 3),
        round(by_interval["dc"], 3),
        round(by_interval["ratio"], 4),
        by_interval["status"],
    )
    assert (10.21, 1) == (round(by_register["dc"], 3), by_register["resets"])


def as_register(intervals: list[Sample]) -> list[Sample]:
    """A charger that has delivered 4 MWh, is reset on the way, and shows too little now and then."""
    readings = [Sample(device="register", at=intervals[0].at - timedelta(minutes=1), register=4000.0)]
    value = total = 0.0
    base = 4000.0
    for number, one in enumerate(intervals):
        kwh = one.interval or 0.0
        total += kwh
        if total >= 6 and base:
            base = value = 0.0
        value += kwh
        shown = (base + value) * (0.97 if number % 100 == 50 else 1.0)
        readings.append(Sample(device="register", at=one.at, register=shown))
    return readings


async def both(harness: Harness, midnight: datetime) -> list[Figures]:
    return [figures(await harness.performance(name, midnight, midnight + DAY)) for name in ("interval", "register")]
