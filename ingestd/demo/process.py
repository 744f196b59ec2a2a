"""A server as a private child process: its directory, its port, its log, its start and its end."""

from __future__ import annotations

import errno
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from ingestd.errors import IngestdError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

LOOPBACK = "127.0.0.1"
POLL_INTERVAL = 0.005
DEADLINE = 60.0
"""Seconds that a server may take to start or to end: far more than it needs, even on a busy machine."""


class ServerError(IngestdError):
    """A private server is not installed, did not start or did not end."""


class PortTakenError(ServerError):
    """Another program listens on the port of the server."""


class LoopbackPort:
    """A free TCP port of 127.0.0.1, held until `close`.

    It stays bound but does not listen, so a connection to it is refused while the server is down. Linux lets
    the server listen on it all the same, as both set SO_REUSEADDR. Held, it cannot be taken between choosing
    and listening or over a restart, nor be the source port of a client that would then connect to itself.
    """

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((LOOPBACK, 0))
        self.number: int = self._socket.getsockname()[1]
        if sys.platform != "linux":
            self.close()  # on other systems no second socket may be bound to the same address

    def close(self) -> None:
        self._socket.close()


class PrivateServer(ABC):
    """What the servers have in common: a directory, a port, a log, a process and its end.

    The process is in a process group of its own: Ctrl-C in a terminal is for us to act on, in our order.
    As root everything runs as `nobody`, which PostgreSQL insists on.
    """

    name: ClassVar[str]

    def __init__(self) -> None:
        self._account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._directory: Path | None = None
        self._port: LoopbackPort | None = None
        self._port_is_known = False
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self._lifeline = -1
        self._log_start = 0

    @abstractmethod
    def _set_up(self) -> None:
        """Prepares the directory, once, before the first start."""

    @abstractmethod
    def _command(self) -> list[str]: ...

    @abstractmethod
    def _is_ready(self) -> bool: ...

    @property
    def directory(self) -> Path:
        """The server's working directory; raises ServerError before the first start."""
        if self._directory is None:
            raise ServerError(f"{self.name} was not started yet")
        return self._directory

    @property
    def port(self) -> int:
        """Stays the same over restarts; raises ServerError before the first start."""
        if self._port is None:
            raise ServerError(f"{self.name} was not started yet")
        return self._port.number

    @property
    def pid(self) -> int:
        """The process id; raises ServerError when the server does not run."""
        if not self.running:
            raise ServerError(f"{self.name} is not running")
        return self._pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> Path:
        return self.directory / "server.log"

    def log_tail(self, lines: int = 20) -> str:
        """The last lines the server has logged since its last start."""
        with self.log.open(errors="replace") as log:
            log.seek(self._log_start)
            return "".join(log.readlines()[-lines:]).rstrip()

    def start(self) -> None:
        """Starts the server, or starts it again on the same port and data; returns when it serves.

        Raises ServerError with the end of its log.
        """
        if self.running:
            return
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix=f"ingestd-{self.name.lower()}-"))
            self.log.touch()
            self._set_up()
        if self._port is None:
            self._port = LoopbackPort()
        for attempts_left in (2, 1, 0):
            try:
                self._launch()
            except PortTakenError:
                if self._port_is_known or not attempts_left:
                    raise
                self._port.close()
                self._port = LoopbackPort()
            else:
                self._port_is_known = True
                return

    def kill(self) -> None:
        """SIGKILL, as in a crash; returns when all of the server's processes are gone."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """Ends the server and removes all it has written."""
        try:
            self.kill()
        finally:
            if self._port is not None:
                self._port.close()
                self._port, self._port_is_known = None, False
            if self._directory is not None:
                shutil.rmtree(self._directory)
                self._directory = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _spawn(self, command: Sequence[str], *, keep_open: Sequence[int] = ()) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            try:
                return subprocess.Popen(  # noqa: S603 - the command is ours
                    command,
                    cwd=self.directory,
                    # Plain English in the log, and no search for the name of the local time zone by initdb.
                    env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=keep_open,
                    process_group=0,
                    user=self._account.pw_uid if self._account else None,
                    group=self._account.pw_gid if self._account else None,
                    extra_groups=[] if self._account else None,
                )
            except OSError as error:
                raise ServerError(f"{self.name} cannot be run: {error}") from error

    def _launch(self) -> None:
        self.kill()  # only so that nothing remains of a server that has died by itself
        # All of the server's processes inherit the writing end; the reading end ends when all have exited, by
        # which time they have let go of the shared memory too, so that another server may start.
        self._lifeline, inherited = os.pipe()
        try:
            self._process = self._spawn(self._command(), keep_open=(inherited,))
            self._pid = self._process.pid
        finally:
            os.close(inherited)
        deadline = time.monotonic() + DEADLINE
        while not self._is_ready():
            if not self.running:
                self.kill()
                taken = os.strerror(errno.EADDRINUSE) in self.log_tail()
                raise (PortTakenError if taken else ServerError)(self._story("exited instead of starting"))
            if time.monotonic() > deadline:
                self.kill()
                raise ServerError(self._story(f"did not start within {DEADLINE:.0f} s"))
            time.sleep(POLL_INTERVAL)

    def _end(self, signum: signal.Signals) -> None:
        """Sends the signal, where the server still runs, and waits until all of its processes are gone."""
        deadline = time.monotonic() + DEADLINE
        if self._process is not None:
            self._process.send_signal(signum)
            try:
                self._process.wait(DEADLINE)
            except subprocess.TimeoutExpired as error:
                raise ServerError(self._story(f"did not end on {signum.name}")) from error
            self._process = None
        if self._lifeline >= 0:
            poll = select.poll()
            poll.register(self._lifeline, select.POLLIN)
            if not poll.poll(1000 * max(0.0, deadline - time.monotonic())):
                raise ServerError(self._story(f"ended on {signum.name}, but not all of its processes did"))
            os.close(self._lifeline)
            self._lifeline = -1

    def _hand_over(self) -> None:
        """Lets the account that the server runs as, if it is not ours, own the directory and all in it."""
        if self._account is not None:
            for path in (self.directory, *self.directory.rglob("*")):
                os.chown(path, self._account.pw_uid, self._account.pw_gid, follow_symlinks=False)

    def _story(self, what: str) -> str:
        return f"{self.name} {what}; its log ends with:\n{self.log_tail()}"
