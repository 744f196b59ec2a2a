"""One connection of a client. Errors outside of routes are answered with problems too."""

from http import HTTPStatus
from typing import Any, Final

from aiohttp import hdrs, web
from aiohttp.http import HttpProcessingError

from ingestd.http import problems
from ingestd.http.broken import BrokenRequests

SERVER_NAME: Final = "ingestd"
"""The header `Server`. aiohttp's own names the versions of Python and aiohttp."""
KEEP_ALIVE_SECONDS: Final = 75.0
LINGERING_SECONDS: Final = 1.0
"""How long the rest of a refused body is read. Without that, the client might not read the answer."""
READ_BUFFER_BYTES: Final = 32 * 1024
"""Reading from the connection stops while twice this many bytes of a body are unread."""


class Connection(web.RequestHandler):
    """aiohttp's connection, which answers what is not HTTP by a problem, and logs no traceback for it."""

    __slots__ = ("_broken",)

    def __init__(self, server: web.Server, *, broken: BrokenRequests, **given: Any) -> None:  # noqa: ANN401 - aiohttp's
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

    def data_received(self, data: bytes) -> None:
        """If the parser fails within a body, aiohttp lets the route wait for the rest of it. End that wait."""
        super().data_received(data)
        request = self._current_request
        # While a body has not ended, no request can follow: what is in the queue is an error.
        if self._messages and request is not None and not request.content.is_eof():
            request.content.set_exception(web.RequestPayloadError("it cannot be parsed"))

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """aiohttp refuses some requests before any route, with plain text. Answer with a problem instead."""
        if isinstance(resp, web.HTTPException):
            resp = problems.of_aiohttp(resp)
        resp.headers.setdefault(hdrs.SERVER, SERVER_NAME)
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

    def _remote(self) -> str | None:
        peer = self.peername
        return str(peer[0]) if isinstance(peer, tuple) else peer
