"""One id for each request: in a header of its answer, in its problem, and in the lines of the log about it."""

import secrets
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from aiohttp import web

from ingestd.model.stream import is_identity

HEADER: Final = "X-Request-ID"
_FIELD: Final = "request_id"
_ID: Final = web.RequestKey("request_id", str)


@web.middleware
async def identify(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Take the id of the client, or a new one if it sends none that can be taken (see IDENTITY_RULE)."""
    of_client = request.headers.get(HEADER, "")
    request[_ID] = of_client if is_identity(of_client) else new()
    with structlog.contextvars.bound_contextvars(**{_FIELD: request[_ID]}):
        return await handler(request)


def current() -> str:
    """The id of the request that is answered now; a new one for what is no request that was read whole."""
    return str(structlog.contextvars.get_contextvars().get(_FIELD) or new())


def new() -> str:
    return secrets.token_hex(8)


async def set_request_id(request: web.Request, response: web.StreamResponse) -> None:
    """Set the header, also of an answer that begins inside a route, such as an export."""
    response.headers.setdefault(HEADER, request.get(_ID) or new())
