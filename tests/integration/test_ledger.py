"""The ledger in the database: whenever it is closed and read, and whatever comes late, it says what the rule says."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestd.model.energy import HOUR, MINUTE, QUARTER, Reading, count
from ingestd.model.quarters import Quarter, quarters
from ingestd.model.register import Rule
from ingestd.model.stream import METER, STREAMS, VEHICLE
from ingestd.model.timestamps import to_datetime, to_microseconds
from ingestd.pipeline.delivery import Batch
from ingestd.store.closing import Closing
from ingestd.store.moments import Moments
from ingestd.store.pool import Pool
from ingestd.store.writer import Writer
from tests.fakes import FakeOrigin
from tests.support.deliveries import delivery_of
from tests.support.polling import eventually
from tests.support.streams import streams

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from ingestd.model.stream import Row

RULE = Rule(max_kw=400)
START = to_microseconds(datetime(2026, 10, 30, 21, 0, tzinfo=UTC))
"""A month ends within the streams."""


def row(device: str, reading: Reading) -> Row:
    return (device, START + reading.at, reading.kwh, reading.averaged, reading.register, 0)


@dataclass(frozen=True, slots=True)
class Store:
    """A writer, a closer and a reader."""

    url: str
    writer: Writer
    closing: Closing
    pool: Pool

    async def write(self, device: str, readings: Sequence[Reading]) -> None:
        delivery = delivery_of(FakeOrigin(), meters=[row(device, reading) for reading in readings])
        await self.writer.write(Batch.of([delivery]))

    async def energy(self, device: str, start: int, end: int, now: int) -> dict[int, Quarter]:
        async with Moments(self.pool, rules={METER: RULE, VEHICLE: RULE}).now() as moment:
            moment.now = START + now
            found = await moment.device(METER, device).energy(START + start, START + end)
        return {at - START: quarter for at, quarter in found.quarters(START + start, START + end).items()}

    async def nothing_is_stale(self, now: int) -> bool:
        await self.closing.catch_up(to_datetime(now))
        with psycopg.connect(self.url) as connection:
            return connection.execute("SELECT meter_id FROM meter_stale").fetchall() == []

    def clear(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            tables = [
                f"{stream.name}_{kind}"
                for stream in STREAMS
                for kind in ("history", "live", "quarter", "hour", "stale")
            ]
            connection.execute(f"TRUNCATE {', '.join(tables)}".encode())
            connection.execute("UPDATE ledger SET closed_until = '-infinity'")
            connection.execute("UPDATE ledger_share SET made_until = '-infinity'")


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    store = Store(url, Writer(url), Closing(url, rules={METER: RULE, VEHICLE: RULE}), Pool(url))
    await store.writer.open()
    try:
        await store.pool.open()
        yield store
    finally:
        await store.closing.close()
        await store.pool.close()
        await store.writer.close()


def figures(row: Quarter) -> tuple[float, int, int, int, float, int, int]:
    return (round(row.kwh, 9), row.samples, row.parts, row.known, round(row.averaged, 9), row.resets, row.excluded)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(readings=streams(), data=st.data())
def test_whatever_comes_when_the_ledger_says_what_the_rule_says(
    database_url: str, readings: list[Reading], data: st.DataObject
) -> None:
    readings = [reading._replace(averaged=float(number)) for number, reading in enumerate(readings)]
    order = data.draw(st.permutations(readings)) if data.draw(st.booleans()) else readings
    end = readings[-1].at

    async def run() -> None:
        async with opened(database_url) as store:
            store.clear()
            now = 0
            for number, reading in enumerate(order):
                await store.write("m", [reading])
                now = max(now, reading.at)
                if data.draw(st.integers(0, 3)) == 0:
                    await store.closing.catch_up(to_datetime(START + now))
                if data.draw(st.integers(0, 3)) == 0:
                    arrived = sorted(order[: number + 1])
                    until = now + data.draw(st.sampled_from([0, 7 * MINUTE, 3 * HOUR]))
                    first, last = sorted(data.draw(st.integers(0, end + HOUR)) for _ in range(2))
                    expected = quarters(count(arrived, rule=RULE, now=until), first, last)
                    found = await store.energy("m", first, last, until)
                    assert {at: figures(one) for at, one in expected.items()} == {
                        at: figures(one) for at, one in found.items() if figures(one) != figures(Quarter())
                    }
            later = end + 40 * HOUR
            await eventually(partial(store.nothing_is_stale, START + later))
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
