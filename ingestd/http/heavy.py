"""Limits reads over the whole fleet, so that the database can also answer other requests."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from functools import wraps
from http import HTTPStatus
from typing import Any, Concatenate, Final, ParamSpec, TypeVar
from weakref import WeakValueDictionary

from aiohttp import web

from ingestd.http.authorization import client_of
from ingestd.http.problems import Problem

AT_ONCE: Final = 2
WAIT_SECONDS: Final = 5.0
"""A request that has waited for this long is answered with 503."""

_Parameters = ParamSpec("_Parameters")
_Answer = TypeVar("_Answer")
_Handler = Callable[Concatenate[web.Request, _Parameters], Coroutine[Any, Any, _Answer]]


class HeavyReads:
    """At most two heavy reads at a time, and one of each client. Others wait."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(AT_ONCE)
        self._of_client: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def place(self, client: str) -> AsyncIterator[None]:
        """Wait for a place. Raises Problem if none is free in time."""
        of_client = self._of_client.setdefault(client, asyncio.Lock())
        async with AsyncExitStack() as held:
            try:
                async with asyncio.timeout(WAIT_SECONDS):
                    await held.enter_async_context(of_client)
                    await held.enter_async_context(self._places)
            except TimeoutError as error:
                raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "other requests of this kind are under way") from error
            yield


HEAVY_READS: Final = web.AppKey("heavy_reads", HeavyReads)


def heavy(handler: _Handler[_Parameters, _Answer]) -> _Handler[_Parameters, _Answer]:
    """Decorator of a handler with a heavy read: it begins when it has a place."""

    @wraps(handler)
    async def limited(request: web.Request, /, *args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Answer:
        async with request.app[HEAVY_READS].place(client_of(request)):
            return await handler(request, *args, **kwargs)

    return limited
