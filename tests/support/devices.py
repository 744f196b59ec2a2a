"""Devices in the field: they publish with QoS 1, and know what the broker has acknowledged to them.

Through paho-mqtt, so that the daemon's codec is not tested with itself.
"""

from __future__ import annotations

import queue
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit
from uuid import uuid4

from paho.mqtt.client import Client, ConnectFlags
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

WINDOW = 1000
"""How many messages a device leaves unacknowledged before it waits."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A message and the reason code of its PUBACK: 0x10 is that nobody is subscribed, from 0x80 a refusal."""

    topic: str
    payload: bytes
    reason_code: int


class Device:
    """One MQTT v5 client, used by one thread at a time; reconnects and publishes again by itself.

    `url` is mqtt://[user:password@]host:port. Entering raises ConnectionRefusedError when the broker refuses
    the device or nobody listens there, and TimeoutError when there is no answer for 10 s.
    """

    def __init__(self, url: str, *, client_id: str | None = None, tls: ssl.SSLContext | None = None) -> None:
        self._url = urlsplit(url)
        self._pending: dict[int, tuple[str, bytes]] = {}
        # Not SimpleQueue: on CPython 3.11 a get with hardly any time left was seen to wait for ever.
        self._acks: queue.Queue[tuple[int, int]] = queue.Queue()
        self._answer: queue.Queue[ReasonCode] = queue.Queue()
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id or f"device-{uuid4().hex[:12]}",
            protocol=MQTTProtocolVersion.MQTTv5,
        )
        if self._url.username is not None:
            self._client.username_pw_set(self._url.username, self._url.password)
        if tls is not None:
            self._client.tls_set_context(tls)
        self._client.max_inflight_messages_set(0)  # none: paho is slow at keeping one, and we have WINDOW
        self._client.reconnect_delay_set(min_delay=1, max_delay=1)
        self._client.on_connect = self._on_connect
        self._client.on_publish = self._on_publish

    def __enter__(self) -> Self:
        self._client.connect(self._url.hostname or "127.0.0.1", self._url.port or 1883)
        self._client.loop_start()
        try:
            answer = self._answer.get(timeout=10.0)
        except queue.Empty:
            self._leave()
            raise TimeoutError("the broker does not answer") from None
        if answer.is_failure:
            self._leave()
            raise ConnectionRefusedError(str(answer))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        properties: Properties | None = None,
        within: float = 10.0,
    ) -> int:
        """Publishes one message and returns the reason code of its PUBACK (0 for QoS 0, once it is sent).

        Raises TimeoutError when none came `within` seconds; the device then still goes on trying.
        """
        message_id = self._send(topic, payload, qos=qos, retain=retain, properties=properties)
        for answered_id, acknowledged in self._answers(down_to=0, deadline=time.monotonic() + within):
            if answered_id == message_id:
                return acknowledged.reason_code
        raise TimeoutError(f"no PUBACK for a message to {topic}")

    def publish_many(
        self, messages: Iterable[tuple[str, bytes]], *, rate: float | None = None, within: float = 30.0
    ) -> list[Acknowledged]:
        """Publishes (topic, payload) pairs, at most `rate` a second; returns them as they are acknowledged.

        An endless iterable may stop by looking at an event. `within` bounds, in seconds, how long nothing at
        all may be acknowledged while the window is full, and how long the last PUBACKs are waited for: what
        has none by then is not in the list. Raises TimeoutError in the first case.
        """
        acknowledged: list[Acknowledged] = []
        start = time.monotonic()
        for number, (topic, payload) in enumerate(messages):
            due = start + number / rate if rate else start
            acknowledged += (answer for _, answer in self._answers(down_to=-1, deadline=due))
            if len(self._pending) >= WINDOW:
                full_until = time.monotonic() + within
                acknowledged += (answer for _, answer in self._answers(down_to=WINDOW // 2, deadline=full_until))
            if len(self._pending) >= WINDOW:
                raise TimeoutError(f"no PUBACK for {within} s")
            self._send(topic, payload)
        last = time.monotonic() + within
        acknowledged += (answer for _, answer in self._answers(down_to=0, deadline=last))
        return acknowledged

    def _send(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        properties: Properties | None = None,
    ) -> int:
        # Without a connection paho keeps the message and sends it once there is one.
        message_id = self._client.publish(topic, payload, qos, retain, properties).mid
        self._pending[message_id] = (topic, payload)
        return message_id

    def _answers(self, *, down_to: int, deadline: float) -> Iterator[tuple[int, Acknowledged]]:
        """Message ids and answers as they come, until `deadline` or until only `down_to` are missing."""
        while len(self._pending) > down_to:
            try:
                message_id, reason_code = self._acks.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return
            topic, payload = self._pending.pop(message_id)
            yield message_id, Acknowledged(topic, payload, reason_code)

    def _on_connect(
        self,
        _client: Client,
        _userdata: object,
        _flags: ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._answer.put(reason)

    def _on_publish(
        self,
        _client: Client,
        _userdata: object,
        message_id: int,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._acks.put((message_id, reason.value))

    def _leave(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
