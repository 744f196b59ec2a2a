"""The messages that every contestant has to store: the same bytes in the same order."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

import mqtt5

from bench.errors import BenchError
from bench.mqtt import Client
from ingestd.model.stream import METER, VEHICLE, Stream

if TYPE_CHECKING:
    from collections.abc import Iterator

DEVICES: Final = 10_000
INTERVAL: Final = timedelta(minutes=1)
PACKETS_PER_PART: Final = 1000
HIGHEST_PACKET_ID: Final = 65_535
SEED: Final = 20_000


class Device(NamedTuple):
    stream: Stream
    identity: str

    @property
    def topic(self) -> str:
        return self.stream.topic(self.identity)

    def payload(self, chance: random.Random, timestamp: str) -> bytes:
        if self.stream is METER:
            text = (
                f'{{"meterId":"{self.identity}","kwhConsumedAc":{chance.random():.3f},'
                f'"voltage":{225 + 10 * chance.random():.1f},"timestamp":"{timestamp}"}}'
            )
        else:
            text = (
                f'{{"vehicleId":"{self.identity}","soc":{100 * chance.random():.1f},'
                f'"kwhDeliveredDc":{chance.random():.3f},"batteryTemp":{20 + 15 * chance.random():.1f},'
                f'"timestamp":"{timestamp}"}}'
            )
        return text.encode()


class Message(NamedTuple):
    """One reading as it is published."""

    device: Device
    timestamp: datetime
    payload: bytes


def fleet(devices: int) -> list[Device]:
    """Half of them meters, half vehicles."""
    return [
        Device(VEHICLE, f"EV-{number:05}") if number % 2 else Device(METER, f"meter-{number:05}")
        for number in range(devices)
    ]


def readings(*, messages: int, devices: int = DEVICES, until: datetime) -> Iterator[Message]:
    """All devices report once a minute, up to `until`, in any order.

    No two messages have the same device and timestamp.
    """
    chance = random.Random(SEED)  # noqa: S311 - the same figures every time
    reporting = fleet(devices)
    left = messages
    for age in reversed(range(-(-messages // devices))):
        timestamp = until - age * INTERVAL
        text = timestamp.strftime("%Y-%m-%dT%H:%M:%SZ")
        for device in chance.sample(reporting, min(left, devices)):
            yield Message(device, timestamp, device.payload(chance, text))
        left -= devices


class Backlog:
    """Encoded once, published as often as needed."""

    def __init__(self, *, messages: int, devices: int = DEVICES) -> None:
        """Raises BenchError when there are too few messages for every stream to have a device."""
        self.messages = messages
        self.devices = min(messages, devices)
        self.last: dict[Stream, Message] = {}
        """The message of each stream that is published last; who keeps the order stores it last."""
        until = datetime.now(UTC).replace(microsecond=0)
        self.before = until + INTERVAL * (-messages // self.devices)
        """When the devices would have reported before its first messages."""
        self._parts: list[tuple[int, bytes]] = []
        packets: list[bytes] = []
        for number, message in enumerate(readings(messages=messages, devices=self.devices, until=until)):
            packets.append(encode(message.device.topic, message.payload, packet_id=number % HIGHEST_PACKET_ID + 1))
            self.last[message.device.stream] = message
            if len(packets) == PACKETS_PER_PART:
                self._parts.append((len(packets), b"".join(packets)))
                packets.clear()
        if packets:
            self._parts.append((len(packets), b"".join(packets)))
        if len(self.last) != len((METER, VEHICLE)):
            raise BenchError("at least two messages are needed, one of a meter and one of a vehicle")

    def queue(self, broker_url: str, client_id: str) -> None:
        """Let the broker queue all messages for a session of this name, which is made before."""
        with Client(broker_url, client_id) as client:
            client.subscribe([METER.topic_filter, VEHICLE.topic_filter])
        with Client(broker_url, "backlog") as publisher:
            publisher.publish(self._parts)


def encode(topic: str, payload: bytes, *, packet_id: int) -> bytes:
    """A PUBLISH packet of QoS 1."""
    return mqtt5.PublishPacket(topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=packet_id).write()
