"""What happens to a request whose client hangs up: aiohttp cancels its handler (`handler_cancellation`)."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import hdrs, web

_READS: Final = {hdrs.METH_GET, hdrs.METH_HEAD}


@web.middleware
async def carry_changes_through(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """A read ends with its client. A change that has begun is made, whoever waits for the answer."""
    if request.method in _READS:
        return await handler(request)
    change = asyncio.create_task(_answer(handler, request), name=f"{request.method} {request.path}")
    try:
        return await asyncio.shield(change)
    except asyncio.CancelledError:
        if request.transport is not None:  # not the client is gone: the server stops
            change.cancel()
        await asyncio.wait({change})
        if not change.cancelled():
            change.exception()  # nobody is left to be told; what is worth it, is in the log already
        raise
    finally:
        del change  # an error holds this frame, which would hold the error: what it refers to stays in memory


async def _answer(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]], request: web.Request
) -> web.StreamResponse:
    return await handler(request)
