"""A blocking MQTT 5 client, just fast enough to queue a backlog in seconds."""

from __future__ import annotations

import socket
from collections import deque
from typing import TYPE_CHECKING, Final, Self, TypeVar
from urllib.parse import urlsplit

import mqtt5

from bench.errors import BenchError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

RECEIVE_MAXIMUM: Final = 65_000
"""What everybody here allows the broker; Mosquitto would otherwise hand out 20 messages at a time."""
SESSION_EXPIRY_SECONDS: Final = 7 * 86_400
ANSWER_SECONDS: Final = 60.0
WINDOW: Final = 20_000
"""How many messages may be without PUBACK; far fewer than there are packet ids."""

_Packet = TypeVar("_Packet")


class Client:
    """One connection with a session that stays with the broker; entering connects, leaving disconnects."""

    def __init__(self, url: str, client_id: str) -> None:
        address = urlsplit(url)
        self._address = (address.hostname or "127.0.0.1", address.port or 1883)
        self._client_id = client_id
        self._received: deque[mqtt5.Packet] = deque()
        self._rest = b""
        self._window = WINDOW

    def __enter__(self) -> Self:
        self._socket = socket.create_connection(self._address, timeout=ANSWER_SECONDS)
        connect = mqtt5.ConnectPacket(
            self._client_id, session_expiry_interval=SESSION_EXPIRY_SECONDS, receive_max=RECEIVE_MAXIMUM
        )
        self._socket.sendall(connect.write())
        granted = self._next(mqtt5.ConnAckPacket)
        if granted.reason_code is not mqtt5.ConnAckReasonCode.SUCCESS:
            raise BenchError(f"the broker refuses {self._client_id}: {granted.reason_code.name}")
        self._window = min(WINDOW, granted.receive_max)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._socket:
            if error is None:
                self._socket.sendall(mqtt5.DisconnectPacket().write())

    def subscribe(self, filters: Sequence[str], *, qos: mqtt5.QoS = mqtt5.QoS.AT_LEAST_ONCE) -> None:
        """Raises BenchError where the broker grants another QoS."""
        topics = [mqtt5.TopicFilter(pattern, max_qos=qos) for pattern in filters]
        self._socket.sendall(mqtt5.SubscribePacket(1, topics).write())
        for code in self._next(mqtt5.SubAckPacket).reason_codes:
            if code.value != qos.value:
                raise BenchError(f"the broker does not grant QoS {qos.value}: {code.name}")

    def publish(self, parts: Iterable[tuple[int, bytes]]) -> None:
        """Send encoded QoS 1 PUBLISH packets, parts of (how many, bytes), and see every one of them acknowledged.

        Raises BenchError where the broker refuses one or has no subscriber for it.
        """
        unacknowledged = 0
        for count, data in parts:
            while unacknowledged + count > self._window:
                unacknowledged -= self._acknowledged()
            self._socket.sendall(data)
            unacknowledged += count
        while unacknowledged:
            unacknowledged -= self._acknowledged()

    def _acknowledged(self) -> int:
        """Wait for PUBACKs; returns how many came."""
        count = 0
        while self._received or not count:
            if not self._received and (bare := self._bare_pubacks()):
                count += bare
                continue
            answer = self._next(mqtt5.PubAckPacket)
            if answer.reason_code is not mqtt5.PubAckReasonCode.SUCCESS:
                raise BenchError(f"the broker does not queue a message: {answer.reason_code.name}")
            count += 1
        return count

    def _next(self, expected: type[_Packet]) -> _Packet:
        while not self._received:
            self._rest += self._read()
            self._parse()
        packet = self._received.popleft()
        if not isinstance(packet, expected):
            raise BenchError(f"the broker sent {type(packet).__name__} in place of {expected.__name__}")
        return packet

    def _bare_pubacks(self) -> int:
        """Read once; where that brought nothing but PUBACKs of success (four bytes each), how many, else 0.

        This check is quick, because the publisher must not take CPU from the programs that are measured.
        """
        self._rest += self._read()
        count = len(self._rest) // 4
        whole = self._rest[: 4 * count]
        if not count or whole[0::4] != b"\x40" * count or whole[1::4] != b"\x02" * count:
            self._parse()
            return 0
        self._rest = self._rest[4 * count :]
        return count

    def _read(self) -> bytes:
        try:
            data = self._socket.recv(65_536)
        except TimeoutError as error:
            raise BenchError(f"the broker did not answer within {ANSWER_SECONDS:.0f} s") from error
        if not data:
            raise BenchError("the broker closed the connection")
        return data

    def _parse(self) -> None:
        """Every whole packet of what was read."""
        view = memoryview(self._rest)
        offset = 0
        while True:
            try:
                packet, size = mqtt5.read(view[offset:])
            except IndexError:
                break
            self._received.append(packet)
            offset += size
        self._rest = bytes(view[offset:])
