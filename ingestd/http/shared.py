"""Answers over the whole fleet, shared by all requests for the same address within a few seconds."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from typing import Final
from weakref import WeakValueDictionary

from aiohttp import hdrs, web

SHARED_SECONDS: Final = 5.0
MOST_KEPT: Final = 100
"""Different addresses. A dashboard asks for a few of them again and again."""

_Handler = Callable[[web.Request], Awaitable[web.Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    body: bytes
    made_at: float  # monotonic seconds


class SharedAnswers:
    """The newest answer for each address. While it is made, other requests for it wait."""

    def __init__(self, *, seconds: float = SHARED_SECONDS) -> None:
        self._seconds = seconds
        self._kept: dict[str, _Kept] = {}
        self._making: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def answer(self, question: str, make: Callable[[], Awaitable[bytes]], *, anew: bool) -> tuple[bytes, float]:
        """The body, and its age in seconds.

        `anew`: make it also if there is a recent one. Raises what `make` raises.
        """
        making = self._making.setdefault(question, asyncio.Lock())
        async with making:
            now = time.monotonic()
            self._kept = {asked: kept for asked, kept in self._kept.items() if now - kept.made_at < self._seconds}
            kept = self._kept.get(question)
            if kept is None or anew:
                kept = _Kept(body=await make(), made_at=now)
                if len(self._kept) < MOST_KEPT:
                    self._kept[question] = kept
            return kept.body, now - kept.made_at


SHARED_ANSWERS: Final = web.AppKey("shared_answers", SharedAnswers)


def asks_anew(request: web.Request) -> bool:
    """Whether the request has `Cache-Control: no-cache`, and so wants a new answer (RFC 9111 §5.2.1.4)."""
    return "no-cache" in request.headers.get(hdrs.CACHE_CONTROL, "")


def shared(handler: _Handler) -> _Handler:
    """Decorator of a handler whose answer depends only on the address."""

    @wraps(handler)
    async def answer(request: web.Request) -> web.Response:
        async def make() -> bytes:
            body = (await handler(request)).body
            assert isinstance(body, bytes)  # noqa: S101 - shapes.answer makes it so
            return body

        body, age = await request.app[SHARED_ANSWERS].answer(request.path_qs, make, anew=asks_anew(request))
        return web.Response(body=body, content_type="application/json", headers={hdrs.AGE: f"{age:.0f}"})

    return answer
