"""The MQTT session with the broker. It outlives connections, subscribes at each, and acknowledges what is committed.

The broker keeps the session (Clean Start 0, Session Expiry Interval 7 days). At the next connection it sends the
messages that were published meanwhile, and those that were not acknowledged (§4.4).
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Final

import structlog

from ingestd.errors import BrokerError, BrokerRefusedError, ConfigError
from ingestd.metrics import Metrics
from ingestd.model.decode import Window
from ingestd.mqtt.address import BrokerAddress
from ingestd.mqtt.connection import Connection, Ticket
from ingestd.mqtt.dropped import DROPPED_TOPIC, DroppedMessages
from ingestd.mqtt.extras import Extra, Extras
from ingestd.mqtt.handshake import KEEP_ALIVE_SECONDS, greet, subscribe
from ingestd.mqtt.probe import Probe
from ingestd.mqtt.reconnection import Reconnection
from ingestd.mqtt.timing import DEFAULT, Timing
from ingestd.pipeline.delivery import Delivery

log = structlog.get_logger(__name__)

CLOSE_SECONDS: Final = 1.0
NOT_CONNECTED: Final = "not connected yet"
ALL_EXTRAS: Final[tuple[Extra, ...]] = ("probe", "$SYS")


class Session:
    """Receives the telemetry of the fleet. It is the origin of every MQTT delivery."""

    def __init__(
        self,
        *,
        address: BrokerAddress,
        window: Window,
        deliver: Callable[[Delivery], None],
        metrics: Metrics,
        read_delay: Callable[[], float] = lambda: 0.0,
        extras: Collection[Extra] = ALL_EXTRAS,
        timing: Timing = DEFAULT,
    ) -> None:
        """`read_delay()`: for how many seconds messages may wait to be read together."""
        self._address = address
        self._window = window
        self._deliver = deliver
        self._metrics = metrics
        self._read_delay = read_delay
        self._connection: Connection | None = None
        self._open = False  # subscribed; only then may reading be paused, or CONNACK and SUBACK are never read
        self._held_by: set[str] = set()
        self._free = asyncio.Event()  # set while no reason holds reading back
        self._free.set()
        self._unsettled = 0  # deliveries
        self._settled = asyncio.Event()  # set while there are none
        self._settled.set()
        self.in_flight = 0
        """Messages that were received and are not settled yet."""
        self._keep_alive: float = KEEP_ALIVE_SECONDS
        self._timing = timing
        self._client_id = address.client_id
        self._probe = Probe(client_id=address.client_id, within=timing.probe_within)
        self._dropped = DroppedMessages(metrics)
        self._extras = Extras(wanted=extras, soon=timing.soon)
        self._reconnection = Reconnection(client_id=address.client_id, timing=timing)
        self._renewed: Connection | None = None  # the one on which we subscribed again
        self._connected_before = False
        self._connection_reason: str | None = NOT_CONNECTED
        self.sessions_begun = 0
        """Connections with Session Present 0: the broker did not know our session, and may have lost retained messages
        as well."""
        self.sessions_lost = 0
        """Those except the first: the broker should have known our session, and the messages that waited in it are
        lost."""

    @property
    def client_id(self) -> str:
        return self._address.client_id

    @property
    def reason(self) -> str | None:
        """Why no telemetry arrives now; None if we are connected and subscribed, and the probe comes back."""
        takeover = self._reconnection.takeover(asyncio.get_running_loop().time())
        return self._connection_reason or takeover or self._probe.reason

    @property
    def is_receiving(self) -> bool:
        """Whether telemetry can arrive now: the session works, and reading is not paused."""
        return self.reason is None and not self._held_by

    async def open(self) -> None:
        """Connect and subscribe, once; raises BrokerError, BrokerRefusedError or ConfigError."""
        try:
            connection = await self._address.dial(self._new_connection, within=self._timing.connect)
        except BrokerError:
            self._reconnection.unreachable()
            raise
        now = asyncio.get_running_loop().time
        self._reconnection.opened(now())
        # Messages may come from CONNACK on, so from here on this connection gets the acknowledgements.
        self._connection = connection
        try:
            granted = await greet(connection, self._address, client_id=self._client_id)
            self._count_session(known=granted.session_present)  # at once: from now on the broker knows us again
            await subscribe(connection, self._address, granted)
        except BrokerError as error:
            self._connection = None
            refused, reason = isinstance(error, BrokerRefusedError), str(error)
            if connection.lost.is_set() and not connection.silent and not refused:
                reason = self._reconnection.ended(now(), reason=reason, taken_over=connection.taken_over)
            else:
                connection.abort(reason)
                self._reconnection.unreachable()
            if refused:
                raise
            raise BrokerError(f"{self._address.place}: {reason}") from error
        log.info(
            "subscribed",
            broker=self._address.place,
            client_id=self._client_id,
            session_present=granted.session_present,
        )
        self._metrics.connections.inc()
        self._client_id = granted.assigned_client_id or self._client_id
        self._keep_alive = granted.server_keep_alive or KEEP_ALIVE_SECONDS
        self._connection_reason = None
        self._open = True
        if self._held_by:
            connection.pause_reading()

    async def run(self) -> None:
        """Wait until the connection is lost, connect and subscribe again; for ever."""
        while True:
            if self._connection is not None:
                await self._live(self._connection)
                self._lost(self._connection)
            await asyncio.sleep(self._reconnection.pause())
            await self._free.wait()  # while reading is held, a new connection would bring messages that may not be read
            try:
                await self.open()
            except (BrokerRefusedError, ConfigError) as error:
                log.error("broker_refused", reason=str(error))  # noqa: TRY400
                self._connection_reason = str(error)
                self._reconnection.refused()
            except BrokerError as error:
                log.warning("broker_unreachable", reason=str(error))
                self._connection_reason = str(error)

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge on the connection that brought the messages.

        The Packet Identifiers of an older connection now belong to other messages, or to none. To acknowledge them
        would delete messages that we have not stored. So they are dropped, and the broker sends those messages again.
        """
        packet_ids: list[int] = []
        self._unsettled -= len(deliveries)
        self.in_flight -= sum(map(len, deliveries))
        if not self._unsettled:
            self._settled.set()
        for delivery in deliveries:
            assert isinstance(delivery.ticket, Ticket)  # noqa: S101 - we made it
            if delivery.ticket.connection is self._connection:
                packet_ids += delivery.ticket.packet_ids
            else:
                self._metrics.stale_acks.inc(len(delivery.ticket.packet_ids))
        if packet_ids and self._connection is not None:
            self._connection.acknowledge(packet_ids)

    def hold(self, reason: str) -> None:
        """Stop reading, and do not connect again, until `reason` is released. The broker queues the messages."""
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
        """Publish a message with QoS 1, retained where the broker can; returns once the broker has it.

        Raises BrokerError if this is not possible now, BrokerRefusedError if the broker refuses the message, and
        MessageTooLargeError if the broker takes no message of this size.
        """
        connection = self._connection
        # While reading is paused no PUBACK can be read.
        if connection is None or not self._open or self._held_by or connection.lost.is_set():
            raise BrokerError(self._connection_reason or "no PUBACK can be read at the moment")
        expiry = None if expires_after is None else int(expires_after.total_seconds())
        refusal = await connection.requests.publish(topic, payload, retain=True, expiry_seconds=expiry)
        if refusal is not None:
            raise BrokerRefusedError(f"the broker refuses {topic}: {refusal}")

    async def settled(self, *, within: float) -> bool:
        """Wait until all that was received is settled, so acknowledged. Returns whether it was in time."""
        try:
            async with asyncio.timeout(within):
                await self._settled.wait()
        except TimeoutError:
            return False
        return True

    async def end(self) -> None:
        """Close, so that another daemon can go on with the session. `open` begins anew."""
        await self.close()
        self._connection = None
        self._open = False
        self._connection_reason = NOT_CONNECTED
        self._probe.forget()
        self._reconnection = Reconnection(client_id=self.client_id, timing=self._timing)

    async def close(self) -> None:
        """Send DISCONNECT. The broker keeps the session, with all messages that are not acknowledged."""
        if self._connection is not None:
            self._connection.disconnect()
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._connection.lost.wait()

    def _new_connection(self) -> Connection:
        return Connection(
            origin=self,
            window=self._window,
            deliver=self._receive,
            side_topics={self._probe.topic: self._probe.receive, DROPPED_TOPIC: self._dropped.note},
            read_delay=self._read_delay,
            answer_seconds=self._timing.answer,
        )

    def _receive(self, delivery: Delivery) -> None:
        self._unsettled += 1
        self._settled.clear()
        self.in_flight += len(delivery)
        self._deliver(delivery)

    def _count_session(self, *, known: bool) -> None:
        again = self._connected_before
        self._connected_before = True
        self.sessions_begun += not known
        if again and not known:
            self.sessions_lost += 1
            self._metrics.broker_sessions_lost.inc()
            log.error("broker_session_lost", client_id=self._client_id, sessions_lost=self.sessions_lost)

    async def _live(self, connection: Connection) -> None:
        """Send pings and probes until the connection is lost."""
        async with asyncio.TaskGroup() as tasks:
            pinging = tasks.create_task(connection.keep_alive(self._keep_alive), name="mqtt-keep-alive")
            watching = tasks.create_task(self._watch(connection), name="mqtt-watch")
            await connection.lost.wait()
            pinging.cancel()
            watching.cancel()

    def _lost(self, connection: Connection) -> None:
        """Remember how a connection ended."""
        self._connection = None
        self._open = False
        now, deaf_since = asyncio.get_running_loop().time(), self._probe.failing_since
        good_until = now if deaf_since is None else deaf_since
        taken_over = connection.taken_over
        self._extras.ended(now, stable=self._reconnection.is_stable(good_until), taken_over=taken_over)
        reason = self._reconnection.ended(good_until, reason=connection.loss_reason, taken_over=taken_over)
        log.warning("broker_connection_lost", reason=reason)
        self._connection_reason = reason

    async def _watch(self, connection: Connection) -> None:
        """Send probes for as long as the connection lasts.

        After the first one, subscribe to the count of dropped messages.
        """
        now = asyncio.get_running_loop().time
        self._probe.failing_since = None
        while True:
            ask_again_at = now() + self._timing.ask_again
            due = now() + self._timing.probe_interval
            probing = self._extras.ask("probe", now())
            if probing:
                await self._send_probe(connection)
            else:
                self._probe.forget()
            if self._extras.ask("$SYS", now()):
                await self._dropped.subscribe(connection.requests)
            while self._extras.complete or now() < ask_again_at:
                await asyncio.sleep(max(0.0, due - now()))
                due = now() + self._timing.probe_interval
                if probing:
                    await self._send_probe(connection)
            self._extras.ask_again()

    async def _send_probe(self, connection: Connection) -> None:
        if not connection.reading:  # no answer could be read, so no probe is sent
            self._extras.answered()
            return
        await self._probe.send(connection)
        if self._probe.reason is None:
            self._extras.answered()
        since = self._probe.failing_since
        if since is None or connection.telemetry_at > since:  # telemetry arrives, so the session is not deaf
            return
        if asyncio.get_running_loop().time() - since >= self._timing.deaf:
            await self._renew(connection)

    async def _renew(self, connection: Connection) -> None:
        """For a deaf session: subscribe again, once for each connection. If that does not help, connect again."""
        if self._renewed is connection:
            connection.abort(f"{self._probe.reason}; subscribing anew did not help")
            return
        self._renewed = connection
        log.error("session_deaf", reason=self._probe.reason, seconds=self._timing.deaf)
        self._probe.subscribe_again()
        started = asyncio.get_running_loop().time()
        try:
            await connection.requests.subscribe(self._address.filters)
        except BrokerError as error:
            if connection.has_read_since(started) and not connection.lost.is_set():
                connection.abort(f"{self._probe.reason}; subscribing anew fails: {error}")
