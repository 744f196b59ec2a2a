"""A model of everything that can go wrong between broker and database, walked at random.

Real: Connection, Session (which connection may be acknowledged to), Buffer, Flusher. Stand-ins: the network,
the broker's queue, the database, the clock. After every step it holds that what was acknowledged is stored,
and that no acknowledgement went astray; at the end everything the broker still had is stored.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import mqtt5
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ingestd.errors import DataStoreError, OperatorStoreError, StoreError, TransientStoreError
from ingestd.metrics import Metrics
from ingestd.model.decode import Window, encode
from ingestd.model.stream import METER, Row, Stream
from ingestd.model.timestamps import now_microseconds
from ingestd.mqtt.address import BrokerAddress
from ingestd.mqtt.connection import Connection
from ingestd.mqtt.session import Session
from ingestd.pipeline.buffer import Buffer
from ingestd.pipeline.flusher import Flusher
from tests.fakes import AnswerLostError, FakeStore, FakeTransport, VirtualTimeLoop
from tests.support.deliveries import all_devices, all_letters, assert_balanced

if TYPE_CHECKING:
    from collections.abc import Iterator

WINDOW = Window(max_age=timedelta(days=90), max_skew=timedelta(minutes=5))
POISON = "poison"
ERRORS: list[StoreError] = [
    TransientStoreError("57P01: shutting down"),
    TransientStoreError("XX000: who knows", known=False),
    OperatorStoreError("42P01: no such table"),
    AnswerLostError("connection lost after COMMIT"),
]


class Broker:
    """Keeps what is not acknowledged, in order, and knows which packet id means what on this connection."""

    def __init__(self) -> None:
        self.queue: list[str] = []  # devices' messages, by their name, oldest first
        self.in_flight: dict[int, str] = {}  # insertion order is that of sending
        self.acknowledged: list[str] = []
        self._read = 0

    def receive(self, transport: FakeTransport) -> None:
        """Take the PUBACKs that have come since the last time."""
        data = transport.written
        while self._read < len(data):
            packet, size = mqtt5.read(memoryview(data)[self._read :])
            self._read += size
            if isinstance(packet, mqtt5.PubAckPacket):
                assert packet.packet_id in self.in_flight, "acknowledged what was not sent on this connection"
                assert packet.packet_id == next(iter(self.in_flight)), "acknowledged out of turn"
                self.acknowledged.append(self.in_flight.pop(packet.packet_id))

    def forget_connection(self) -> None:
        self.queue = [*self.in_flight.values(), *self.queue]
        self.in_flight.clear()
        self._read = 0


class DaemonModel(RuleBasedStateMachine):
    """The daemon between a broker and a database, step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualTimeLoop)
        self.script: list[StoreError | None] = []
        self.payloads: dict[str, bytes] = {}
        self.broker = Broker()
        self.runner.run(self._start())

    async def _start(self) -> None:
        self.metrics = Metrics()
        self.buffer = Buffer(metrics=self.metrics, max_messages=40, flush_at=10, interval=1.0)
        self.metrics.expose_in_flight(self.buffer.in_flight)
        self.store = FakeStore(self._scripted(), objection=_objection)
        self.flusher = Flusher(
            buffer=self.buffer, store=self.store, devices=all_devices(), letters=all_letters(), metrics=self.metrics
        )
        self.session = Session(
            address=BrokerAddress(url="mqtt://nowhere", client_id="model"),
            window=WINDOW,
            deliver=self.buffer.put,
            metrics=self.metrics,
        )
        self.flushing = asyncio.create_task(self.flusher.run())
        self._connect()

    def _scripted(self) -> Iterator[StoreError | None]:
        while True:
            yield self.script.pop(0) if self.script else None

    def _connect(self) -> None:
        connection = Connection(origin=self.session, window=WINDOW, deliver=self.buffer.put)
        self.transport = FakeTransport(connection)
        connection.connection_made(self.transport)
        self.connection = connection
        self.session._connection = connection  # noqa: SLF001 - what `open` does once CONNACK is there

    @rule(count=st.integers(1, 15), kind=st.sampled_from(["good", "good", "nonsense", POISON]))
    def publish(self, count: int, kind: str) -> None:
        for _ in range(count):
            name = f"{kind}-{len(self.payloads)}"
            row = (name, now_microseconds(), 0.5, 230.0, None, 0)
            self.payloads[name] = b"?" if kind == "nonsense" else encode(METER, row)
            self.broker.queue.append(name)

    @rule(count=st.integers(1, 30))
    def deliver(self, count: int) -> None:
        self.runner.run(self._deliver(count))

    async def _deliver(self, count: int) -> None:
        await asyncio.sleep(0)  # reading may go on
        for name in self.broker.queue[:count]:
            packet_id = len(self.broker.in_flight) + 1
            while packet_id in self.broker.in_flight:
                packet_id += 1
            self.broker.in_flight[packet_id] = name
            packet = mqtt5.PublishPacket(
                METER.topic(name), self.payloads[name], qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=packet_id
            )
            data = packet.write()
            self.connection.get_buffer(-1)[: len(data)] = data
            self.connection.buffer_updated(len(data))
            await asyncio.sleep(0)
        del self.broker.queue[:count]

    @rule(seconds=st.floats(0.1, 90))
    def wait(self, seconds: float) -> None:
        self.runner.run(asyncio.sleep(seconds))

    @rule(error=st.sampled_from(ERRORS), times=st.integers(1, 5))
    def database_fails(self, error: StoreError, times: int) -> None:
        self.script += [error] * times

    @rule()
    def connection_lost(self) -> None:
        self.broker.receive(self.transport)
        self.broker.forget_connection()
        self.runner.run(self._reconnect())

    @rule()
    def session_lost(self) -> None:
        """The broker restarts without its files: what it had is gone, and no promise of ours with it."""
        self.broker.receive(self.transport)
        self.broker.in_flight.clear()
        self.broker.queue.clear()
        self.broker.forget_connection()
        self.runner.run(self._reconnect())

    async def _reconnect(self) -> None:
        self.transport.lose(None)
        await asyncio.sleep(0)
        self._connect()

    @invariant()
    def what_was_acknowledged_is_stored(self) -> None:
        self.broker.receive(self.transport)
        stored = {key[0] for key in self.store.rows[METER]}
        stored |= {letter.topic.split("/")[1] for letter in self.store.dead_letters}
        assert set(self.broker.acknowledged) <= stored
        assert_balanced(self.metrics)

    def teardown(self) -> None:
        self.script.clear()
        while self.broker.queue or self.broker.in_flight:
            self._check_progress()
        self.buffer.close()
        self.runner.run(self._finish())
        assert self.buffer.messages == 0
        self.runner.close()

    def _check_progress(self) -> None:
        before = len(self.broker.acknowledged)
        self.deliver(30)
        self.wait(120.0)
        self.what_was_acknowledged_is_stored()
        assert len(self.broker.acknowledged) > before, "nothing is acknowledged any more"

    async def _finish(self) -> None:
        await self.flushing


def _objection(_stream: Stream, row: Row) -> StoreError | None:
    return DataStoreError("23514: poison") if row[0].startswith(POISON) else None


TestDaemonModel = DaemonModel.TestCase
TestDaemonModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
