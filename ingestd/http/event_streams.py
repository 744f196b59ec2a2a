"""The route of server-sent events (WHATWG HTML, §9.2): newest readings, as soon as they are in the database.

While there is a client, one task looks at the database for all of them. A slow client makes nobody else wait.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Final

import structlog
from aiohttp import hdrs, web
from pydantic import BeforeValidator, Field, WithJsonSchema

from ingestd.errors import StoreError
from ingestd.http import parameters
from ingestd.http.addresses import network_of
from ingestd.http.authorization import client_of, may_go_on
from ingestd.http.newest_events import NewestEvents, Wanted
from ingestd.http.operations import Operation, raw
from ingestd.http.problems import Problem, bad_parameter
from ingestd.http.request_metrics import count_begun
from ingestd.http.resetting import reset
from ingestd.metrics import Requests
from ingestd.model.device import Changed
from ingestd.model.stream import STREAMS

log = structlog.get_logger(__name__)

MOST_DEVICES: Final = 100
"""The most devices that one client may name."""
SOCKET_BYTES: Final = 64 * 1024
RETRY_MILLISECONDS: Final = 2000
"""How long a client waits before it connects again."""
HEARTBEAT: Final = b": heartbeat\n\n"

_HEADERS: Final = {
    hdrs.CONTENT_TYPE: "text/event-stream",
    hdrs.CACHE_CONTROL: "no-store",
    "X-Accel-Buffering": "no",  # a proxy is not to collect what we send
}
_LAST_EVENT_ID: Final = "Last-Event-ID"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventStreamLimits:
    """What clients may take, and the times."""

    total: int = 100
    of_client: int = 16
    """Less than the connections of an address, so that other requests have a connection too."""
    client_seconds: float = 15.0
    """The connection of a client that does not take a chunk within this time is closed."""
    heartbeat_seconds: float = 10.0
    check_seconds: float = 1.0
    """The time between two looks at whether the client may still read."""
    look_seconds: float = 0.5
    """The pause between two looks at the database."""
    look_share: float = 0.05
    """The part of the time that looks take at most: if they take long, the pause is longer."""
    longest_pause_seconds: float = 5.0
    failed_seconds: float = 2.0
    """The pause after a look that failed."""


class EventStreams:
    """All clients, and what they are sent."""

    def __init__(
        self,
        changes: Callable[[], AsyncGenerator[Changed]],
        *,
        metrics: Requests,
        limits: EventStreamLimits | None = None,
    ) -> None:
        self.limits = limits or EventStreamLimits()
        self._changes = changes
        self._metrics = metrics
        self._events = NewestEvents()
        self._of_client: Counter[str] = Counter()
        self._wanted = asyncio.Event()  # there is a client
        self._is_current = False
        self._turn = asyncio.Event()  # set when something has changed, and then replaced by another one
        self._is_ended = False

    @contextmanager
    def place(self, client: str) -> Iterator[None]:
        """Count this client. Raises Problem if there are as many as are allowed, of this client or of all."""
        limits = self.limits
        if self._of_client.total() >= limits.total:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, f"{limits.total} clients read the stream already")
        if self._of_client[client] >= limits.of_client:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, f"this client reads {limits.of_client} streams already")
        self._of_client[client] += 1
        self._metrics.event_streams.inc()
        self._wanted.set()
        try:
            yield
        finally:
            self._metrics.event_streams.dec()
            self._of_client[client] -= 1
            self._of_client += Counter()  # without those that have none
            if not self._of_client:
                self._wanted.clear()
                self._is_current = False

    async def run(self) -> None:
        """Look at the database again and again while there is a client, until cancelled."""
        clock = asyncio.get_running_loop().time
        reason: str | None = None
        while True:
            await self._wanted.wait()
            started = clock()
            try:
                await self._look()
            except StoreError as error:
                if reason is None:
                    log.warning("look_for_changes_failed", reason=str(error))
                reason = str(error)
                await asyncio.sleep(self.limits.failed_seconds)
            else:
                if reason is not None:
                    log.info("look_for_changes_recovered", reason=reason)
                    reason = None
                await asyncio.sleep(self._pause(clock() - started))

    def _pause(self, took: float) -> float:
        limits = self.limits
        return max(limits.look_seconds, min(took / limits.look_share, limits.longest_pause_seconds))

    async def _look(self) -> None:
        is_new = not self._is_current
        async with aclosing(self._changes()) as changes:
            async for changed in changes:
                self._events.add(changed)
                is_new = True
        self._is_current = self._wanted.is_set()
        if is_new:
            self._wake()

    def _wake(self) -> None:
        self._turn.set()
        self._turn = asyncio.Event()

    def end(self) -> None:
        """End all streams: the server stops."""
        self._is_ended = True
        self._wake()

    def drop(self, request: web.Request) -> None:
        """Close the connection of a client that is too slow. What waits for it is thrown away."""
        self._metrics.event_streams_dropped.inc()
        log.warning("event_stream_dropped", remote=request.remote)
        reset(request)

    async def send(self, request: web.Request, response: web.StreamResponse, wanted: Wanted) -> None:
        """Send events until the client may not read any more, or the server stops.

        Raises ConnectionError if the client is gone, TimeoutError if it is too slow.
        """
        clock, limits = asyncio.get_running_loop().time, self.limits
        number = self._events.position(request.headers.get(_LAST_EVENT_ID, ""))
        chunk = f"retry: {RETRY_MILLISECONDS}\n\n".encode()
        heartbeat_at = clock()
        while not self._is_ended and may_go_on(request):
            turn = self._turn
            if not chunk and self._is_current:
                chunk, number = self._events.after(number, wanted)
            if not chunk and clock() >= heartbeat_at:
                chunk = HEARTBEAT
            if chunk:
                async with asyncio.timeout(limits.client_seconds):
                    await response.write(chunk)
                await asyncio.sleep(0)  # a client that takes all at once leaves others their turn
                chunk = b""
                heartbeat_at = clock() + limits.heartbeat_seconds
            else:
                await _wait(turn, min(limits.check_seconds, limits.heartbeat_seconds))
        async with asyncio.timeout(limits.client_seconds):
            await response.write_eof()


async def _wait(turn: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await turn.wait()
    except TimeoutError:
        pass


EVENT_STREAMS: Final = web.AppKey("event_streams", EventStreams)


async def end_event_streams(app: web.Application) -> None:
    app[EVENT_STREAMS].end()


_KINDS: Final = tuple(stream.name for stream in STREAMS)


def _kind(value: object) -> object:
    if value not in _KINDS:
        raise ValueError(f"one of {', '.join(_KINDS)}")
    return value


class StreamQuestion(parameters.Question):
    """All devices, those of a kind, or those that are named."""

    kind: Annotated[str, BeforeValidator(_kind), WithJsonSchema({"type": "string", "enum": [*_KINDS]})] | None = None
    device: Annotated[
        tuple[parameters.Identity, ...], Field(max_length=MOST_DEVICES, description="only these; needs `kind`")
    ] = ()

    def wanted(self) -> Wanted:
        """Raises Problem."""
        if self.device and self.kind is None:
            raise bad_parameter("kind", "needed with device: a meter and a vehicle may have the same id")
        return Wanted(kind=self.kind, devices=frozenset(self.device))


async def get_stream(request: web.Request, asked: StreamQuestion) -> web.StreamResponse:
    wanted = asked.wanted()
    streams = request.app[EVENT_STREAMS]
    with streams.place(network_of(client_of(request))):
        response = web.StreamResponse(headers=_HEADERS)
        response.force_close()  # the connection keeps its small buffer
        await response.prepare(request)
        if request.method == hdrs.METH_HEAD:
            return response
        count_begun(request)
        _keep_little(request)
        try:
            await streams.send(request, response, wanted)
        except TimeoutError:
            streams.drop(request)
        except ConnectionError:
            pass  # the client is gone
    return response


def _keep_little(request: web.Request) -> None:
    """Let the system hold little for a slow client, which then gets new readings, and not megabytes of old ones."""
    if request.transport is not None:
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)


OPERATIONS: Final[tuple[Operation, ...]] = (
    raw(
        hdrs.METH_GET,
        "/v1/stream",
        get_stream,
        summary="Newest readings as server-sent events, as soon as they are in the database",
        tag="Devices",
        asks=StreamQuestion,
        answers={HTTPStatus.OK: "text/event-stream"},
    ),
)
