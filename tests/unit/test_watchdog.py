# ruff: noqa: SIM300 - expected == actual
"""What counts as a sign of life: steps of flushes, also those that fail, and a loop that runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Never

import pytest

from ingestd.errors import OperatorStoreError, TransientStoreError
from ingestd.metrics import Metrics
from ingestd.pipeline.buffer import Buffer
from ingestd.pipeline.flusher import STUCK_SECONDS, Flusher
from ingestd.pipeline.watchdog import feed_watchdog
from ingestd.process import reload_notified, watchdog_seconds
from tests.fakes import FakeOrigin, FakeStore, clock, in_virtual_time
from tests.support.deliveries import all_devices, all_letters, delivery_of, meter_row

if TYPE_CHECKING:
    from ingestd.errors import StoreError
    from ingestd.pipeline.delivery import Batch

WAIT = 60.0
HOUR = 3600.0


class HangingStore(FakeStore):
    """Never ends a write, nor says why."""

    async def write(self, batch: Batch) -> Never:
        del batch
        await asyncio.Event().wait()
        raise AssertionError


class FailingStore(FakeStore):
    """Ends each write with an error after a while, as a database that hangs until the connection is cut."""

    def __init__(self, error: StoreError, seconds: float) -> None:
        super().__init__()
        self._error = error
        self._seconds = seconds

    async def write(self, batch: Batch) -> Never:
        del batch
        await asyncio.sleep(self._seconds)
        raise self._error


async def fed(store: FakeStore, *, seconds: float, flushing: bool = True) -> list[float]:
    """When the watchdog was fed within so many seconds, in which a reading waits to be stored."""
    metrics = Metrics()
    buffer = Buffer(metrics=metrics, max_messages=100, flush_at=10, interval=1.0)
    flusher = Flusher(buffer=buffer, store=store, devices=all_devices(), letters=all_letters(), metrics=metrics)
    buffer.put(delivery_of(FakeOrigin(), meters=[meter_row("m-1", 0)]))
    times: list[float] = []
    feeding = feed_watchdog(seconds=WAIT, stuck=lambda: flusher.stuck, feed=lambda: times.append(clock()))
    tasks = [asyncio.create_task(feeding)]
    if flushing:
        tasks.append(asyncio.create_task(flusher.run()))
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return times


@in_virtual_time
async def test_it_is_fed_four_times_in_the_time_while_all_is_well_and_while_nothing_arrives() -> None:
    assert HOUR / WAIT * 4 == len(await fed(FakeStore(), seconds=HOUR - 1))


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (TransientStoreError("the database is away"), 0.0),
        (OperatorStoreError("42501 permission denied"), 0.0),
        (TransientStoreError("57P01 cut"), 125.0),
    ],
)
def test_an_outage_of_the_database_is_no_reason_to_be_ended(error: StoreError, seconds: float) -> None:
    @in_virtual_time
    async def outage() -> list[float]:
        return await fed(FailingStore(error, seconds), seconds=6 * HOUR - 1)

    assert 6 * HOUR / WAIT * 4 == len(outage())


@in_virtual_time
async def test_a_flush_that_hangs_without_an_error_is_no_progress() -> None:
    last = max(await fed(HangingStore(), seconds=HOUR))

    assert STUCK_SECONDS - WAIT / 4 <= last <= STUCK_SECONDS + WAIT / 4


@in_virtual_time
async def test_messages_that_are_due_and_are_not_taken_are_no_progress() -> None:
    last = max(await fed(FakeStore(), seconds=HOUR, flushing=False))

    assert STUCK_SECONDS - WAIT / 4 <= last <= STUCK_SECONDS + WAIT / 4


@in_virtual_time
async def test_without_a_watchdog_nothing_is_fed() -> None:
    await feed_watchdog(seconds=None, stuck=lambda: None, feed=lambda: pytest.fail("fed"))


@in_virtual_time
async def test_it_is_fed_again_when_messages_move_again() -> None:
    reasons = iter([None, "stuck", "stuck", None, None])
    times: list[float] = []
    feeding = feed_watchdog(seconds=4, stuck=lambda: next(reasons), feed=lambda: times.append(clock()))
    task = asyncio.create_task(feeding)
    await asyncio.sleep(4.5)
    task.cancel()

    assert [0, 3, 4] == times


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),  # meant for another process
    ],
)
def test_systemd_says_how_long_it_waits(
    environment: dict[str, str], seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert seconds == watchdog_seconds()


def test_a_systemd_that_takes_nothing_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nonexistent/notify")

    with reload_notified(is_ready=True):
        pass
