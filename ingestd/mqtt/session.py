"""The session with the broker: outlives connections, subscribes at each, acknowledges what has been committed.

The broker keeps the session (clean start 0, session expiry 7 days), so everything published while we are
away, and everything unacknowledged, is sent when we come back.
"""

import asyncio
import random
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

import mqtt5
import structlog

from ingestd.errors import BrokerError, BrokerRefusedError
from ingestd.metrics import Metrics
from ingestd.mqtt.canary import Canary
from ingestd.mqtt.connection import RECEIVE_MAXIMUM, Connection, Ticket
from ingestd.mqtt.dropped import DROPPED_TOPIC, DroppedMessages
from ingestd.pipeline.delivery import Delivery
from ingestd.telemetry import STREAMS, Window

log = structlog.get_logger(__name__)

SESSION_EXPIRY_SECONDS: Final = 7 * 86_400
KEEP_ALIVE_SECONDS: Final = 30
CONNECT_SECONDS: Final = 5.0
CLOSE_SECONDS: Final = 1.0
BACKOFF_FIRST_SECONDS: Final = 0.2
BACKOFF_LONGEST_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerAddress:
    """Where the broker is and who we are to it."""

    url: str
    client_id: str
    username: str | None = None
    password: str | None = None
    shared_group: str | None = None
    tls: ssl.SSLContext | None = None

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or "127.0.0.1"

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or (8883 if self.tls else 1883)

    @property
    def filters(self) -> list[str]:
        prefix = f"$share/{self.shared_group}/" if self.shared_group else ""
        return [prefix + stream.topic_filter for stream in STREAMS]


class Session:
    """Subscribed to the telemetry of the fleet; the origin of every MQTT delivery."""

    def __init__(
        self,
        *,
        address: BrokerAddress,
        window: Window,
        deliver: Callable[[Delivery], None],
        metrics: Metrics,
        patience: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`patience` says for how many seconds messages may wait to be read together."""
        self._address = address
        self._window = window
        self._deliver = deliver
        self._metrics = metrics
        self._patience = patience
        self._connection: Connection | None = None
        self._open = False  # subscribed; only then may reading be paused, or CONNACK and SUBACK are never read
        self._held_by: set[str] = set()
        self._free = asyncio.Event()  # set while nobody holds us back
        self._free.set()
        self._keep_alive: float = KEEP_ALIVE_SECONDS
        self._canary = Canary(client_id=address.client_id)
        self._dropped = DroppedMessages(metrics)
        self._connection_trouble: str | None = "not connected yet"
        self.sessions_lost = 0
        """Connections at which the broker did not know us: what it retained may be gone as well."""

    @property
    def trouble(self) -> str | None:
        """Why no telemetry arrives at the moment; None when connected, subscribed and heard."""
        return self._connection_trouble or self._canary.trouble

    @property
    def hearing(self) -> bool:
        """Whether telemetry can arrive at this moment."""
        return self.trouble is None and not self._held_by

    async def open(self) -> None:
        """Connect and subscribe, once; raises BrokerError or BrokerRefusedError."""
        loop = asyncio.get_running_loop()
        address = self._address
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, connection = await loop.create_connection(
                    lambda: Connection(
                        origin=self,
                        window=self._window,
                        deliver=self._deliver,
                        side_topics={self._canary.topic: self._canary.hear, DROPPED_TOPIC: self._dropped.note},
                        patience=self._patience,
                    ),
                    address.host,
                    address.port,
                    ssl=address.tls,
                )
        except TimeoutError as error:
            raise BrokerError(f"no answer from {address.host}:{address.port}") from error
        except OSError as error:
            raise BrokerError(f"cannot reach {address.host}:{address.port}: {error.strerror or error}") from error
        # Messages may come in from CONNACK on, so this is the connection to acknowledge to from here on.
        self._connection = connection
        try:
            await self._greet(connection)
        except BrokerError as error:
            self._connection = None
            connection.abort(str(error))
            raise
        self._metrics.connections.inc()
        self._connection_trouble = None
        self._open = True
        if self._held_by:
            connection.pause_reading()

    async def run(self) -> None:
        """Keep the session alive for ever: wait for the connection to be lost, come back, subscribe again."""
        delay = BACKOFF_FIRST_SECONDS
        while True:
            if self._connection is not None:
                reason = await self._live(self._connection)
                self._connection = None
                self._open = False
                log.warning("connection to the broker lost", reason=reason)
                self._connection_trouble = reason
                delay = BACKOFF_FIRST_SECONDS
            # Full jitter keeps a fleet of daemons from coming back all at once.
            await asyncio.sleep(random.uniform(0, delay))  # noqa: S311
            delay = min(delay * 2, BACKOFF_LONGEST_SECONDS)
            await self._free.wait()  # coming back while held would only bring what may not be taken in
            try:
                await self.open()
            except BrokerRefusedError as error:
                log.error("refused by the broker; an operator has to act", reason=str(error))  # noqa: TRY400
                self._connection_trouble = str(error)
                delay = BACKOFF_LONGEST_SECONDS
            except BrokerError as error:
                log.warning("broker out of reach", reason=str(error))
                self._connection_trouble = str(error)

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge to the connection that brought them.

        An older connection's packet ids mean other messages by now (or none): acknowledging them would
        delete what we never saw. They are dropped; the broker sends those messages again.
        """
        packet_ids: list[int] = []
        for delivery in deliveries:
            assert isinstance(delivery.ticket, Ticket)  # noqa: S101 - we made it
            if delivery.ticket.connection is self._connection:
                packet_ids += delivery.ticket.packet_ids
            else:
                self._metrics.stale_acks.inc(len(delivery.ticket.packet_ids))
        if packet_ids and self._connection is not None:
            self._connection.acknowledge(packet_ids)

    def hold(self, reason: str) -> None:
        """Stop reading, and do not connect anew, until `reason` is released; the broker holds the backlog."""
        self._held_by.add(reason)
        self._free.clear()
        if self._connection is not None and self._open:
            self._connection.pause_reading()

    def release(self, reason: str) -> None:
        """Go on reading once the last reason is gone."""
        self._held_by.discard(reason)
        if not self._held_by:
            self._free.set()
            if self._connection is not None:
                self._connection.resume_reading()

    async def publish(self, topic: str, payload: bytes, *, expires_after: timedelta | None) -> None:
        """Publish a retained message with QoS 1; returns once the broker has it.

        Raises BrokerError where that is not possible now, BrokerRefusedError where the broker says no.
        """
        connection = self._connection
        # While reading is paused no PUBACK could be read.
        if connection is None or not self._open or self._held_by or connection.lost.is_set():
            raise BrokerError(self._connection_trouble or "no PUBACK can be read at the moment")
        expiry = None if expires_after is None else int(expires_after.total_seconds())
        refusal = await connection.publish(topic, payload, retain=True, expiry_seconds=expiry)
        if refusal is not None:
            raise BrokerRefusedError(f"the broker refuses {topic}: {refusal}")

    async def close(self) -> None:
        """Leave in good order. The session, with all that is not acknowledged, stays with the broker."""
        if self._connection is not None:
            self._connection.disconnect()
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._connection.lost.wait()

    async def _greet(self, connection: Connection) -> None:
        """CONNECT and SUBSCRIBE, and see what the broker grants."""
        address = self._address
        granted = await connection.connect(
            mqtt5.ConnectPacket(
                address.client_id,
                username=address.username,
                password=address.password.encode() if address.password is not None else None,
                clean_start=False,
                keep_alive=KEEP_ALIVE_SECONDS,
                session_expiry_interval=SESSION_EXPIRY_SECONDS,
                receive_max=RECEIVE_MAXIMUM,
            )
        )
        self.sessions_lost += not granted.session_present
        expiry = granted.session_expiry_interval
        if expiry is not None and expiry < SESSION_EXPIRY_SECONDS:
            log.warning("the broker keeps our session for less than asked", granted_seconds=expiry)
        refused = await connection.subscribe(address.filters, optional=self._side_filters())
        if refused:
            log.warning("not granted by the broker; less can be watched", topics=refused)
        self._keep_alive = granted.server_keep_alive or KEEP_ALIVE_SECONDS
        log.info(
            "subscribed",
            broker=f"{address.host}:{address.port}",
            client_id=address.client_id,
            session_present=granted.session_present,
        )

    async def _live(self, connection: Connection) -> str:
        """Ping until the connection is lost; returns why it was."""
        async with asyncio.TaskGroup() as tasks:
            pinging = tasks.create_task(connection.keep_alive(self._keep_alive), name="mqtt-keep-alive")
            singing = tasks.create_task(self._canary.sing(connection), name="mqtt-canary")
            await connection.lost.wait()
            pinging.cancel()
            singing.cancel()
        return connection.loss_reason

    def _side_filters(self) -> list[mqtt5.TopicFilter]:
        """What is watched beside telemetry: our own canary, and the broker's count of what it dropped."""
        return [
            mqtt5.TopicFilter(self._canary.topic, max_qos=mqtt5.QoS.AT_LEAST_ONCE),
            mqtt5.TopicFilter(DROPPED_TOPIC, max_qos=mqtt5.QoS.AT_MOST_ONCE),
        ]
