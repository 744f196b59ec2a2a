"""A contestant's processes, and the CPU time and memory of processes in general."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Self

import psutil

from bench.errors import BenchError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

POLL_SECONDS: Final = 0.005
END_SECONDS: Final = 30.0


def wait_until(check: Callable[[], bool], what: str, *, within: float) -> float:
    """Ask until it is so; returns when that was (time.monotonic). Raises BenchError after `within` seconds."""
    deadline = time.monotonic() + within
    while not check():
        if time.monotonic() > deadline:
            raise BenchError(f"waited {within:.0f} s in vain for {what}")
        time.sleep(POLL_SECONDS)
    return time.monotonic()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its descendants, with those that have ended and were waited for."""
    root = psutil.Process(pid)
    seconds = 0.0
    for process in (root, *root.children(recursive=True)):
        with suppress(psutil.NoSuchProcess, OSError):
            times = process.cpu_times()
            seconds += _own_cpu_seconds(process.pid) + times.children_user + times.children_system
    return seconds


def _own_cpu_seconds(pid: int) -> float:
    """To the nanosecond: /proc has hundredths of a second, too coarse for a daemon that does next to nothing.

    This is clock_getcpuclockid(3), which Python does not have. Raises OSError when there is no such process.
    """
    return time.clock_gettime((~pid << 3) | 2)


def peak_rss(pid: int) -> int:
    """The most memory, in bytes, that the process has had resident at a time.

    Not `ru_maxrss`: that starts with what the parent had when it forked.
    """
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    if found is None:
        raise BenchError(f"/proc/{pid}/status tells no VmHWM")
    return int(found[1]) * 1024


class Child:
    """A child process whose CPU time can be read while it runs and after it has ended.

    Leaving the context ends it. What it writes to stderr (and to stdout, where nobody reads that) is its log.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        directory: Path,
        environment: Mapping[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
        stdout: IO[bytes] | None = None,
    ) -> None:
        """The log is in `directory`, which is the working directory too. Raises BenchError if it cannot be run."""
        self.name = Path(command[0]).name
        self._log = directory / f"{self.name}.log"
        with self._log.open("ab") as log:
            try:
                self._process = subprocess.Popen(
                    command,
                    cwd=directory,
                    env=environment,
                    stdin=stdin,
                    stdout=log if stdout is None else stdout,
                    stderr=log,
                    process_group=0,
                )
            except OSError as error:
                raise BenchError(f"{command[0]} cannot be run: {error.strerror}") from error
        self._cpu_seconds = 0.0  # in all, once it has ended

    @property
    def pid(self) -> int:
        return self._process.pid

    def take_stdin(self) -> IO[bytes]:
        """The pipe to it, for the caller to pass on and close; it was started with subprocess.PIPE."""
        pipe, self._process.stdin = self._process.stdin, None
        if pipe is None:
            raise BenchError(f"{self.name} has no pipe to write to")
        return pipe

    def ended(self) -> bool:
        """Raises BenchError when it has ended with anything but 0."""
        if self._process.returncode is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self._process.returncode = os.waitstatus_to_exitcode(status)
                self._cpu_seconds = usage.ru_utime + usage.ru_stime
        if self._process.returncode:
            raise BenchError(f"{self.name} ended with {self._process.returncode}:\n{self.log_tail()}")
        return self._process.returncode is not None

    def listens(self, port: int) -> bool:
        """Whether somebody answers at this port of 127.0.0.1; raises BenchError when it has ended instead."""
        if self.ended():
            raise BenchError(f"{self.name} ended by itself:\n{self.log_tail()}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=END_SECONDS).close()
        except ConnectionRefusedError:
            return False
        return True

    def cpu_seconds(self) -> float:
        return self._cpu_seconds if self.ended() else cpu_seconds(self.pid)

    def terminate(self) -> None:
        """SIGTERM; raises BenchError if it does not end well."""
        self._process.terminate()
        wait_until(self.ended, f"the end of {self.name}", within=END_SECONDS)

    def log_tail(self, lines: int = 20) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
