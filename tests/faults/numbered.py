"""Readings that carry a number, so that a whole campaign needs a byte or two for each."""

from __future__ import annotations

import json
import re
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from ingestd.model.stream import METER, VEHICLE
from tests.support.readings import meter_message, vehicle_message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingestd.model.stream import Stream

DEVICES: Final = 40
REFUSED_DEVICE: Final = "m-37"
"""One fault makes the database refuse the rows of this meter only."""
POISON_EVERY: Final = 97

_MILLISECOND: Final = timedelta(milliseconds=1)
_LATE_EVERY: Final = 7
_LATE_BY: Final = timedelta(minutes=20, microseconds=1)
"""Late readings belong to a quarter that is closed. The microsecond distinguishes them from the others."""
_NUMBER: Final = re.compile(rb'"n":\s*(\d+)')
_TIMESTAMP: Final = re.compile(rb'"timestamp":\s*"([^"]+)"')


class SentReadings:
    """The numbers of readings that were sent, and which of them were acknowledged.

    Methods may be called from any thread.
    """

    def __init__(self) -> None:
        # Numbers follow the clock at a thousand a second, or fall behind it: then all of them are late some time.
        self.start = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=20)
        self.promised = bytearray()
        self._lock = threading.Lock()

    def take(self, count: int) -> Sequence[int]:
        """Numbers that were not used before."""
        with self._lock:
            first = len(self.promised)
            self.promised.extend(bytes(count))
        return range(first, first + count)

    def promise(self, payload: bytes) -> None:
        """It was acknowledged to the sender."""
        self.promised[self.number(payload)] = 1

    def number(self, payload: bytes) -> int:
        """The number of a message or a dead letter. A dead letter of a decoded reading has only the timestamp."""
        if found := _NUMBER.search(payload):
            return int(found[1])
        found = _TIMESTAMP.search(payload)
        assert found is not None, payload
        return self.number_at(datetime.fromisoformat(found[1].decode()))

    def number_at(self, timestamp: datetime) -> int:
        since_start = timestamp - self.start
        return (since_start + _LATE_BY if since_start % _MILLISECOND else since_start) // _MILLISECOND

    def message(self, number: int) -> tuple[str, bytes]:
        """(topic, payload): a good reading, every 97th time poison."""
        stream, device, interval, register = expected(number)
        at = self.start + number * _MILLISECOND - (_LATE_BY if number % _LATE_EVERY == 0 else timedelta(0))
        make = meter_message if stream is METER else vehicle_message
        topic, payload = make(device, at, kwh=interval or 0.0, register=register)
        if is_poison(number):
            # By turns no JSON at all, and JSON that is no reading.
            return topic, b'volts: many, "n": %d' % number if number % 2 else json.dumps({"n": number}).encode()
        return topic, payload


def expected(number: int) -> tuple[Stream, str, float | None, float | None]:
    """(stream, device, kWh of the interval, kWh of the register) of a good reading: every fifth device has one."""
    device = number % DEVICES
    kwh = number % 1000 / 1000
    energy = (None, kwh) if device % 5 == 0 else (kwh, None)
    return (METER, f"m-{device}", *energy) if number % 2 else (VEHICLE, f"v-{device}", *energy)


def is_poison(number: int) -> bool:
    return number % POISON_EVERY == 0
