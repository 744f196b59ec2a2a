"""The end of a session that is not wanted any more: unsubscribe, receive what waits in it, end it at the broker."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Final

import mqtt5

from ingestd.errors import BrokerError, BrokerRefusedError
from ingestd.model.decode import Window
from ingestd.mqtt.address import BrokerAddress, filters
from ingestd.mqtt.connection import Connection, Ticket
from ingestd.mqtt.handshake import KEEP_ALIVE_SECONDS, greet
from ingestd.mqtt.requests import Requests
from ingestd.pipeline.delivery import Delivery

ANSWER_SECONDS: Final = 60.0
"""Answers come behind what waits in the session."""
SILENCE_SECONDS: Final = 30.0
"""If nothing comes for so long, not even the marker, the session is not ended: something may still wait in it."""
QUIET_SECONDS: Final = 10.0
"""Without a marker, so much silence is taken as the end."""
LOOK_SECONDS: Final = 0.2
CONNECT_SECONDS: Final = 5.0


class Departure:
    """One session that ends. It is the origin of what it receives."""

    def __init__(
        self,
        *,
        address: BrokerAddress,
        client_id: str,
        shared_group: str | None,
        with_marker: bool,
        window: Window,
        deliver: Callable[[Delivery], None],
    ) -> None:
        """`shared_group` is the one that the session subscribed to. The marker is published on the probe's topic."""
        self._address = replace(address, client_id=client_id)
        self._shared_group = shared_group
        self._with_marker = with_marker
        self._window = window
        self._deliver = deliver
        self._connection: Connection | None = None
        self._unsettled = 0  # deliveries
        self._settled_at = 0.0
        self._marker = secrets.token_bytes(8)
        self._marker_came = False
        self.received = 0

    async def run(self) -> None:
        """Raises BrokerError; then the broker still keeps the session, with all that was not acknowledged."""
        topic = f"ingestd/probe/{self._address.client_id}"

        def new_connection() -> Connection:
            return Connection(
                origin=self,
                window=self._window,
                deliver=self._receive,
                side_topics={topic: self._note_marker},
                answer_seconds=ANSWER_SECONDS,
            )

        self._connection = connection = await self._address.dial(new_connection, within=CONNECT_SECONDS)
        async with _kept_alive(connection):
            granted = await greet(connection, self._address, client_id=self._address.client_id)
            if granted.session_present:
                await connection.requests.unsubscribe([*filters(self._shared_group), *filters(None)])
                if self._with_marker:
                    await self._send_marker(connection.requests, topic)
                await self._drained(connection)
            connection.disconnect(end_session=True)
            with suppress(TimeoutError):
                async with asyncio.timeout(ANSWER_SECONDS):
                    await connection.lost.wait()

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge them."""
        self._unsettled -= len(deliveries)
        self._settled_at = asyncio.get_running_loop().time()
        for delivery in deliveries:
            assert isinstance(delivery.ticket, Ticket)  # noqa: S101 - we made it
            if delivery.ticket.packet_ids:
                delivery.ticket.connection.acknowledge(delivery.ticket.packet_ids)

    def hold(self) -> None:
        """Stop reading: the buffer is full."""
        if self._connection is not None:
            self._connection.pause_reading()

    def release(self) -> None:
        """Go on reading."""
        if self._connection is not None:
            self._connection.resume_reading()

    def _receive(self, delivery: Delivery) -> None:
        self._unsettled += 1
        self.received += len(delivery)
        self._deliver(delivery)

    def _note_marker(self, payload: bytes) -> None:
        self._marker_came = self._marker_came or payload == self._marker

    async def _send_marker(self, requests: Requests, topic: str) -> None:
        reason = await requests.subscribe_aside(topic, max_qos=mqtt5.QoS.AT_LEAST_ONCE)
        reason = reason or await requests.publish(topic, self._marker)
        if reason:
            raise BrokerRefusedError(f"the broker refuses {topic}, without which the end of the queue is not known")

    async def _drained(self, connection: Connection) -> None:
        """Wait until all that waited in the session is settled. Raises BrokerError."""
        now = asyncio.get_running_loop().time
        started = now()
        while not connection.lost.is_set():
            quiet = now() - max(started, connection.telemetry_at, self._settled_at)
            if not self._unsettled and (self._marker_came or (not self._with_marker and quiet > QUIET_SECONDS)):
                return
            if not self._unsettled and quiet > SILENCE_SECONDS:
                raise BrokerError(f"nothing has come for {SILENCE_SECONDS:.0f} s, and not the end of the queue")
            await asyncio.sleep(LOOK_SECONDS)
        raise BrokerError(connection.loss_reason)


@asynccontextmanager
async def _kept_alive(connection: Connection) -> AsyncIterator[None]:
    pinging = asyncio.create_task(connection.keep_alive(KEEP_ALIVE_SECONDS), name="mqtt-keep-alive")
    try:
        yield
    finally:
        pinging.cancel()
        connection.abort("not needed any more")
