"""One connection of a client. Errors outside of routes are answered with problems too."""

import asyncio
from http import HTTPStatus
from typing import Any, Final, cast

from aiohttp import hdrs, web
from aiohttp.http import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import _ErrInfo

from ingestd.http import problems
from ingestd.http.broken import BrokenRequests
from ingestd.http.browsers import HEADERS
from ingestd.http.open_connections import ConnectionLimits, OpenConnections, Watched

SERVER_NAME: Final = "ingestd"
"""The header `Server`. aiohttp's own names the versions of Python and aiohttp."""
KEEP_ALIVE_SECONDS: Final = 60.0
"""How long a connection may wait for its next request."""
LINGERING_SECONDS: Final = 1.0
"""How long the rest of a refused body is read. Without that, the client might not read the answer."""
PARSED_AT_ONCE: Final = 16 * 1024
"""Bytes that are parsed before the head is looked at."""
READ_BUFFER_BYTES: Final = 32 * 1024
"""Reading from the connection stops while twice this many bytes of a body are unread."""


class Connection(web.RequestHandler):
    """aiohttp's connection, which answers what is not HTTP by a problem, and logs no traceback for it."""

    __slots__ = (
        "_broken",
        "_connections",
        "_handshake",
        "_head_since",
        "_is_refused",
        "_socket",
        "_unsent",
        "_unsent_since",
    )

    def __init__(
        self,
        server: web.Server,
        *,
        broken: BrokenRequests,
        connections: OpenConnections,
        handshake: Watched | None = None,
        **given: Any,  # noqa: ANN401 - aiohttp's
    ) -> None:
        """`handshake` is counted until the connection takes its place."""
        super().__init__(
            server,
            access_log=None,  # type: ignore[arg-type] # which aiohttp allows, but does not declare
            auto_decompress=False,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            lingering_time=LINGERING_SECONDS,
            read_bufsize=READ_BUFFER_BYTES,
            **given,
        )
        self._broken = broken
        self._connections = connections
        self._handshake = handshake
        self._is_refused = False  # no more is parsed; aiohttp closes the connection after the answer
        self._socket: asyncio.Transport | None = None  # aiohttp's `transport` is None while the last bytes are sent
        self._head_since: float | None = None  # since when the headers of a request are awaited
        self._unsent = 0
        self._unsent_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if peer else ""
        if self._handshake is not None:
            self._connections.leave(self._handshake)
        if reason := self._connections.admit(self, address):
            self._broken.note(reason, remote=address)
            self._socket.set_protocol(asyncio.Protocol())  # which ignores what the client sends
            self._socket.write(_refusal(reason))
            self._socket.close()
            return
        self._head_since = self._unsent_since = self._loop.time()
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._connections.leave(self)
        super().connection_lost(exc)

    def check(self, now: float, limits: ConnectionLimits) -> None:
        """End the connection if the client is too slow to send a head, or to take an answer."""
        assert self._socket is not None  # noqa: S101 - only what was made is checked
        unsent = self._socket.get_write_buffer_size()
        if unsent == 0 or unsent < self._unsent:
            self._unsent_since = now
        self._unsent = unsent
        if now - self._unsent_since > limits.write_seconds:
            self._end(f"nothing of the answer was taken for {limits.write_seconds:g} s")
        elif self._is_waiting and self._head_since is not None and now - self._head_since > limits.head_seconds:
            self._end(f"the headers of a request were not there within {limits.head_seconds:g} s")

    def data_received(self, data: bytes) -> None:
        """Parse a head in parts, so that of a request that is refused by it little more than the head is parsed."""
        rest = data
        while self._is_waiting and not self._is_refused and len(rest) > PARSED_AT_ONCE:
            self._parse(rest[:PARSED_AT_ONCE])
            rest = rest[PARSED_AT_ONCE:]
        if not self._is_refused:
            self._parse(rest)

    def _parse(self, data: bytes) -> None:
        requests = self._request_count
        super().data_received(data)
        if self._request_count > requests:
            self._head_since = None
        elif data and self._is_waiting and self._head_since is None:
            self._head_since = self._loop.time()
        if self._messages:
            self._refuse_by_head()

    def _refuse_by_head(self) -> None:
        """Replace the newest request by an error if nothing that follows its head may be parsed.

        Bodies in chunks of one byte take 0.07 s of CPU for 360 KB. After an upgrade aiohttp collects what comes.
        """
        message, _ = self._messages[-1]
        if isinstance(message, _ErrInfo):
            message.exc.__traceback__ = None  # whose frames hold the bytes, in a cycle that stays until it is collected
            self._is_refused = True
        elif message.chunked:
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "a body is taken with Content-Length, and not in chunks")
        elif self._upgraded:
            self._refuse(HTTPStatus.BAD_REQUEST, "no upgrade is offered")

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        error = HttpProcessingError(code=status, message=detail)
        self._messages[-1] = (_ErrInfo(status=status, exc=error, message=detail), EMPTY_PAYLOAD)
        self._is_refused = True

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """aiohttp refuses some requests before any route, with plain text. Answer with a problem instead."""
        if isinstance(resp, web.HTTPException):
            resp = problems.of_aiohttp(resp)
        for name, value in {hdrs.SERVER: SERVER_NAME, **HEADERS}.items():
            resp.headers.setdefault(name, value)
        return await super().finish_response(request, resp, start_time)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to bytes that the parser cannot read, or to an error of ingestd. Then the connection is closed."""
        if isinstance(exc, UnicodeError):  # aiohttp would repeat the header in its answer
            status, message = HTTPStatus.EXPECTATION_FAILED, "a header Expect that is no text"
            exc = HttpProcessingError(message=message)
        self.log_exception("request failed", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        detail = (message or "").partition("\n")[0].rstrip(":")
        response = problems.response(HTTPStatus(status), detail or HTTPStatus(status).phrase)
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - aiohttp's
        """A fault of the client is counted; an error of ours is logged with its traceback."""
        error = kwargs.get("exc_info")
        match error:
            case HttpProcessingError():
                self._broken.note(error.message.partition("\n")[0], remote=self._remote())
            case web.RequestPayloadError() | ConnectionError():
                self._broken.note(str(error), remote=self._remote())
            case _:
                super().log_exception(*args, **kwargs)

    @property
    def _is_waiting(self) -> bool:
        """No request is being answered, and none is there in full."""
        return self._waiter is not None and not self._waiter.done()

    def _end(self, reason: str) -> None:
        assert self._socket is not None  # noqa: S101 - only what was made is checked
        self._broken.note(reason, remote=self._remote())
        self._socket.abort()

    def _remote(self) -> str | None:
        peer = self.peername
        return str(peer[0]) if isinstance(peer, tuple) else peer


def _refusal(reason: str) -> bytes:
    """The answer to a connection that there is no room for. No request of it is read."""
    answer = problems.response(HTTPStatus.SERVICE_UNAVAILABLE, reason)
    body = cast("bytes", answer.body)
    headers = {**answer.headers, **HEADERS, hdrs.SERVER: SERVER_NAME, hdrs.CONNECTION: "close"}
    lines = (f"{name}: {value}\r\n" for name, value in {**headers, hdrs.CONTENT_LENGTH: len(body)}.items())
    return f"HTTP/1.1 503 Service Unavailable\r\n{''.join(lines)}\r\n".encode() + body
