"""Reads the bodies of requests: each within its size and time, and all together within one budget of memory."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web

from ingestd.http.authorization import client_of
from ingestd.http.broken import BROKEN
from ingestd.http.problems import Problem

MAX_HELD_BYTES: Final = 32 * 1024 * 1024
MAX_CLIENT_BYTES: Final = 8 * 1024 * 1024
"""The share of one client: two of the largest bodies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyLimit:
    """How large one body may be, and within how many seconds it must be complete."""

    max_bytes: int
    seconds: float


ORDINARY: Final = BodyLimit(max_bytes=64 * 1024, seconds=10.0)
TELEMETRY: Final = BodyLimit(max_bytes=4 * 1024 * 1024, seconds=20.0)
"""Twice the size of 10,000 readings of about 150 bytes."""


class Bodies:
    """All bodies in memory. The bytes that were received count, not the Content-Length of the client."""

    def __init__(self, *, max_held_bytes: int = MAX_HELD_BYTES, max_client_bytes: int = MAX_CLIENT_BYTES) -> None:
        self._max_held_bytes = max_held_bytes
        self._max_client_bytes = max_client_bytes
        self._free_bytes = max_held_bytes
        self._of_client: Counter[str] = Counter()

    @property
    def held_bytes(self) -> int:
        return self._max_held_bytes - self._free_bytes

    @asynccontextmanager
    async def read(self, request: web.Request, limit: BodyLimit) -> AsyncIterator[bytearray]:
        """The whole body. It counts towards the budget until the block ends. Raises Problem."""
        _refuse_encoded(request)
        _refuse_other_types(request)
        body = bytearray()
        client = client_of(request)
        try:
            await self._fill(body, request, limit, client)
            yield body
        finally:
            self._free_bytes += len(body)
            self._of_client[client] -= len(body)
            if not self._of_client[client]:
                del self._of_client[client]
            body.clear()  # the traceback of an error may hold a reference to it for longer

    async def _fill(self, body: bytearray, request: web.Request, limit: BodyLimit, client: str) -> None:
        if (request.content_length or 0) > limit.max_bytes:
            raise _too_large(limit)
        deadline = asyncio.timeout(limit.seconds)
        try:
            async with deadline:
                while chunk := await request.content.readany():
                    if len(body) + len(chunk) > limit.max_bytes:
                        raise _too_large(limit)
                    self._take(len(chunk), client)
                    body += chunk
        except (web.RequestPayloadError, OSError) as error:
            if deadline.expired():
                raise Problem(HTTPStatus.REQUEST_TIMEOUT, f"no whole body within {limit.seconds:g} s") from error
            # If the client has closed the connection, nobody receives this answer.
            request.app[BROKEN].note(f"the body broke off: {error}", remote=request.remote)
            raise Problem(HTTPStatus.BAD_REQUEST, "the body breaks off, or is not HTTP") from error

    def _take(self, size: int, client: str) -> None:
        if self._of_client[client] + size > self._max_client_bytes:
            share = self._max_client_bytes // 2**20
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, f"the bodies of this client fill its {share} MiB")
        if size > self._free_bytes:
            held = self._max_held_bytes // 2**20
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, f"the bodies of other requests fill the {held} MiB for them")
        self._free_bytes -= size
        self._of_client[client] += size


def _refuse_encoded(request: web.Request) -> None:
    """Refuse compressed bodies: a megabyte of gzip may be a gigabyte of text. Raises Problem."""
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "identity")
    if encoding.strip().lower() != "identity":
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a body is taken as it is, without Content-Encoding")


def _refuse_other_types(request: web.Request) -> None:
    """Refuse what a browser sends for any page without asking first: forms and plain text. Raises Problem."""
    if request.content_type != "application/json":
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a body is taken with Content-Type: application/json only")


def _too_large(limit: BodyLimit) -> Problem:
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body of at most {limit.max_bytes} bytes is taken here")


BODIES: Final = web.AppKey("bodies", Bodies)
