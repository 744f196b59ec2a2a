"""When to connect anew, and what may be behind connections that end again and again."""

import random
from typing import Final

import structlog

from ingestd.mqtt.connection import CLOSED
from ingestd.mqtt.timing import Timing

log = structlog.get_logger(__name__)

REPEATED: Final = 2
"""What happened so often in a row is no accident."""


class Reconnection:
    """Of one session. The pause grows until a connection has lived for a while: a new one may not be a good one."""

    def __init__(self, *, client_id: str, timing: Timing) -> None:
        self._client_id = client_id
        self._timing = timing
        self._delay = timing.pause_first
        self._opened_at = 0.0
        self._takeovers = 0  # in a row, certain ones and those that look like it
        self._certain = False

    def pause(self) -> float:
        """Seconds to wait before the next attempt, at random, so that many daemons do not come back together."""
        delay = self._delay
        self._delay = min(delay * 2, self._timing.pause_longest)
        return random.uniform(delay / 2, delay)  # noqa: S311 - jitter, not a secret

    def refused(self) -> None:
        """Only an operator can help: the next pause is the longest."""
        self._delay = self._timing.pause_longest

    def unreachable(self) -> None:
        """The broker is away: that is why connections ended, and nobody took them over."""
        self._takeovers = 0

    def opened(self, now: float) -> None:
        self._opened_at = now

    def settled(self, now: float) -> bool:
        """Whether the newest connection has lived for a while."""
        return now - self._opened_at >= self._timing.settled

    def ended(self, good_until: float, *, reason: str, taken_over: bool) -> str:
        """A connection ended that was good until then; returns the reason, or what may be behind it.

        Of a takeover not every broker tells: Mosquitto 2.0.11 just closes the connection.
        """
        settled = self.settled(good_until)
        if settled:
            self._delay = self._timing.pause_first
        looks_like_it = taken_over or (reason == CLOSED and not settled)
        self._takeovers = self._takeovers + 1 if looks_like_it else 0
        self._certain = taken_over
        if takeover := self._takeover():
            log.error("another client may use our client id", client_id=self._client_id, times=self._takeovers)
            return takeover
        return reason

    def trouble(self, now: float) -> str | None:
        """Another client that takes the session over and over, until a connection lives."""
        return self._takeover() if now - self._opened_at < self._timing.named else None

    def _takeover(self) -> str | None:
        if self._takeovers < REPEATED:
            return None
        ours, times = repr(self._client_id), f"{self._takeovers} times"
        if self._certain:
            return f"another client uses our client id {ours}: it took the session over {times}"
        return f"the broker closed the connection {times} soon after we came: another client with our id {ours}?"
