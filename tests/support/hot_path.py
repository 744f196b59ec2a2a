"""What a message takes on its way from the wire to COPY's bytes: `python -m tests.support.hot_path` prints it as JSON.

Everything between the network and the database's socket, and neither of them. A process of its own, so that nothing
else is in its memory and no coverage is taken.
"""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import struct
import sys
import time
import tracemalloc
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import mqtt5
import psycopg
from psycopg.copy import AsyncWriter

from ingestd.metrics import Metrics
from ingestd.model.decode import Window
from ingestd.model.stream import METER, VEHICLE
from ingestd.mqtt.connection import Connection
from ingestd.pipeline.buffer import Buffer
from ingestd.pipeline.delivery import Batch, newest_per_device
from ingestd.pipeline.known_devices import KnownDevices
from ingestd.process import tune_garbage_collection
from ingestd.store.writer import _copy
from tests.fakes import FakeOrigin, FakeTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MESSAGES = 10_000
DEVICES = 1_000
ROUNDS = 7
WINDOW = Window(max_age=timedelta(days=90), max_skew=timedelta(minutes=5))


def payloads() -> list[tuple[str, bytes]]:
    """Topic and payload of readings from meters and vehicles in turn, each device once a minute."""
    made = []
    now = datetime.now(UTC).replace(microsecond=0)
    for number in range(MESSAGES):
        device = number % DEVICES
        timestamp = f"{now - timedelta(minutes=number // DEVICES):%Y-%m-%dT%H:%M:%SZ}"
        if number % 2:
            reading = {"vehicleId": f"EV-{device}", "soc": 85.5, "kwhDeliveredDc": 0.38, "batteryTemp": 28.5}
            topic = VEHICLE.topic(f"EV-{device}")
        else:
            reading = {"meterId": f"meter-{device}", "kwhConsumedAc": 0.42, "voltage": 231.5}
            topic = METER.topic(f"meter-{device}")
        made.append((topic, json.dumps({**reading, "timestamp": timestamp}, separators=(",", ":")).encode()))
    return made


def wire(messages: list[tuple[str, bytes]]) -> bytes:
    """As a broker sends them with QoS 1."""
    return b"".join(
        mqtt5.PublishPacket(topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=packet_id).write()
        for packet_id, (topic, payload) in enumerate(messages, 1)
    )


class Copied(AsyncWriter):
    """Takes the bytes of COPY in place of a socket."""

    size = 0

    async def write(self, data: Any) -> None:  # noqa: ANN401 - psycopg's buffers
        self.size += len(data)


class CopyingCursor:
    """As much of a psycopg cursor as COPY needs; formats with psycopg's own code."""

    adapters = psycopg.adapters
    connection = SimpleNamespace(pgconn=None)
    pgresult = None

    def __init__(self) -> None:
        self.copied = Copied()

    @asynccontextmanager
    async def copy(self, _: object, **__: object) -> AsyncIterator[psycopg.AsyncCopy]:
        yield psycopg.AsyncCopy(cast("psycopg.AsyncCursor", self), binary=True, writer=self.copied)


class HotPath:
    """A connection and a buffer, fed with the same bytes as often as asked."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._buffer = Buffer(metrics=Metrics(), max_messages=2 * MESSAGES, flush_at=MESSAGES, interval=1.0)
        self._connection = Connection(origin=FakeOrigin(), window=WINDOW, deliver=self._buffer.put)
        self._connection.connection_made(FakeTransport(self._connection))
        self._cursor = CopyingCursor()
        self._devices = KnownDevices(most=DEVICES)

    def receive(self) -> None:
        """Read, decoded, in the buffer."""
        view = memoryview(self._data)
        while view:
            room = self._connection.get_buffer(-1)
            size = min(len(room), len(view))
            room[:size] = view[:size]
            self._connection.buffer_updated(size)
            view = view[size:]

    async def flush(self) -> None:
        """Out of the buffer, in a batch, formatted."""
        deliveries = self._buffer.take_now()
        batch = Batch.of(deliveries)
        assert len(batch) == MESSAGES, len(batch)
        for stream, part in batch.readings.items():
            self._devices.add(stream, self._devices.unknown(stream, part.rows))
        for stream, part in batch.readings.items():
            for rows in (part.rows, newest_per_device(part.rows)):
                await _copy(cast("Any", self._cursor), cast("Any", None), rows, stream.copy_types)
        self._buffer.release(deliveries)

    async def run(self) -> None:
        self.receive()
        await self.flush()


def reference(messages: list[tuple[str, bytes]]) -> int:
    """Work of the same kind that never changes: it measures the speed of the machine."""
    size = 0
    for topic, payload in messages:
        reading = json.loads(payload)
        at = datetime.fromisoformat(reading["timestamp"])
        row = (topic.split("/")[1], at, *reading.values())
        size += len(struct.pack("!h2d", len(row), at.microsecond, 1.0)) + len(row[0])
    return size


async def ratio(path: HotPath, messages: list[tuple[str, bytes]]) -> float:
    """CPU time as a multiple of the reference's: the median of several rounds, in which they take turns.

    The best of each would be compared across moments, and processors may be twice as fast at one as at another.
    """
    ratios = []
    for _ in range(ROUNDS):
        started = time.process_time()
        await path.run()
        between = time.process_time()
        reference(messages)
        ratios.append((between - started) / (time.process_time() - between))
        gc.collect()
    return statistics.median(ratios)


async def calls(path: HotPath) -> float:
    """Calls of functions a message, those of C included: the same number on every machine, however busy."""
    count = 0

    def note(_: object, event: str, __: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(note)
    try:
        await path.run()
    finally:
        sys.setprofile(None)
    return count / MESSAGES


async def held_bytes(path: HotPath) -> float:
    """Memory a message while it waits in the buffer."""
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    path.receive()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    await path.flush()
    return (after - before) / MESSAGES


async def measure() -> dict[str, float]:
    messages = payloads()
    path = HotPath(wire(messages))
    await path.run()  # once before anything counts
    return {"ratio": await ratio(path, messages), "calls": await calls(path), "held_bytes": await held_bytes(path)}


if __name__ == "__main__":
    tune_garbage_collection()
    print(json.dumps(asyncio.run(measure())))  # noqa: T201 - for the test that runs it
