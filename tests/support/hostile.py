"""One hostile account: `python -m tests.support.hostile ADDRESS KIND RATE SECONDS` sends what it is told.

A process of its own, so that it takes no time from the clients that mean well. It prints how many messages were taken.
HOSTILE_TOKEN is its token for the HTTP API.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import mqtt5

from bench.mqtt import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIZE: Final = 8192
TICK_SECONDS: Final = 0.01
PACKET_IDS: Final = 60_000
READINGS_IN_A_REQUEST: Final = 10_000

_START: Final = datetime.now(UTC) - timedelta(hours=1)


_RANDOM: Final = [os.urandom(SIZE) for _ in range(64)]
"""So that the database cannot compress it."""


def nonsense(number: int) -> bytes:
    """No JSON."""
    return _RANDOM[number % len(_RANDOM)]


def no_reading(number: int) -> bytes:
    """JSON that is no reading."""
    return _NO_READINGS[number % len(_NO_READINGS)]


def padded(number: int) -> bytes:
    """A reading, of another time than all others, with a member that nobody asked for."""
    at = _START + timedelta(microseconds=number)
    reading = b'{"kwhConsumedAc":0.1,"voltage":230,"timestamp":"%b","padding":"%b"}'
    padding = _PADDING[: SIZE - len(reading) - len(at.isoformat())]
    return reading % (at.isoformat().encode(), padding)


_NO_READINGS: Final = [b'{"padding":"%b"}' % some[: SIZE // 2 - 10].hex().encode() for some in _RANDOM]
_PADDING: Final = _RANDOM[0].hex().encode()
KINDS: Final[dict[str, Callable[[int], bytes]]] = {"nonsense": nonsense, "no-reading": no_reading, "padded": padded}


def parts(kind: str, *, rate: float, seconds: float) -> Iterator[tuple[int, bytes]]:
    """QoS 1 PUBLISH packets, as many at a time as are due."""
    size = max(1, round(rate * TICK_SECONDS))
    started = time.monotonic()
    number = 0
    while (due := started + number / rate) < started + seconds:
        time.sleep(max(0.0, due - time.monotonic()))
        if time.monotonic() > started + seconds:
            return
        packets = [
            mqtt5.PublishPacket(
                f"meters/hostile-{kind}/telemetry",
                KINDS[kind](one),
                qos=mqtt5.QoS.AT_LEAST_ONCE,
                packet_id=one % PACKET_IDS + 1,
            ).write()
            for one in range(number, number + size)
        ]
        yield size, b"".join(packets)
        number += size


def publish(url: str, kind: str, *, rate: float, seconds: float) -> int:
    """By MQTT; returns how many messages the broker has acknowledged."""
    sent = 0

    def counted() -> Iterator[tuple[int, bytes]]:
        nonlocal sent
        for count, data in parts(kind, rate=rate, seconds=seconds):
            sent += count
            yield count, data

    with Client(url, f"hostile-{kind}") as client:
        client.publish(counted())
    return sent


def post_invented(url: str, *, rate: float, seconds: float) -> int:
    """By HTTP: readings of devices that nobody has heard of. Returns how many were answered."""
    address = urlsplit(url)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {os.environ.get('HOSTILE_TOKEN')}"}
    started = time.monotonic()
    number = 0
    with closing(http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)) as api:
        while time.monotonic() < started + seconds:
            time.sleep(max(0.0, started + number / rate - time.monotonic()))
            now = datetime.now(UTC).isoformat()
            body = [
                {"meterId": f"invented-{one}", "kwhConsumedAc": 0.1, "voltage": 230, "timestamp": now}
                for one in range(number, number + READINGS_IN_A_REQUEST)
            ]
            api.request("POST", "/v1/telemetry", json.dumps(body), headers)
            api.getresponse().read()
            number += READINGS_IN_A_REQUEST
    return number


if __name__ == "__main__":
    where, what, speed, duration = sys.argv[1:]
    if what == "invented":
        taken = post_invented(where, rate=float(speed), seconds=float(duration))
    else:
        taken = publish(where, what, rate=float(speed), seconds=float(duration))
    print(taken)  # noqa: T201
