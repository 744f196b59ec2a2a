"""One network connection to the broker: bytes in, deliveries out; acknowledgements in, bytes out.

The codec (`mqtt5`) does no I/O; this is the asyncio protocol around it. Section numbers are those of the
OASIS MQTT 5.0 specification.
"""

import asyncio
import ssl
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple, cast

import mqtt5

from ingestd import tls
from ingestd.errors import BrokerError, BrokerRefusedError
from ingestd.model.decode import Window, decode
from ingestd.model.timestamps import now_microseconds
from ingestd.mqtt import foreign
from ingestd.mqtt.malformed import is_malformed, read_malformed
from ingestd.mqtt.requests import Requests, in_words
from ingestd.pipeline.delivery import Delivery, Origin

RECEIVE_MAXIMUM: Final = 65_000
"""The Receive Maximum of our CONNECT (§3.1.2.11.3): messages of QoS 1 and 2 that the broker may send before it waits
for acknowledgements. Not 65,535: that is the default, which the codec leaves out, and Mosquitto then uses its limit of
20."""

READ_BYTES: Final = 64 * 1024
"""The most that is read at once: some 450 messages, three milliseconds of work."""

_SMALL_READ: Final = 4 * 1024  # bytes
"""About 25 messages. After a smaller read, the broker has probably no more messages now."""

_PUBACK_FIXED_HEADER: Final = 0x4002
_PUBREC_FIXED_HEADER: Final = 0x5002
"""The first two bytes of PUBACK and PUBREC. Only a Packet Identifier follows: then the Reason Code is Success
(§3.4.2.1, §3.5.2.1)."""

CLOSED: Final = "connection closed by the broker"
"""Without a DISCONNECT."""

_EXACTLY_ONCE: Final = mqtt5.QoS.EXACTLY_ONCE


class Connection(asyncio.BufferedProtocol):
    """Speaks MQTT 5 over one network connection. Once that is lost, the object is never used again."""

    def __init__(
        self,
        *,
        origin: Origin,
        window: Window,
        deliver: Callable[[Delivery], None],
        side_topics: Mapping[str, Callable[[bytes], None]] = MappingProxyType({}),
        read_delay: Callable[[], float] = lambda: 0.0,
        answer_seconds: float = 10.0,
    ) -> None:
        """`answer_seconds`: how long CONNACK, SUBACK and PUBACK may take. `side_topics`: topics without telemetry, and
        what takes their payloads.

        After a small read, nothing is read for `read_delay()` seconds: a read for each single message costs ten times
        as much CPU as decoding the message.
        """
        self.lost = asyncio.Event()
        self.requests = Requests(write=self._write, answer_seconds=answer_seconds)
        self.loss_reason = CLOSED
        self.silent = True
        """Whether no byte was received on this connection, not even a TLS alert."""
        self.taken_over = False
        """Whether the broker ended the connection with reason 0x8E, session taken over."""
        self.telemetry_at = 0.0
        """When the latest telemetry was received, by the event loop's clock."""
        self._origin = origin
        self._window = window
        self._deliver = deliver
        self._side_topics = side_topics
        self._read_delay = read_delay
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray(READ_BYTES)
        self._filled = 0  # bytes of a packet that is not whole yet, at the start of the buffer
        self._answer_seconds = answer_seconds
        self._greeting: asyncio.Future[mqtt5.ConnAckPacket] | None = None
        self._exactly_once: set[int] = set()
        """Packet Identifiers of QoS 2 messages, from their PUBLISH to their PUBREL (§4.3.3)."""
        self.reading = True
        """Whether `pause_reading` is not in force. While this is False, no answer of the broker can be read."""
        self._paused = False
        self._flowing = True  # whether the transport reads
        self._last_received = 0.0
        self._last_pause = 0.0

    # What the session asks for

    async def connect(self, packet: mqtt5.ConnectPacket) -> mqtt5.ConnAckPacket:
        """Send CONNECT; raises BrokerError, or BrokerRefusedError where the broker says no."""
        self._greeting = self._loop.create_future()
        self._write(packet.write())
        try:
            async with asyncio.timeout(self._answer_seconds):
                granted = await self._greeting
        except TimeoutError as error:
            raise BrokerError(f"no CONNACK from the broker within {self._answer_seconds:g} s") from error
        if granted.reason_code is not mqtt5.ConnAckReasonCode.SUCCESS:
            detail = granted.reason_str or in_words(granted.reason_code)
            raise BrokerRefusedError(f"the broker refuses the connection: {detail}")
        self.requests.obey(granted)
        return granted

    def acknowledge(self, packet_ids: Sequence[int]) -> None:
        """Send PUBACK or PUBREC for these in one write, in the order in which their PUBLISH packets came (§4.6)."""
        if self._exactly_once:
            fields = [field for packet_id in packet_ids for field in (self._header(packet_id), packet_id)]
        else:
            fields = [field for packet_id in packet_ids for field in (_PUBACK_FIXED_HEADER, packet_id)]
        self._write(struct.pack(f"!{len(fields)}H", *fields))

    def pause_reading(self) -> None:
        """Stop reading. The broker queues the messages meanwhile."""
        self._last_pause = self._loop.time()
        self.reading = False
        self._set_flow()

    def resume_reading(self) -> None:
        """Go on after `pause_reading`."""
        self._last_received = self._loop.time()
        self.reading = True
        self._set_flow()

    def has_read_since(self, at: float) -> bool:
        """Whether reading was not paused since then (the event loop's time).

        Only then is a missing answer a sign of a fault.
        """
        return self.reading and self._last_pause < at

    async def keep_alive(self, seconds: float) -> None:
        """Send PINGREQ at half of the Keep Alive (§3.1.2.10); close if nothing is received for one and a half of it.

        While reading is paused, no answer can be received, so the connection is not closed then.
        """
        while not self.lost.is_set():
            await asyncio.sleep(seconds / 2)
            if self.reading and self._loop.time() - self._last_received > seconds * 1.5:
                self.abort(f"nothing heard from the broker for {seconds * 1.5:.0f} s")
                return
            self._write(mqtt5.PingReqPacket().write())

    def disconnect(self, *, end_session: bool = False) -> None:
        """Send DISCONNECT (§3.14) and close. The broker keeps the session, unless it shall end (§3.14.2.2.2)."""
        expiry = 0 if end_session else None
        self._write(mqtt5.DisconnectPacket(session_expiry_interval=expiry).write())
        if self._transport is not None:
            self._transport.close()

    def abort(self, reason: str) -> None:
        self.loss_reason = reason
        if self._transport is not None:
            self._transport.abort()

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        self._last_received = self._loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        # EPIPE says no more than that the broker had closed the connection before we wrote.
        if exc is not None and not isinstance(exc, BrokenPipeError):
            self.loss_reason = tls.explain(exc)
            self.silent = self.silent and not isinstance(exc, ssl.SSLError)
        self.lost.set()
        if self._greeting is not None and not self._greeting.done():
            self._greeting.set_exception(BrokerError(self.loss_reason))
        self.requests.fail(self.loss_reason)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        if self._filled == len(self._buffer):  # a packet larger than the buffer
            self._buffer = self._buffer + bytes(len(self._buffer))
        return memoryview(self._buffer)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Decode every complete packet, and deliver their messages together.

        An incomplete packet waits for the next read.
        """
        self.silent = False
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
            packet_id = packet.packet_id
            if packet_id is not None:
                packet_ids.append(packet_id)
                if packet.qos is _EXACTLY_ONCE:
                    self._exactly_once.add(packet_id)
        if len(delivery):
            self.telemetry_at = self._last_received
        # A delivery without readings still has packets to acknowledge, in the order of receipt.
        if packet_ids or len(delivery):
            self._deliver(delivery)
        self._pause_between_reads(self._read_delay() if packet_ids and nbytes <= _SMALL_READ else 0.0)

    # Inside

    def _packets(self, end: int, delivery: Delivery, packet_ids: list[int]) -> Iterator[mqtt5.Packet]:
        """Every complete packet of the buffer up to `end`. The bytes that are left move to the start of the buffer."""
        view = memoryview(self._buffer)
        offset = 0
        while True:
            try:
                packet, size = mqtt5.read(view[offset:end])
            except IndexError:
                break
            except BaseException as error:  # the codec's panics are no Exception
                if not is_malformed(error):
                    raise
                size = self._keep_malformed(view[offset:end], error, delivery, packet_ids)
                if not size:
                    break
                offset += size
                continue
            offset += size
            yield packet
        self._filled = end - offset
        self._buffer[: self._filled] = view[offset:end]

    def _pause_between_reads(self, seconds: float) -> None:
        """Read nothing for this long, and at least until other tasks of the event loop have run.

        libuv reads a busy socket up to 32 times in a row. In a backlog that would delay a flush by hundreds of
        milliseconds.
        """
        self._paused = True
        self._set_flow()
        if seconds:
            self._loop.call_later(seconds, self._read_again)
        else:
            self._loop.call_soon(self._read_again)

    def _read_again(self) -> None:
        self._paused = False
        self._set_flow()

    def _set_flow(self) -> None:
        """Start or stop reading from the transport, as `reading` and `_paused` say."""
        wanted = self.reading and not self._paused
        if wanted is self._flowing or self._transport is None or self._transport.is_closing():
            return
        self._flowing = wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _keep_malformed(self, view: memoryview, error: BaseException, delivery: Delivery, packet_ids: list[int]) -> int:
        """Keep a malformed PUBLISH as a dead letter. Returns its size; 0 if the connection was closed instead."""
        found = read_malformed(view)
        if found is None:
            self.abort(foreign.explain(bytes(view[:4])) or f"malformed packet from the broker: {error}")
            return 0
        delivery.dead_letters.append(found.dead_letter(str(error), now_microseconds()))
        packet_ids += found.packet_ids
        if found.exactly_once:
            self._exactly_once.update(found.packet_ids)
        return found.size

    def _control(self, packet: mqtt5.Packet) -> None:
        match packet:
            case mqtt5.ConnAckPacket() if self._greeting is not None and not self._greeting.done():
                self._greeting.set_result(packet)
            case mqtt5.SubAckPacket() | mqtt5.UnsubAckPacket() | mqtt5.PubAckPacket() if self.requests.answered(packet):
                pass
            case mqtt5.PubRelPacket():
                self._complete(packet.packet_id)
            case mqtt5.DisconnectPacket():
                self.taken_over = packet.reason_code is mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER
                self.loss_reason = f"the broker disconnects: {packet.reason_str or in_words(packet.reason_code)}"
            case mqtt5.PingRespPacket():
                pass
            case _:
                self.abort(f"unexpected {type(packet).__name__} from the broker")

    def _header(self, packet_id: int) -> int:
        return _PUBREC_FIXED_HEADER if packet_id in self._exactly_once else _PUBACK_FIXED_HEADER

    def _complete(self, packet_id: int) -> None:
        """Answer PUBREL with PUBCOMP. We do not know the Packet Identifiers of earlier connections (§3.7.2.1)."""
        codes = mqtt5.PubCompReasonCode
        code = codes.SUCCESS if packet_id in self._exactly_once else codes.PACKET_ID_NOT_FOUND
        self._exactly_once.discard(packet_id)
        self._write(mqtt5.PubCompPacket(packet_id, reason_code=code).write())

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


class Ticket(NamedTuple):
    """The connection and the Packet Identifiers by which a delivery is acknowledged."""

    connection: Connection
    packet_ids: list[int]
