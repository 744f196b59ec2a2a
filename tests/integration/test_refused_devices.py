"""A device whose rows the database refuses, among many others: what it costs them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import psycopg
import pytest

from ingestd.metrics import Metrics
from ingestd.pipeline.buffer import Buffer
from ingestd.pipeline.flusher import Flusher
from ingestd.store.writer import Writer
from tests.fakes import FakeOrigin
from tests.faults.scene import refusing_trigger
from tests.support.deliveries import all_devices, all_letters, balance, delivery_of, meter_row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ingestd.model.stream import Row

ROWS: Final = 4000
EVERY: Final = 28
"""3.6 % of the rows are of one device."""
FLUSHES: Final = 3
MOST: Final = 10.0
"""How much longer a flush may take: 1.6 to 3.2 times was measured, and 200 where their rows were not written apart."""


class Harness:
    """A flusher that writes into the test's own database."""

    def __init__(self, writer: Writer) -> None:
        self.metrics = Metrics()
        self.buffer = Buffer(metrics=self.metrics, max_messages=10 * ROWS, flush_at=ROWS, interval=1.0)
        self.flusher = Flusher(
            buffer=self.buffer, store=writer, devices=all_devices(), letters=all_letters(), metrics=self.metrics
        )
        self._second = 0

    async def flush(self, times: int) -> float:
        """Seconds for so many flushes."""
        begin = time.perf_counter()
        for _ in range(times):
            self._second += ROWS
            rows: list[Row] = [
                meter_row(f"m-{number % 500}" if number % EVERY else "bad", self._second + number)
                for number in range(ROWS)
            ]
            self.buffer.put(delivery_of(FakeOrigin(), meters=rows))
            await self.flusher.flush(self.buffer.take_now())
        return time.perf_counter() - begin


@pytest.fixture
async def harness(database_url: str) -> AsyncIterator[Harness]:
    writer = Writer(database_url)
    await writer.open()
    yield Harness(writer)
    await writer.close()


@pytest.mark.parametrize("state", ["23514", "XX000"], ids=["data", "unknown"])
async def test_a_device_that_is_refused_hardly_slows_its_neighbours(
    harness: Harness, database_url: str, state: str
) -> None:
    healthy = await harness.flush(FLUSHES)
    before = balance(harness.metrics)["committed"]
    with (
        psycopg.connect(database_url, autocommit=True) as connection,
        refusing_trigger(connection, table="meter_history", state=state, level="ROW", when="NEW.meter_id = 'bad'"),
    ):
        await harness.flush(1)  # in which it is found
        refused = await harness.flush(FLUSHES)

    bad = len(range(0, ROWS, EVERY))
    counts = balance(harness.metrics)
    assert (ROWS - bad) * (FLUSHES + 1) == counts["committed"] - before
    assert bad * (FLUSHES + 1) == counts["dead_lettered"]
    assert refused < MOST * healthy, f"{refused / healthy:.1f}"
