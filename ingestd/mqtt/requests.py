"""Our own SUBSCRIBE and PUBLISH packets on one connection. Their answers are matched by Packet Identifier."""

import asyncio
import enum
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, TypeAlias, TypeVar

import mqtt5

from ingestd.errors import BrokerError, BrokerRefusedError, MessageTooLargeError

Answer: TypeAlias = mqtt5.SubAckPacket | mqtt5.UnsubAckPacket | mqtt5.PubAckPacket

_FIRST_REFUSAL: Final = 0x80
"""Reason codes from here on are failures (§2.4)."""

_Packet = TypeVar("_Packet", mqtt5.SubAckPacket, mqtt5.UnsubAckPacket, mqtt5.PubAckPacket)


class Requests:
    """Sends requests. A Packet Identifier is in use until its answer has come, also if no caller waits any more."""

    def __init__(self, *, write: Callable[[bytes], None], answer_seconds: float) -> None:
        """`answer_seconds` is how long an answer may take."""
        self._write = write
        self._answer_seconds = answer_seconds
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self.obey(mqtt5.ConnAckPacket())

    def obey(self, granted: mqtt5.ConnAckPacket) -> None:
        """Obey the limits of this CONNACK from now on: Receive Maximum, Retain Available, Maximum Packet Size."""
        self._quota = asyncio.Semaphore(granted.receive_max)  # §4.9
        self._retain = granted.retain_available
        self._largest = granted.max_packet_size

    async def subscribe(self, filters: Sequence[str]) -> None:
        """Subscribe to `filters` with QoS 1 and check the SUBACK (§3.9.3). Raises BrokerError, BrokerRefusedError.

        Retain Handling is 2 (§3.8.3.1): retained messages are not sent, as they were stored when they were published.
        """
        wanted = [
            mqtt5.TopicFilter(pattern, max_qos=mqtt5.QoS.AT_LEAST_ONCE, retain_handling=mqtt5.RetainHandling.SEND_NEVER)
            for pattern in filters
        ]
        for pattern, code in zip(filters, await self._subscribe(wanted), strict=True):
            if code is not mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE:
                raise BrokerRefusedError(f"the broker does not grant QoS 1 on {pattern}: {in_words(code)}")

    async def subscribe_aside(self, topic: str, *, max_qos: mqtt5.QoS) -> str | None:
        """Subscribe to a topic that is not necessary. Returns why the broker refuses it, if so. Raises BrokerError."""
        (code,) = await self._subscribe([mqtt5.TopicFilter(topic, max_qos=max_qos)])
        return refusal(code)

    async def unsubscribe(self, filters: Sequence[str]) -> None:
        """Unsubscribe from `filters`, also from those that nobody subscribed to. Raises BrokerError."""
        async with self._in_time():
            packet_id, future = self._ask()
            self._write(mqtt5.UnsubscribePacket(packet_id, list(filters)).write())
            codes = _expect(mqtt5.UnsubAckPacket, await future).reason_codes
        for pattern, code in zip(filters, codes, strict=False):
            if reason := refusal(code):
                raise BrokerRefusedError(f"the broker does not unsubscribe from {pattern}: {reason}")

    async def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, expiry_seconds: int | None = None
    ) -> str | None:
        """Publish one small message with QoS 1; returns why the broker refuses it, None where it took it.

        Retained only where the broker can (§3.2.2.3.5). Raises MessageTooLargeError where the message is larger than
        the broker takes (§3.2.2.3.6), BrokerError where the connection is lost or no PUBACK comes.
        """
        packet = partial(
            mqtt5.PublishPacket,
            topic,
            payload,
            qos=mqtt5.QoS.AT_LEAST_ONCE,
            retain=retain and self._retain,
            message_expiry_interval=expiry_seconds,
        )
        size = len(packet(packet_id=1).write())
        if self._largest is not None and size > self._largest:
            raise MessageTooLargeError(f"{topic}: {size} bytes, and the broker takes {self._largest} at most")
        async with self._in_time():
            await self._quota.acquire()  # given back by the PUBACK
            packet_id, future = self._ask()
            self._write(packet(packet_id=packet_id).write())
            code = _expect(mqtt5.PubAckPacket, await future).reason_code
        return refusal(code)

    def answered(self, packet: Answer) -> bool:
        """Give an answer to the caller that waits for it. Returns False if it belongs to no request."""
        future = self._waiting.pop(packet.packet_id, None)
        if future is None:
            return False
        if isinstance(packet, mqtt5.PubAckPacket):
            self._quota.release()
        if not future.done():
            future.set_result(packet)
        return True

    def fail(self, reason: str) -> None:
        """The connection is lost: every caller that waits gets a BrokerError."""
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(BrokerError(reason))

    async def _subscribe(self, wanted: list[mqtt5.TopicFilter]) -> list[mqtt5.SubAckReasonCode]:
        async with self._in_time():
            packet_id, future = self._ask()
            self._write(mqtt5.SubscribePacket(packet_id, wanted).write())
            codes = _expect(mqtt5.SubAckPacket, await future).reason_codes
        if len(codes) != len(wanted):
            raise BrokerError(f"the broker answers a SUBSCRIBE of {len(wanted)} topics with {len(codes)} reason codes")
        return codes

    def _ask(self) -> tuple[int, asyncio.Future[Answer]]:
        """A free Packet Identifier, and the future of its answer."""
        packet_id = next(number for number in itertools.count(1) if number not in self._waiting)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[packet_id] = future
        return packet_id, future

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._answer_seconds):
                yield
        except TimeoutError as error:
            raise BrokerError(f"the broker did not answer within {self._answer_seconds:g} s") from error


def _expect(kind: type[_Packet], answer: Answer) -> _Packet:
    if not isinstance(answer, kind):
        raise BrokerError(f"the broker answered with {type(answer).__name__} out of turn")
    return answer


def refusal(code: enum.IntEnum) -> str | None:
    """The name of a Reason Code if it is a failure, else None."""
    return in_words(code) if code.value >= _FIRST_REFUSAL else None


def in_words(code: enum.IntEnum) -> str:
    return code.name.lower().replace("_", " ")
