"""What a daemon tells systemd, received in place of systemd."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """One state, and when it came (monotonic seconds)."""

    at: float
    state: str


class NotifySocket:
    """Receives notifications from entering to leaving."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "notify"
        self.received: list[Notification] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._socket.settimeout(0.1)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._receive, name="notifications")

    @property
    def states(self) -> list[str]:
        return [notification.state for notification in self.received]

    def times(self, state: str) -> list[float]:
        return [notification.at for notification in self.received if notification.state == state]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()

    def _receive(self) -> None:
        while not self._ended.is_set():
            try:
                state = self._socket.recv(4096).decode()
            except TimeoutError:
                continue
            self.received.append(Notification(at=time.monotonic(), state=state))
