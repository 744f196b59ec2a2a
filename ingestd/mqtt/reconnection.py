"""When to connect anew, and what may be behind connections that end again and again."""

import random
from typing import Final

import structlog

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
        self._taken_over = 0
        self._cut_short = 0

    def pause(self) -> float:
        """Seconds to wait before the next attempt, at random, so that many daemons do not come back together."""
        delay = self._delay
        self._delay = min(delay * 2, self._timing.pause_longest)
        return random.uniform(delay / 2, delay)  # noqa: S311 - jitter, not a secret

    def refused(self) -> None:
        """Only an operator can help: the next pause is the longest."""
        self._delay = self._timing.pause_longest

    def opened(self, now: float) -> None:
        self._opened_at = now

    def settled(self, now: float) -> bool:
        """Whether the newest connection has lived for a while."""
        return now - self._opened_at >= self._timing.settled

    def ended(self, good_until: float, *, reason: str, taken_over: bool, deaf: bool) -> str:
        """A connection ended that was good until then; returns the reason, with what may be behind it."""
        if self.settled(good_until):
            self._delay = self._timing.pause_first
            self._cut_short = 0
        else:
            self._cut_short += 1
        self._taken_over = self._taken_over + 1 if taken_over else 0
        if trouble := self._takeover():
            log.error("another client uses our client id", client_id=self._client_id, times=self._taken_over)
            return trouble
        if self._cut_short >= REPEATED and not deaf:
            seconds = f"{self._timing.settled:g} s"
            return f"{reason} ({self._cut_short} times in a row within {seconds}: another client with our id?)"
        return reason

    def trouble(self, now: float) -> str | None:
        """Another client that takes the session over and over, until a connection has lived for a while."""
        return None if self.settled(now) else self._takeover()

    def _takeover(self) -> str | None:
        if self._taken_over < REPEATED:
            return None
        return (
            f"another client uses our client id {self._client_id!r}: it took the session over {self._taken_over} times"
        )
