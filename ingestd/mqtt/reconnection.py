"""When to connect again, and why connections end again and again."""

from typing import Final

import structlog

from ingestd.backoff import Backoff
from ingestd.mqtt.connection import CLOSED
from ingestd.mqtt.timing import Timing

log = structlog.get_logger(__name__)

REPEATED: Final = 2
"""This many takeovers in a row are reported. A single one may be chance."""


class Reconnection:
    """The reconnections of one session. The pause grows until a connection is stable: it has lived for 30 s."""

    def __init__(self, *, client_id: str, timing: Timing) -> None:
        self._client_id = client_id
        self._timing = timing
        self._backoff = Backoff(first=timing.pause_first, longest=timing.pause_longest, jitter=(0.5, 1.0))
        self._opened_at = 0.0
        self._takeovers = 0  # in a row: those that the broker named, and those that look like one
        self._is_named = False  # the broker named the last one

    def pause(self) -> float:
        """Seconds to wait before the next attempt."""
        return self._backoff.next()

    def refused(self) -> None:
        """Only an operator can help: the next pause is the longest."""
        self._backoff.extend()

    def unreachable(self) -> None:
        """The broker cannot be reached.

        So the connections before ended because of that, and not because of a takeover.
        """
        self._takeovers = 0

    def opened(self, now: float) -> None:
        self._opened_at = now

    def is_stable(self, now: float) -> bool:
        """Whether the newest connection has lived for a while."""
        return now - self._opened_at >= self._timing.stable

    def ended(self, good_until: float, *, reason: str, taken_over: bool) -> str:
        """A connection ended; it worked until `good_until`. Returns the reason, or a takeover that it may have been.

        Not every broker sends DISCONNECT with 0x8E (Session taken over): Mosquitto 2.0.11 only closes the connection.
        """
        stable = self.is_stable(good_until)
        if stable:
            self._backoff.reset()
        looks_like_it = taken_over or (reason == CLOSED and not stable)
        self._takeovers = self._takeovers + 1 if looks_like_it else 0
        self._is_named = taken_over
        if takeover := self._described():
            log.error("session_taken_over", client_id=self._client_id, times=self._takeovers)
            return takeover
        return reason

    def takeover(self, now: float) -> str | None:
        """What to say of a client that takes the session over again and again; None once a connection has lived for 10
        s.
        """
        return self._described() if now - self._opened_at < self._timing.takeover_shown else None

    def _described(self) -> str | None:
        if self._takeovers < REPEATED:
            return None
        ours, times = repr(self._client_id), f"{self._takeovers} times"
        if self._is_named:
            return f"another client uses our client id {ours}: it took the session over {times}"
        return f"the broker closed the connection {times} soon after we came: another client with our id {ours}?"
