"""One network connection to the broker: bytes in, deliveries out; acknowledgements in, bytes out.

The codec (`mqtt5`) does no I/O; this is the asyncio.Protocol around it. Section numbers are those of the
OASIS MQTT 5.0 specification.
"""

import asyncio
import struct
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeVar, cast

import mqtt5

from ingestd.errors import BrokerError, BrokerRefusedError
from ingestd.pipeline.delivery import Delivery, Origin
from ingestd.telemetry import Window, decode, now_microseconds

RECEIVE_MAXIMUM: Final = 65_000
"""Messages the broker may have unacknowledged with us. Not 65,535: that is the default the codec leaves out
of CONNECT, and Mosquitto then falls back to its own limit of 20."""

_PUBACK_FIXED_HEADER: Final = 0x4002
"""PUBACK, two bytes follow: with nothing but a packet id the reason is success (§3.4.2.1)."""

_ANSWER_SECONDS: Final = 10.0
"""How long CONNACK, SUBACK may take."""

_Answer = TypeVar("_Answer", mqtt5.ConnAckPacket, mqtt5.SubAckPacket)


class Connection(asyncio.Protocol):
    """Speaks MQTT 5 over one transport. Its object is its epoch: once lost, it is never used again."""

    def __init__(
        self,
        *,
        origin: Origin,
        window: Window,
        deliver: Callable[[Delivery], None],
    ) -> None:
        self.lost = asyncio.Event()
        self.loss_reason = "connection closed by the broker"
        self._origin = origin
        self._window = window
        self._deliver = deliver
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._answer: asyncio.Future[mqtt5.ConnAckPacket | mqtt5.SubAckPacket] | None = None
        self._reading = True
        self._last_received = 0.0

    # What the session asks for

    async def connect(self, packet: mqtt5.ConnectPacket) -> mqtt5.ConnAckPacket:
        """Send CONNECT; raises BrokerError, or BrokerRefusedError where the broker says no."""
        answer = await self._ask(packet.write(), mqtt5.ConnAckPacket)
        if answer.reason_code is not mqtt5.ConnAckReasonCode.SUCCESS:
            detail = answer.reason_str or answer.reason_code.name.lower().replace("_", " ")
            raise BrokerRefusedError(f"the broker refuses the connection: {detail}")
        return answer

    async def subscribe(self, filters: Sequence[str]) -> None:
        """Subscribe with QoS 1 and check what was granted (§3.9.3); raises BrokerError or BrokerRefusedError."""
        packet = mqtt5.SubscribePacket(
            1,
            [
                mqtt5.TopicFilter(
                    pattern,
                    max_qos=mqtt5.QoS.AT_LEAST_ONCE,
                    retain_handling=mqtt5.RetainHandling.SEND_NEVER,
                )
                for pattern in filters
            ],
        )
        answer = await self._ask(packet.write(), mqtt5.SubAckPacket)
        for pattern, code in zip(filters, answer.reason_codes, strict=True):
            if code is not mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE:
                raise BrokerRefusedError(
                    f"the broker does not grant QoS 1 on {pattern}: {code.name.lower().replace('_', ' ')}"
                )

    def acknowledge(self, packet_ids: Sequence[int]) -> None:
        """PUBACK these, in this order, in one write (§4.6: in the order the PUBLISH packets came)."""
        fields = [field for packet_id in packet_ids for field in (_PUBACK_FIXED_HEADER, packet_id)]
        self._write(struct.pack(f"!{len(fields)}H", *fields))

    def pause_reading(self) -> None:
        """Let the broker hold the backlog."""
        if self._reading and self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
        self._reading = False

    def resume_reading(self) -> None:
        if not self._reading and self._transport is not None and not self._transport.is_closing():
            self._last_received = asyncio.get_running_loop().time()
            self._transport.resume_reading()
        self._reading = True

    async def keep_alive(self, seconds: float) -> None:
        """Ping at half the interval (§3.1.2.10) and give the connection up after one and a half without a sign.

        While reading is paused nothing can be heard, so silence then means nothing.
        """
        loop = asyncio.get_running_loop()
        while not self.lost.is_set():
            await asyncio.sleep(seconds / 2)
            if self._reading and loop.time() - self._last_received > seconds * 1.5:
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
        self._last_received = asyncio.get_running_loop().time()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self.loss_reason = str(exc)
        self.lost.set()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(BrokerError(self.loss_reason))

    def data_received(self, data: bytes) -> None:
        """Decode every whole packet and hand the messages over as one delivery; keep the rest for the next read."""
        self._last_received = asyncio.get_running_loop().time()
        if self._rest:
            data = self._rest + data
        received_at = now_microseconds()
        oldest, newest = self._window.around(received_at)
        packet_ids: list[int] = []
        delivery = Delivery(origin=self._origin, source="mqtt", ticket=Ticket(self, packet_ids), size_bytes=len(data))
        readings, dead_letters = delivery.readings, delivery.dead_letters
        view = memoryview(data)
        offset = 0
        while True:
            try:
                packet, size = mqtt5.read(view[offset:])
            except IndexError:
                break
            except ValueError as error:
                self.abort(f"malformed packet from the broker: {error}")
                break
            offset += size
            if isinstance(packet, mqtt5.PublishPacket):
                decoded = decode(packet.topic, packet.payload, oldest=oldest, newest=newest, received_at=received_at)
                if isinstance(decoded, tuple):
                    readings[decoded[0]].append(decoded[1])
                else:
                    dead_letters.append(decoded)
                if packet.packet_id is not None:
                    packet_ids.append(packet.packet_id)
            else:
                self._control(packet)
        self._rest = data[offset:]
        if len(delivery):
            self._deliver(delivery)

    # Inside

    async def _ask(self, packet: bytes, expected: type[_Answer]) -> _Answer:
        self._answer = asyncio.get_running_loop().create_future()
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
                self.loss_reason = f"the broker disconnects: {packet.reason_code.name.lower().replace('_', ' ')}"
            case mqtt5.PingRespPacket():
                pass
            case _:
                self.abort(f"unexpected {type(packet).__name__} from the broker")

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


class Ticket(NamedTuple):
    """What a delivery is acknowledged with."""

    connection: Connection
    packet_ids: list[int]
