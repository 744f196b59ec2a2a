"""What happens when a client closes the connection: aiohttp cancels the handler (`handler_cancellation`)."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import hdrs, web

_READS: Final = {hdrs.METH_GET, hdrs.METH_HEAD}


@web.middleware
async def carry_changes_through(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """A GET ends when its client closes the connection. A POST, PUT or DELETE that has begun is completed."""
    if request.method in _READS:
        return await handler(request)
    change = asyncio.create_task(_answer(handler, request), name=f"{request.method} {request.path}")
    try:
        return await asyncio.shield(change)
    except asyncio.CancelledError:
        if request.transport is not None:  # the client is still there: the server stops
            change.cancel()
        await asyncio.wait({change})
        if not change.cancelled():
            change.exception()  # read, so that asyncio does not warn; what matters is logged already
        raise
    finally:
        del change  # the error's traceback refers to this frame: without this, both would stay in memory


async def _answer(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]], request: web.Request
) -> web.StreamResponse:
    return await handler(request)
