"""The messages that everybody has to take in: the same bytes in the same order."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

import mqtt5

from bench.errors import BenchError
from bench.mqtt import Client
from ingestd.telemetry import METER, VEHICLE, Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEVICES: Final = 10_000
INTERVAL: Final = timedelta(minutes=1)
PACKETS_PER_PART: Final = 1000
HIGHEST_PACKET_ID: Final = 65_535
SEED: Final = 20_000


class Message(NamedTuple):
    """One reading as it is published."""

    stream: Stream
    identity: str
    timestamp: datetime
    payload: bytes

    @property
    def topic(self) -> str:
        return self.stream.topic(self.identity)


def readings(*, messages: int, devices: int = DEVICES, until: datetime) -> Iterator[Message]:
    """Half of the devices are meters, half vehicles; all report once a minute, up to `until`, in any order.

    No two messages have the same device and timestamp.
    """
    chance = random.Random(SEED)  # noqa: S311 - the same figures every time
    fleet: list[tuple[Stream, str, Callable[[random.Random, str, str], str]]] = []
    for number in range(devices):
        if number % 2:
            fleet.append((VEHICLE, f"EV-{number:05}", _vehicle))
        else:
            fleet.append((METER, f"meter-{number:05}", _meter))
    rounds = -(-messages // devices)
    left = messages
    for age in reversed(range(rounds)):
        timestamp = until - age * INTERVAL
        text = timestamp.strftime("%Y-%m-%dT%H:%M:%SZ")
        for stream, identity, payload in chance.sample(fleet, min(left, devices)):
            yield Message(stream, identity, timestamp, payload(chance, identity, text).encode())
        left -= devices


def _meter(chance: random.Random, identity: str, timestamp: str) -> str:
    return (
        f'{{"meterId":"{identity}","kwhConsumedAc":{chance.random():.3f},'
        f'"voltage":{225 + 10 * chance.random():.1f},"timestamp":"{timestamp}"}}'
    )


def _vehicle(chance: random.Random, identity: str, timestamp: str) -> str:
    return (
        f'{{"vehicleId":"{identity}","soc":{100 * chance.random():.1f},"kwhDeliveredDc":{chance.random():.3f},'
        f'"batteryTemp":{20 + 15 * chance.random():.1f},"timestamp":"{timestamp}"}}'
    )


class Backlog:
    """Encoded once, published as often as needed."""

    def __init__(self, *, messages: int) -> None:
        """Raises BenchError when there are too few messages for every stream to have a device."""
        self.messages = messages
        self.devices = min(messages, DEVICES)
        self.last: dict[Stream, Message] = {}
        """The newest message of each stream to be published: whoever keeps the order stores it last."""
        self._parts: list[tuple[int, bytes]] = []
        until = datetime.now(UTC).replace(microsecond=0)
        packets: list[bytes] = []
        for number, message in enumerate(readings(messages=messages, devices=self.devices, until=until)):
            packets.append(_encode(message, packet_id=number % HIGHEST_PACKET_ID + 1))
            self.last[message.stream] = message
            if len(packets) == PACKETS_PER_PART:
                self._parts.append((len(packets), b"".join(packets)))
                packets.clear()
        if packets:
            self._parts.append((len(packets), b"".join(packets)))
        if len(self.last) != len((METER, VEHICLE)):
            raise BenchError("at least two messages are needed, one of a meter and one of a vehicle")

    def queue(self, broker_url: str, client_id: str) -> None:
        """Have the broker queue all of it for a session of this name, which is made first and then left."""
        with Client(broker_url, client_id) as client:
            client.subscribe([METER.topic_filter, VEHICLE.topic_filter])
        with Client(broker_url, "backlog") as publisher:
            publisher.publish(self._parts)


def _encode(message: Message, *, packet_id: int) -> bytes:
    return mqtt5.PublishPacket(message.topic, message.payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=packet_id).write()
