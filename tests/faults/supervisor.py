"""Starts the daemon again whenever it ends, as systemd would, and watches its memory."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

import psutil

from tests.support.polling import until

if TYPE_CHECKING:
    from types import TracebackType

    from tests.support.daemon import Daemon

LOOK_SECONDS: Final = 0.05
RESTART_SECONDS: Final = 0.3
SAMPLE_SECONDS: Final = 0.5
MEGABYTE: Final = 1024 * 1024


class Memory:
    """Resident megabytes of the daemon, whichever process it was, once it had started up."""

    def __init__(self) -> None:
        self.samples = 0
        self.first = self.lowest = self.highest = self.last = 0.0

    def note(self, megabytes: float) -> None:
        if not megabytes:
            return  # it has just ended
        if not self.samples:
            self.first = self.lowest = megabytes
        self.samples += 1
        self.lowest, self.highest = min(self.lowest, megabytes), max(self.highest, megabytes)
        self.last = megabytes


class Supervisor:
    """Runs a daemon, and starts it again when it ends. Faults call its methods from one thread."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.exits: Counter[int] = Counter()
        """By exit code; negative is the signal."""
        self.memory = Memory()
        self._starts = 0
        self._failpoints = ""
        self._started_at = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor")

    def __enter__(self) -> Self:
        self._start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def kill(self) -> None:
        """SIGKILL; returns when the next one has been started."""
        starts = self._starts
        self.daemon.kill()
        until(lambda: self._starts > starts)

    def terminate(self, *, failpoints: str = "", within: float) -> None:
        """SIGTERM; returns when the next one, with `failpoints` armed, has been started.

        Raises AssertionError where it takes longer than `within`.
        """
        starts = self._starts
        self._failpoints = failpoints
        psutil.Process(self.daemon.pid).terminate()
        until(lambda: self._starts > starts, within=within)

    def wait_for_end(self, *, within: float) -> bool:
        """Until the process that runs now has ended and another was started; whether it did in time."""
        starts = self._starts
        with suppress(AssertionError):
            until(lambda: self._starts > starts, within=within)
        return self._starts > starts

    def wait_recovered(self, since: float, *, within: float) -> float | None:
        """Seconds after `since` (Unix time) until the daemon was healthy and had committed; None where too late."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            with suppress(OSError, http.client.HTTPException):
                if (
                    self.daemon.metric("ingestd_last_commit_timestamp_seconds") > since
                    and self.daemon.request("GET", "/health", timeout=5.0).status == http.client.OK
                ):
                    return time.time() - since
            time.sleep(LOOK_SECONDS)
        return None

    def _start(self) -> None:
        once, self._failpoints = self._failpoints, ""
        if once:
            self.daemon.start(failpoints=once)
        else:
            self.daemon.start()
        self._started_at = time.monotonic()
        self._starts += 1

    def _watch(self) -> None:
        sampled_at = 0.0
        while not self._stop.wait(LOOK_SECONDS):
            code = self.daemon.exit_code
            if code is not None:
                self.exits[code] += 1
                self._stop.wait(RESTART_SECONDS)
                self._start()
            now = time.monotonic()
            # A process that is still importing says nothing about growth.
            if now - sampled_at > SAMPLE_SECONDS and now - self._started_at > 2.0:
                sampled_at = now
                with suppress(psutil.NoSuchProcess):
                    self.memory.note(psutil.Process(self.daemon.pid).memory_info().rss / MEGABYTE)
