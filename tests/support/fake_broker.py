"""A broker that misbehaves as a test says: a small TCP server that speaks MQTT 5."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self, TypeVar

import mqtt5

from ingestd.demo.process import LOOPBACK

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from types import TracebackType

_Packet = TypeVar("_Packet", bound=mqtt5.Packet)


class Link:
    """One client's connection."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.received: list[mqtt5.Packet] = []
        self.topics: list[str] = []
        self._writer = writer

    def send(self, *packets: mqtt5.Packet) -> None:
        self.send_bytes(b"".join(packet.write() for packet in packets))

    def send_bytes(self, data: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(data)

    def close(self) -> None:
        """With a FIN, as soon as what was sent is out."""
        self._writer.close()

    def of(self, kind: type[_Packet]) -> list[_Packet]:
        """The packets of one kind that were received."""
        return [packet for packet in self.received if isinstance(packet, kind)]


class FakeBroker:
    """Takes every client, grants what it asks for, acknowledges what it publishes, and sends that back to it.

    `on` replaces what is done about one kind of packet. It runs in the event loop of the test.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.links: list[Link] = []
        self.connack = mqtt5.ConnAckPacket(session_present=True)
        self._handlers: dict[type[Any], Callable[[Link, Any], None]] = {
            mqtt5.ConnectPacket: lambda link, _: link.send(self.connack),
            mqtt5.SubscribePacket: grant,
            mqtt5.PublishPacket: acknowledge_and_echo,
            mqtt5.PingReqPacket: lambda link, _: link.send(mqtt5.PingRespPacket()),
        }
        self._tls = tls
        self._clients: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        scheme = "mqtt" if self._tls is None else "mqtts"
        return f"{scheme}://{LOOPBACK}:{self.port}"

    @property
    def link(self) -> Link:
        """The newest one."""
        return self.links[-1]

    def on(self, kind: type[_Packet], handler: Callable[[Link, _Packet], None]) -> None:
        self._handlers[kind] = handler

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        link = Link(writer)
        self.links.append(link)
        data = b""
        with suppress(OSError, asyncio.CancelledError):
            while more := await reader.read(65_536):
                data = self._handle(link, data + more)
        writer.close()
        self._clients.discard(task)

    def _handle(self, link: Link, data: bytes) -> bytes:
        """Every whole packet; returns what is left."""
        view = memoryview(data)
        offset = 0
        with suppress(IndexError):
            while True:
                packet, size = mqtt5.read(view[offset:])
                offset += size
                link.received.append(packet)
                if (handler := self._handlers.get(type(packet))) is not None:
                    handler(link, packet)
        return bytes(view[offset:])


def ignore(_link: Link, _packet: mqtt5.Packet) -> None:
    """Say nothing."""


def cut(link: Link, _packet: mqtt5.Packet) -> None:
    """End the connection."""
    link.close()


def grant(link: Link, packet: mqtt5.SubscribePacket) -> None:
    link.topics += [wanted.pattern for wanted in packet.topic_filters]
    codes = [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE] * len(packet.topic_filters)
    link.send(mqtt5.SubAckPacket(packet.packet_id, codes))


def acknowledge(link: Link, packet: mqtt5.PublishPacket) -> None:
    assert packet.packet_id is not None
    link.send(mqtt5.PubAckPacket(packet.packet_id))


def acknowledge_and_echo(link: Link, packet: mqtt5.PublishPacket) -> None:
    acknowledge(link, packet)
    if packet.topic in link.topics:
        link.send(mqtt5.PublishPacket(packet.topic, packet.payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=1))
