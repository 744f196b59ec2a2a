"""The ledger in the database: whenever it is closed and read, and whatever comes late, it says what the rule says."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestd.model.energy import HOUR, MINUTE, QUARTER, Reading, count
from ingestd.model.quarters import Quarter, quarters
from ingestd.model.register import Rule
from ingestd.model.stream import METER
from ingestd.model.timestamps import to_datetime, to_microseconds
from tests.support.energy import Sample
from tests.support.harness import opened
from tests.support.streams import streams

if TYPE_CHECKING:
    from tests.support.harness import Harness

RULE = Rule(max_kw=400)
START = to_microseconds(datetime(2026, 10, 30, 21, 0, tzinfo=UTC))
"""A month ends within the streams."""


def sample(reading: Reading) -> Sample:
    at = to_datetime(START + reading.at)
    return Sample(device="m", at=at, interval=reading.kwh, register=reading.register, voltage=reading.averaged)


async def energy(harness: Harness, start: int, end: int, now: int) -> dict[int, Quarter]:
    async with harness.snapshots.now() as snapshot:
        snapshot.now = START + now
        found = await snapshot.device(METER, "m").energy(START + start, START + end)
    return {at - START: quarter for at, quarter in found.quarters(START + start, START + end).items()}


def figures(row: Quarter) -> tuple[float, int, int, int, float, int, int]:
    return (round(row.kwh, 9), row.samples, row.parts, row.known, round(row.averaged, 9), row.resets, row.excluded)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(readings=streams(), data=st.data())
def test_whatever_comes_when_the_ledger_says_what_the_rule_says(
    database_url: str, readings: list[Reading], data: st.DataObject
) -> None:
    readings = [reading._replace(averaged=float(number)) for number, reading in enumerate(readings)]
    order = data.draw(st.permutations(readings)) if data.draw(st.booleans()) else readings
    end = readings[-1].at

    async def run() -> None:
        async with opened(database_url) as harness:
            harness.clear()
            now = 0
            for number, reading in enumerate(order):
                await harness.write(meters=[sample(reading)])
                now = max(now, reading.at)
                if data.draw(st.integers(0, 3)) == 0:
                    await harness.closing.catch_up(to_datetime(START + now))
                if data.draw(st.integers(0, 3)) == 0:
                    arrived = sorted(order[: number + 1])
                    until = now + data.draw(st.sampled_from([0, 7 * MINUTE, 3 * HOUR]))
                    first, last = sorted(data.draw(st.integers(0, end + HOUR)) for _ in range(2))
                    expected = quarters(count(arrived, rule=RULE, now=until), first, last)
                    found = await energy(harness, first, last, until)
                    assert {at: figures(one) for at, one in expected.items()} == {
                        at: figures(one) for at, one in found.items() if figures(one) != figures(Quarter())
                    }
            later = end + 40 * HOUR
            await harness.close(to_datetime(START + later))
            with psycopg.connect(database_url) as connection:
                rows = connection.execute(
                    "SELECT ingestd_microseconds(start), kwh, samples, parts, (known_seconds * 1e6)::bigint,"
                    " averaged_sum, resets, excluded FROM meter_quarter"
                ).fetchall()
            expected = quarters(count(readings, rule=RULE, now=later), 0, later // QUARTER * QUARTER)
            made = {at - START: (round(kwh, 9), *rest) for at, kwh, *rest in rows}
            assert {at: figures(one) for at, one in expected.items()} == {
                at: one for at, one in made.items() if one != figures(Quarter())
            }

    asyncio.run(run())
