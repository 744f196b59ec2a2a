"""One network connection to the broker: bytes in, deliveries out; acknowledgements in, bytes out.

The codec (`mqtt5`) does no I/O; this is the asyncio protocol around it. Section numbers are those of the
OASIS MQTT 5.0 specification.
"""

import asyncio
import enum
import itertools
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple, TypeVar, cast

import mqtt5

from ingestd.errors import BrokerError, BrokerRefusedError
from ingestd.mqtt.salvage import is_unreadable, salvage
from ingestd.pipeline.delivery import Delivery, Origin
from ingestd.telemetry import Window, decode, now_microseconds

RECEIVE_MAXIMUM: Final = 65_000
"""Messages the broker may have unacknowledged with us. Not 65,535: that is the default the codec leaves out
of CONNECT, and Mosquitto then falls back to its own limit of 20."""

READ_BYTES: Final = 64 * 1024
"""The most that is read at once: some 450 messages, three milliseconds' work."""

_SMALL_READ: Final = 4 * 1024  # bytes
"""A read of no more than some 25 messages: the broker has nothing else for us at the moment."""

_PUBACK_FIXED_HEADER: Final = 0x4002
"""PUBACK, two bytes follow: with nothing but a packet id the reason is success (§3.4.2.1)."""

_SUBSCRIBE_ID: Final = 1
_FIRST_PUBLISH_ID: Final = 2
_FIRST_REFUSAL: Final = 0x80
"""Reason codes from here on are failures (§2.4)."""

_ANSWER_SECONDS: Final = 10.0
"""How long CONNACK, SUBACK may take."""

_Answer = TypeVar("_Answer", mqtt5.ConnAckPacket, mqtt5.SubAckPacket)


class Connection(asyncio.BufferedProtocol):
    """Speaks MQTT 5 over one transport. Its object is its epoch: once lost, it is never used again."""

    def __init__(
        self,
        *,
        origin: Origin,
        window: Window,
        deliver: Callable[[Delivery], None],
        side_topics: Mapping[str, Callable[[bytes], None]] = MappingProxyType({}),
        patience: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`side_topics` are those that carry no telemetry, with who listens to them.

        After a small read, nothing is read for as many seconds as `patience` says: to wake up for every single message
        costs ten times as much as the message.
        """
        self.lost = asyncio.Event()
        self.loss_reason = "connection closed by the broker"
        self._origin = origin
        self._window = window
        self._deliver = deliver
        self._side_topics = side_topics
        self._patience = patience
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray(READ_BYTES)
        self._filled = 0  # bytes of a packet that is not whole yet, at the start of the buffer
        self._answer: asyncio.Future[mqtt5.ConnAckPacket | mqtt5.SubAckPacket] | None = None
        self._published: dict[int, asyncio.Future[mqtt5.PubAckPacket]] = {}  # by packet id
        self.reading = True
        """Whether we want to read; nothing can be heard while it is False."""
        self._resting = False
        self._flowing = True  # whether the transport reads
        self._last_received = 0.0

    # What the session asks for

    async def connect(self, packet: mqtt5.ConnectPacket) -> mqtt5.ConnAckPacket:
        """Send CONNECT; raises BrokerError, or BrokerRefusedError where the broker says no."""
        answer = await self._ask(packet.write(), mqtt5.ConnAckPacket)
        if answer.reason_code is not mqtt5.ConnAckReasonCode.SUCCESS:
            detail = answer.reason_str or _in_words(answer.reason_code)
            raise BrokerRefusedError(f"the broker refuses the connection: {detail}")
        return answer

    async def subscribe(self, filters: Sequence[str], *, optional: Sequence[mqtt5.TopicFilter] = ()) -> list[str]:
        """Subscribe to `filters` with QoS 1 and check what was granted (§3.9.3).

        Of the optional ones those the broker refuses are returned. Raises BrokerError or BrokerRefusedError.
        """
        required = [
            mqtt5.TopicFilter(pattern, max_qos=mqtt5.QoS.AT_LEAST_ONCE, retain_handling=mqtt5.RetainHandling.SEND_NEVER)
            for pattern in filters
        ]
        packet = mqtt5.SubscribePacket(_SUBSCRIBE_ID, [*required, *optional])
        answer = await self._ask(packet.write(), mqtt5.SubAckPacket)
        for pattern, code in zip(filters, answer.reason_codes, strict=False):
            if code is not mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE:
                raise BrokerRefusedError(f"the broker does not grant QoS 1 on {pattern}: {_in_words(code)}")
        return [
            wanted.pattern
            for wanted, code in zip(optional, answer.reason_codes[len(required) :], strict=True)
            if code.value >= _FIRST_REFUSAL
        ]

    async def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, expiry_seconds: int | None = None
    ) -> str | None:
        """Publish one small message with QoS 1; returns why the broker refuses it, None where it took it.

        Raises BrokerError when the connection is lost meanwhile.
        """
        packet_id = next(number for number in itertools.count(_FIRST_PUBLISH_ID) if number not in self._published)
        published = self._published[packet_id] = self._loop.create_future()
        packet = mqtt5.PublishPacket(
            topic,
            payload,
            qos=mqtt5.QoS.AT_LEAST_ONCE,
            packet_id=packet_id,
            retain=retain,
            message_expiry_interval=expiry_seconds,
        )
        self._write(packet.write())
        answer = await published
        return _in_words(answer.reason_code) if answer.reason_code.value >= _FIRST_REFUSAL else None

    def acknowledge(self, packet_ids: Sequence[int]) -> None:
        """PUBACK these, in this order, in one write (§4.6: in the order the PUBLISH packets came)."""
        fields = [field for packet_id in packet_ids for field in (_PUBACK_FIXED_HEADER, packet_id)]
        self._write(struct.pack(f"!{len(fields)}H", *fields))

    def pause_reading(self) -> None:
        """Let the broker hold the backlog."""
        self.reading = False
        self._set_flow()

    def resume_reading(self) -> None:
        """Go on after `pause_reading`."""
        self._last_received = self._loop.time()
        self.reading = True
        self._set_flow()

    async def keep_alive(self, seconds: float) -> None:
        """Ping at half the interval (§3.1.2.10) and give the connection up after one and a half without a sign.

        While reading is paused nothing can be heard, so silence then means nothing.
        """
        while not self.lost.is_set():
            await asyncio.sleep(seconds / 2)
            if self.reading and self._loop.time() - self._last_received > seconds * 1.5:
                self.abort(f"nothing heard from the broker for {seconds * 1.5:.0f} s")
                return
            self._write(mqtt5.PingReqPacket().write())

    def disconnect(self) -> None:
        """Leave in good order (§3.14); the session stays with the broker."""
        self._write(mqtt5.DisconnectPacket().write())
        if self._transport is not None:
            self._transport.close()

    def abort(self, reason: str) -> None:
        self.loss_reason = reason
        if self._transport is not None:
            self._transport.abort()

    # What the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        self._last_received = self._loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self.loss_reason = str(exc)
        self.lost.set()
        for waiting in (self._answer, *self._published.values()):
            if waiting is not None and not waiting.done():
                waiting.set_exception(BrokerError(self.loss_reason))

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        if self._filled == len(self._buffer):  # a packet larger than the buffer
            self._buffer = self._buffer + bytes(len(self._buffer))
        return memoryview(self._buffer)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Decode every whole packet and hand the messages over as one delivery; keep the rest for the next read."""
        self._last_received = self._loop.time()
        received_at = now_microseconds()
        oldest, newest = self._window.around(received_at)
        packet_ids: list[int] = []
        delivery = Delivery(origin=self._origin, source="mqtt", ticket=Ticket(self, packet_ids), size_bytes=nbytes)
        readings, dead_letters = delivery.readings, delivery.dead_letters
        for packet in self._packets(self._filled + nbytes, delivery, packet_ids):
            if not isinstance(packet, mqtt5.PublishPacket):
                self._control(packet)
                continue
            decoded = decode(packet.topic, packet.payload, oldest=oldest, newest=newest, received_at=received_at)
            if isinstance(decoded, tuple):
                readings[decoded[0]].append(decoded[1])
            elif packet.topic in self._side_topics:
                self._side_topics[packet.topic](packet.payload)
            else:
                dead_letters.append(decoded)
            if packet.packet_id is not None:
                packet_ids.append(packet.packet_id)
        # A delivery with nothing but packet ids still has to be acknowledged in its turn.
        if packet_ids or len(delivery):
            self._deliver(delivery)
        self._rest(self._patience() if packet_ids and nbytes <= _SMALL_READ else 0.0)

    # Inside

    def _packets(self, end: int, delivery: Delivery, packet_ids: list[int]) -> Iterator[mqtt5.Packet]:
        """Every whole packet of the buffer up to `end`; what is left moves to its start."""
        view = memoryview(self._buffer)
        offset = 0
        while True:
            try:
                packet, size = mqtt5.read(view[offset:end])
            except IndexError:
                break
            except BaseException as error:  # the codec's panics are no Exception
                if not is_unreadable(error):
                    raise
                size = self._salvage(view[offset:end], error, delivery, packet_ids)
                if not size:
                    break
                offset += size
                continue
            offset += size
            yield packet
        self._filled = end - offset
        self._buffer[: self._filled] = view[offset:end]

    def _rest(self, seconds: float) -> None:
        """Read nothing for so long, and at least until everybody else on the event loop has had a turn.

        libuv reads a busy socket up to 32 times in a row, which with a backlog would hold up a flush for
        hundreds of milliseconds.
        """
        self._resting = True
        self._set_flow()
        if seconds:
            self._loop.call_later(seconds, self._go_on)
        else:
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._resting = False
        self._set_flow()

    def _set_flow(self) -> None:
        """Read from the transport, or do not, as wanted by now."""
        wanted = self.reading and not self._resting
        if wanted is self._flowing or self._transport is None or self._transport.is_closing():
            return
        self._flowing = wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _salvage(self, view: memoryview, error: BaseException, delivery: Delivery, packet_ids: list[int]) -> int:
        """Keep a PUBLISH the codec will not read as a dead letter; its size, or 0 where nothing can be kept."""
        found = salvage(view)
        if found is None:
            self.abort(f"malformed packet from the broker: {error}")
            return 0
        delivery.dead_letters.append(found.dead_letter(str(error), now_microseconds()))
        packet_ids += found.packet_ids
        return found.size

    async def _ask(self, packet: bytes, expected: type[_Answer]) -> _Answer:
        self._answer = self._loop.create_future()
        self._write(packet)
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                answer = await self._answer
        except TimeoutError as error:
            raise BrokerError(f"the broker did not answer within {_ANSWER_SECONDS:.0f} s") from error
        if not isinstance(answer, expected):
            raise BrokerError(f"the broker answered {type(answer).__name__} out of turn")
        return answer

    def _control(self, packet: mqtt5.Packet) -> None:
        match packet:
            case mqtt5.ConnAckPacket() | mqtt5.SubAckPacket() if self._answer and not self._answer.done():
                self._answer.set_result(packet)
            case mqtt5.DisconnectPacket():
                self.loss_reason = f"the broker disconnects: {_in_words(packet.reason_code)}"
            case mqtt5.PubAckPacket() if packet.packet_id in self._published:
                published = self._published.pop(packet.packet_id)
                if not published.done():  # else nobody waits for it any more
                    published.set_result(packet)
            case mqtt5.PingRespPacket():
                pass
            case _:
                self.abort(f"unexpected {type(packet).__name__} from the broker")

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


def _in_words(code: enum.IntEnum) -> str:
    return code.name.lower().replace("_", " ")


class Ticket(NamedTuple):
    """What a delivery is acknowledged with."""

    connection: Connection
    packet_ids: list[int]
