"""Readings at a given rate, from a publisher that takes little CPU."""

from __future__ import annotations

import itertools
import random
import time
from datetime import UTC, datetime
from threading import Event, Thread
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from bench.backlog import DEVICES, SEED, encode, fleet
from bench.mqtt import Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

SINGLY: Final = 1000.0
"""Up to so many messages a second each goes by itself, as those of independent devices do."""
TICK_SECONDS: Final = 0.01
"""Beyond that, what is due in this time goes together, for the publisher's own sake."""
PACKET_IDS: Final = 60_000
"""More than may be unacknowledged at a time, so they stay unique. At least so many packets are encoded, once, and sent
again and again."""
LIMIT_POLL_SECONDS: Final = 0.001

_TIMESTAMP: Final = "2000-01-01T00:00:00.000000Z"
"""Stands for the time of publishing in the encoded packets; as many bytes as any other."""


class Part(NamedTuple):
    """Messages that were published together."""

    at: datetime
    """The timestamp of them all."""
    messages: int


class Load:
    """Publishes from a thread, from entering the context until `stop`; devices take turns.

    Every reading carries the time at which it was handed to the network as its timestamp.
    """

    def __init__(self, broker_url: str, *, rate: float, devices: int = DEVICES) -> None:
        """`rate` is in messages a second."""
        self.published = 0
        self.parts: list[Part] = []
        """What was published, oldest first; only ever added to."""
        self.limit: int | None = None
        """Where set, nothing is published beyond so many messages until it is raised."""
        self._broker_url = broker_url
        self._size = 1 if rate <= SINGLY else min(devices, round(rate * TICK_SECONDS))
        self._interval = self._size / rate
        self._packets = encoded(devices, together=self._size)
        self._ending = Event()
        self._thread = Thread(target=self._run, name="load", daemon=True)
        self._error: BaseException | None = None

    def check(self) -> None:
        """Raises whatever has ended it before its time."""
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Returns when the broker has acknowledged all that was published. Raises BenchError."""
        self._ending.set()
        self._thread.join()
        self.check()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            with Client(self._broker_url, "load") as client:
                client.publish(self._paced())
        except BaseException as error:  # noqa: BLE001 - passed on to whoever waits for the thread
            self._error = error

    def _paced(self) -> Iterator[tuple[int, bytes]]:
        due = time.monotonic()
        while not self._ending.wait(max(0.0, due - time.monotonic())):
            if self.limit is not None and self.published + self._size > self.limit:
                due = time.monotonic() + LIMIT_POLL_SECONDS
                continue
            packets = self._packets[len(self.parts) % len(self._packets)]
            now = datetime.now(UTC)
            self.parts.append(Part(now, self._size))
            yield self._size, packets.replace(_TIMESTAMP.encode(), _text(now))
            self.published += self._size
            due += self._interval


def encoded(devices: int, *, together: int) -> list[bytes]:
    """Packets of all devices in turn, so many in each part. The last part goes on with the first devices again."""
    chance = random.Random(SEED)  # noqa: S311 - the same figures every time
    packets = (
        encode(device.topic, device.payload(chance, _TIMESTAMP), packet_id=number % PACKET_IDS + 1)
        for number, device in enumerate(itertools.cycle(fleet(devices)))
    )
    parts = -(-max(PACKET_IDS, devices) // together)
    return [b"".join(itertools.islice(packets, together)) for _ in range(parts)]


def _text(at: datetime) -> bytes:
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z").encode()
