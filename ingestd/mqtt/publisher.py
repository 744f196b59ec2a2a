"""Publishes as devices do: with QoS 1, many messages in flight at once, each acknowledged by the broker."""

import asyncio
import itertools
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Final, TypeAlias, cast

import mqtt5

from ingestd.config import Settings
from ingestd.errors import BrokerError, BrokerRefusedError
from ingestd.mqtt.address import BrokerAddress
from ingestd.mqtt.malformed import is_malformed
from ingestd.mqtt.requests import in_words, refusal

Message: TypeAlias = tuple[str, bytes]
"""Topic and payload."""

IN_FLIGHT: Final = 2_000
"""Messages that may wait for their PUBACK, if the Receive Maximum of the broker allows it."""
AT_ONCE: Final = 200
"""Messages in one write: a few milliseconds of work. Then other tasks of the event loop run."""
ANSWER_SECONDS: Final = 10.0
CLOSE_SECONDS: Final = 1.0
KEEP_ALIVE_SECONDS: Final = 30


class Publisher(asyncio.Protocol):
    """One connection to the broker; `publish` returns when the broker has acknowledged every message."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._rest = b""  # of a packet that is not whole yet
        self._connected: asyncio.Future[mqtt5.ConnAckPacket] = self._loop.create_future()
        self._lost = asyncio.Event()
        self._loss_reason = "connection closed by the broker"
        self._window = IN_FLIGHT
        self._packet_ids = itertools.cycle(range(1, 65_536))
        self._under_way: set[int] = set()
        self._answered = asyncio.Event()
        self._refusals: Counter[str] = Counter()
        self._next_ping: asyncio.TimerHandle | None = None

    async def connect(self, packet: mqtt5.ConnectPacket) -> None:
        """Send CONNECT; raises BrokerError, or BrokerRefusedError where the broker says no."""
        self._write(packet.write())
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await self._connected
        except TimeoutError as error:
            raise BrokerError(f"no answer within {ANSWER_SECONDS:.0f} s") from error
        if answer.reason_code is not mqtt5.ConnAckReasonCode.SUCCESS:
            raise BrokerRefusedError(f"the broker refuses the connection: {in_words(answer.reason_code)}")
        self._window = min(IN_FLIGHT, answer.receive_max)
        self._ping(answer.server_keep_alive or KEEP_ALIVE_SECONDS)

    async def publish(
        self,
        messages: Iterable[Message],
        *,
        rate: float | None = None,
        progress: Callable[[int], None] = lambda _: None,
    ) -> int:
        """Publish in order; returns how many. `rate` is in messages a second, as fast as possible where it is None.

        Raises BrokerError, also where the broker refuses any of them.
        """
        pending = iter(messages)
        started = self._loop.time()
        taken = 0
        try:
            while batch := list(itertools.islice(pending, await self._due(taken, rate, started))):
                self._send(batch)
                taken += len(batch)
                progress(len(batch))
            await self._under_way_at_most(0)
        except BrokerError as error:
            raise BrokerError(f"publishing stopped after {taken} messages: {error}") from error
        if self._refusals:
            ((reason, count),) = self._refusals.most_common(1)
            raise BrokerError(f"the broker refused {count} of {taken} messages: {reason}")
        return taken

    async def close(self) -> None:
        """Send DISCONNECT (MQTT 5.0 §3.14) and close."""
        if self._transport is None or self._lost.is_set():
            return
        self._write(mqtt5.DisconnectPacket().write())
        self._transport.close()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._lost.wait()
        except TimeoutError:
            self._transport.abort()

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._loss_reason = str(exc)
        self._lost.set()
        self._answered.set()
        if self._next_ping is not None:
            self._next_ping.cancel()
        if not self._connected.done():
            self._connected.set_exception(BrokerError(self._loss_reason))

    def data_received(self, data: bytes) -> None:
        received = memoryview(self._rest + data)
        offset = 0
        while True:
            try:
                packet, size = mqtt5.read(received[offset:])
            except IndexError:
                break
            except BaseException as error:  # the codec's panics are no Exception
                if not is_malformed(error):
                    raise
                self._abort(f"malformed packet from the broker: {error}")
                return
            offset += size
            self._take(packet)
        self._rest = bytes(received[offset:])
        self._answered.set()

    # Inside

    def _take(self, packet: mqtt5.Packet) -> None:
        match packet:
            case mqtt5.PubAckPacket():
                self._under_way.discard(packet.packet_id)
                if reason := refusal(packet.reason_code):
                    self._refusals[reason] += 1
            case mqtt5.ConnAckPacket() if not self._connected.done():
                self._connected.set_result(packet)
            case mqtt5.DisconnectPacket():
                self._loss_reason = f"the broker disconnects: {in_words(packet.reason_code)}"
            case mqtt5.PingRespPacket():
                pass
            case _:
                self._abort(f"unexpected {type(packet).__name__} from the broker")

    async def _due(self, taken: int, rate: float | None, started: float) -> int:
        """Wait until messages are due and there is room for them; returns how many to send. Raises BrokerError."""
        wait = 0.0 if rate is None else started + taken / rate - self._loop.time()
        await asyncio.sleep(wait)  # also for 0 s, so that other tasks of the event loop run
        # One is room enough: what goes out brings the broker's next answers, which TCP holds back meanwhile.
        await self._under_way_at_most(self._window - 1)
        room = min(AT_ONCE, self._window - len(self._under_way))
        if rate is None:
            return room
        return max(1, min(room, int((self._loop.time() - started) * rate) + 1 - taken))

    def _send(self, batch: list[Message]) -> None:
        packets = []
        for topic, payload in batch:
            packet_id = next(number for number in self._packet_ids if number not in self._under_way)
            self._under_way.add(packet_id)
            packet = mqtt5.PublishPacket(topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=packet_id)
            packets.append(packet.write())
        self._write(b"".join(packets))

    async def _under_way_at_most(self, most: int) -> None:
        """Wait until no more messages than that are without PUBACK. Raises BrokerError."""
        while not self._lost.is_set() and len(self._under_way) > most:
            self._answered.clear()
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await self._answered.wait()
            except TimeoutError as error:
                raise BrokerError(f"no answer within {ANSWER_SECONDS:.0f} s") from error
        if self._lost.is_set():
            raise BrokerError(self._loss_reason)

    def _ping(self, keep_alive: float) -> None:
        """Send PINGREQ at half of the Keep Alive, so that the broker does not close the connection (MQTT 5.0
        §3.1.2.10).
        """
        self._write(mqtt5.PingReqPacket().write())
        self._next_ping = self._loop.call_later(keep_alive / 2, self._ping, keep_alive)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _abort(self, reason: str) -> None:
        self._loss_reason = reason
        if self._transport is not None:
            self._transport.abort()


@asynccontextmanager
async def connected(settings: Settings, *, client_id: str) -> AsyncIterator[Publisher]:
    """A publisher on the broker of the settings, under a client id of its own; raises BrokerError."""
    packet = mqtt5.ConnectPacket(
        f"{client_id}-{secrets.token_hex(4)}",
        username=settings.mqtt_username,
        password=settings.mqtt_password.get_secret_value().encode() if settings.mqtt_password else None,
        clean_start=True,
        keep_alive=KEEP_ALIVE_SECONDS,
    )
    publisher = await BrokerAddress.of(settings).dial(Publisher, within=ANSWER_SECONDS)
    try:
        await publisher.connect(packet)
        yield publisher
    finally:
        await publisher.close()
