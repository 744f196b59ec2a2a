"""Spares a client an answer that it has already (RFC 9110 §13)."""

from collections.abc import Awaitable, Callable
from functools import wraps
from hashlib import sha256
from http import HTTPStatus
from typing import Concatenate, Final, ParamSpec

from aiohttp import ETag, hdrs, web

_Parameters = ParamSpec("_Parameters")
_Handler = Callable[Concatenate[web.Request, _Parameters], Awaitable[web.Response]]

KEEP: Final = "private, no-cache"
"""The browser may keep the answer for whoever is logged in, and asks each time whether it still holds."""


def conditional(handler: _Handler[_Parameters]) -> _Handler[_Parameters]:
    """Decorator of a handler that reads: its answer has a tag, and is 304 if the client names this tag."""

    @wraps(handler)
    async def answer(request: web.Request, /, *args: _Parameters.args, **kwargs: _Parameters.kwargs) -> web.Response:
        response = await handler(request, *args, **kwargs)
        assert isinstance(response.body, bytes)  # noqa: S101 - shapes.answer makes it so
        # Weak, as the tag is of the answer whether it is compressed or not.
        response.etag = ETag(sha256(response.body).hexdigest()[:32], is_weak=True)
        response.headers[hdrs.CACHE_CONTROL] = KEEP
        if not is_known(request, response):
            return response
        kept = {name: value for name, value in response.headers.items() if name != hdrs.CONTENT_TYPE}
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=kept)

    return answer


def is_known(request: web.Request, response: web.Response) -> bool:
    """Whether the client has this answer. A tag is compared weakly (RFC 9110 §13.1.2); `*` stands for any."""
    known = {tag.value for tag in request.if_none_match or ()}
    return response.etag is not None and bool(known & {response.etag.value, "*"})
