"""Holds readings until they are flushed. It is bounded in messages and in bytes, and never drops a reading."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Final, Literal

from ingestd.errors import BufferFullError
from ingestd.metrics import Metrics
from ingestd.model.dead_letter import Source
from ingestd.pipeline.delivery import Delivery

MAX_BYTES: Final = 32 * 1024 * 1024
"""Bytes as they came over the network; the decoded rows take about twice as much memory."""

URGENT_SECONDS: Final = 0.025
"""When an HTTP request waits for its answer, the next flush is due within this time."""

READ_DELAY_SECONDS: Final = 0.5
"""The longest time for which a source reads nothing. An HTTP request may make a flush due earlier, and that flush has
to include the messages that came before the request."""

QUIET_MESSAGES: Final = 2000
BUSY_READ_DELAY_SECONDS: Final = 0.05
"""The same after a flush of more than QUIET_MESSAGES. More messages arrive then, and they must be read in time."""

LEAD_SECONDS: Final = 0.01
"""A source reads again this long before the flush, so that the flush includes what has arrived."""


class Buffer:
    """Holds deliveries from receipt until they are settled. Deliveries in the flush under way count as held.

    A source that can pause registers with `on_pressure`: it is called with True when the buffer is full, and with False
    once half of it is free again. A source that can refuse its sender asks `admit`.
    """

    def __init__(
        self,
        *,
        metrics: Metrics,
        max_messages: int,
        flush_at: int,
        interval: float,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """A flush is due `interval` seconds after the oldest message arrived; at once when `flush_at` messages wait, or
        half of `max_bytes`: if a flush were due only when the buffer is full, reading would pause each time.
        """
        self._metrics = metrics
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._flush_at = flush_at
        self._interval = interval
        self._waiting: deque[tuple[float, Delivery]] = deque()  # with the time its flush is due
        self._messages_waiting = 0
        self._bytes_waiting = 0
        self._messages_held = 0
        self._bytes_held = 0
        self._held_by: Counter[tuple[str, Source]] = Counter()
        self._due_at: float | None = None
        self._quiet = False  # whether the latest flush had at most QUIET_MESSAGES; False before the first
        self._changed = asyncio.Event()
        self._closed = False
        self._pressed = False
        self._on_pressure: list[Callable[[bool], None]] = []

    @property
    def messages(self) -> int:
        """Messages held, those in the flush under way included."""
        return self._messages_held

    @property
    def full(self) -> bool:
        return self._messages_held >= self._max_messages or self._bytes_held >= self._max_bytes

    @property
    def overdue(self) -> float:
        """Seconds for which messages have been due that no flush has taken."""
        return 0.0 if self._due_at is None else max(0.0, asyncio.get_running_loop().time() - self._due_at)

    def on_pressure(self, callback: Callable[[bool], None]) -> None:
        self._on_pressure.append(callback)

    def admit(self) -> None:
        """Raises BufferFullError if a sender must keep its readings and send them later."""
        if self._closed:
            raise BufferFullError("shutting down")
        if self.full:
            raise BufferFullError(f"{self._messages_held} messages wait for the database")

    def put(self, delivery: Delivery, *, urgent: bool = False) -> None:
        """Take a delivery in. Never refuses: what was received must not be lost because the buffer is full."""
        due_at = asyncio.get_running_loop().time() + (URGENT_SECONDS if urgent else self._interval)
        self._waiting.append((due_at, delivery))
        self._messages_waiting += len(delivery)
        self._bytes_waiting += delivery.size_bytes
        self._hold(delivery, sign=1)
        for stream, count in delivery.counts():
            self._metrics.received(stream, delivery.source, count)
        if self._due_at is None or due_at < self._due_at:
            self._due_at = due_at
            self._changed.set()
        if self._is_batch:
            self._changed.set()
        if not self._pressed and self.full:
            self._press(on=True)

    def read_delay(self) -> float:
        """Seconds for which a source need not read.

        Messages that arrive in this time still become part of the next flush.
        """
        if self._due_at is None:
            return 0.0
        left = self._due_at - asyncio.get_running_loop().time() - LEAD_SECONDS
        return min(max(0.0, left), READ_DELAY_SECONDS if self._quiet else BUSY_READ_DELAY_SECONDS)

    async def take(self) -> list[Delivery]:
        """Wait until a flush is due, then return what it should hold, oldest first.

        An empty list means that the buffer is closed and empty.
        """
        while not self._closed and not self._is_batch:
            self._changed.clear()
            try:
                async with asyncio.timeout_at(self._due_at):
                    await self._changed.wait()
            except TimeoutError:
                break
        return self.take_now()

    def take_now(self) -> list[Delivery]:
        """What the next flush would hold, without waiting for it to be due; at most `flush_at` messages."""
        taken: list[Delivery] = []
        size = 0
        while self._waiting and (not taken or size + len(self._waiting[0][1]) <= self._flush_at):
            _, delivery = self._waiting.popleft()
            size += len(delivery)
            self._bytes_waiting -= delivery.size_bytes
            taken.append(delivery)
        self._messages_waiting -= size
        self._quiet = size <= QUIET_MESSAGES
        self._due_at = min((due_at for due_at, _ in self._waiting), default=None)
        return taken

    def release(self, deliveries: Sequence[Delivery]) -> None:
        """Remove settled deliveries. When half of the buffer is free again, let the sources go on."""
        for delivery in deliveries:
            self._hold(delivery, sign=-1)
        if self._pressed and self._half_free():
            self._press(on=False)

    def close(self) -> None:
        """Make all waiting deliveries due now. After them, `take` returns an empty list."""
        self._closed = True
        self._changed.set()

    def in_flight(self) -> Counter[tuple[str, Source]]:
        """Messages held by (stream, source): counted, not calculated from the other counters."""
        return self._held_by.copy()

    def _hold(self, delivery: Delivery, *, sign: Literal[1, -1]) -> None:
        self._messages_held += sign * len(delivery)
        self._bytes_held += sign * delivery.size_bytes
        for stream, count in delivery.counts():
            self._held_by[stream, delivery.source] += sign * count

    @property
    def _is_batch(self) -> bool:
        """Whether so much waits that a flush is due at once."""
        return self._messages_waiting >= self._flush_at or self._bytes_waiting >= self._max_bytes // 2

    def _half_free(self) -> bool:
        return self._messages_held <= self._max_messages // 2 and self._bytes_held <= self._max_bytes // 2

    def _press(self, *, on: bool) -> None:
        self._pressed = on
        for callback in self._on_pressure:
            callback(on)
