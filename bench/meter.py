"""What the processes of a running daemon's place take from the processor."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench.processes import cpu_seconds

if TYPE_CHECKING:
    from bench.daemon import Daemon
    from bench.stage import Place


class Meter:
    """Counts from when it is made."""

    def __init__(self, place: Place, daemon: Daemon) -> None:
        self._place = place
        self._daemon = daemon
        self._started = time.monotonic()
        self._before = self._now()

    def cpu_a_message(self, messages: int) -> dict[str, float]:
        """User and system time in microseconds a message; the publisher's is that of this process."""
        return {name: seconds / messages * 1e6 for name, seconds in self.cpu_seconds().items()}

    def cpu_seconds(self) -> dict[str, float]:
        now = self._now()
        return {name: now[name] - self._before[name] for name in now}

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def _now(self) -> dict[str, float]:
        return {
            "publisher_cpu": time.process_time(),
            "mosquitto_cpu": cpu_seconds(self._place.broker.pid),
            "postgres_cpu": cpu_seconds(self._place.postgres_pid),
            "own_cpu": self._daemon.cpu_seconds(),
        }
