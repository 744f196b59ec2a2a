"""A client of GET /v1/stream, which reads what comes in a thread of its own."""

from __future__ import annotations

import http.client
import json
import socket
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING, Any, Self

from ingestd.demo.process import LOOPBACK
from tests.support.daemon import Response

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from tests.support.daemon import Daemon


@dataclass(frozen=True, slots=True)
class Event:
    kind: str
    id: str
    data: dict[str, Any]

    @property
    def device(self) -> str:
        return str(self.data[f"{self.kind}Id"])


class EventReader:
    """Entering opens the stream; raises AssertionError if it is refused. Leaving closes the connection."""

    def __init__(
        self, daemon: Daemon, query: str = "", *, headers: Mapping[str, str] | None = None, source: str = LOOPBACK
    ) -> None:
        self.events: list[Event] = []
        self.heartbeats = 0
        self.retries: list[int] = []
        self.is_ended = False
        self.was_cut = False
        """It ended without the end of the body."""
        self._path = f"/v1/stream?{query}"
        self._headers = headers or {}
        self._connection = daemon.connection(timeout=60)
        self._connection.source_address = (source, 0)  # type: ignore[attr-defined]  # which it has
        self._thread = Thread(target=self._read, daemon=True)

    @property
    def devices(self) -> list[str]:
        """Of the events, in order."""
        return [event.device for event in self.events]

    def of(self, device: str) -> list[Event]:
        return [event for event in self.events if event.device == device]

    def open(self) -> Response:
        """The answer, without a body if it is the stream."""
        self._connection.request("GET", self._path, headers=dict(self._headers))
        self._socket = self._connection.sock
        self._answer = self._connection.getresponse()
        is_stream = self._answer.status == http.client.OK
        headers = {name.lower(): value for name, value in self._answer.getheaders()}
        return Response(self._answer.status, headers, b"" if is_stream else self._answer.read())

    def head(self) -> Response:
        """As `open`, and the connection is closed."""
        try:
            return self.open()
        finally:
            self._answer.close()
            self._connection.close()

    def __enter__(self) -> Self:
        answer = self.open()
        assert answer.status == http.client.OK, answer.body
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # the server has closed it
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(timeout=10)
        self._answer.close()
        self._connection.close()

    def _read(self) -> None:
        fields: dict[str, str] = {}
        try:
            for line in self._answer:
                text = line.decode().rstrip("\n")
                name, _, value = text.partition(": ")
                match name:
                    case "" if not text and "data" in fields:
                        self.events.append(Event(fields["event"], fields["id"], json.loads(fields["data"])))
                        fields = {}
                    case "" if text:
                        self.heartbeats += 1
                    case "retry":
                        self.retries.append(int(value))
                    case "event" | "id" | "data":
                        fields[name] = value
        except (OSError, http.client.HTTPException, ValueError):
            self.was_cut = True
        self.is_ended = True
