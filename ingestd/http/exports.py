"""The routes that send history as CSV, as fast as the client reads it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import structlog
from aiohttp import hdrs, web

from ingestd.errors import ArchiveError, StoreError
from ingestd.http import parameters
from ingestd.http.authorization import client_of
from ingestd.http.operations import Operation, raw
from ingestd.http.problems import Problem, unknown
from ingestd.http.resetting import reset
from ingestd.http.services import SERVICES
from ingestd.model.periods import TimeRange
from ingestd.model.stream import STREAMS, Stream

log = structlog.get_logger(__name__)

AT_ONCE: Final = 2
"""Exports at a time: each has a connection to the database."""
CLIENT_SECONDS: Final = 30.0
"""The connection of a client that does not take a chunk within this time is closed."""
EXPORT_SECONDS: Final = 3600.0
"""The longest that an export may last: meanwhile PostgreSQL cannot vacuum what was updated or deleted."""

ARCHIVE_END: Final = "Archive-End"
"""Up to when readings of the answer are from the archive; those from then on are from the database."""

UNDER_WAY: Final[web.AppKey[dict[asyncio.Task[Any], str]]] = web.AppKey("exports_under_way", dict)
"""The tasks of the exports under way, each with its client."""


class ExportQuestion(parameters.Window):
    """The history of one device, or of all devices of the stream, in the window."""

    id: parameters.Identity | None = None


async def get_export(request: web.Request, asked: ExportQuestion, stream: Stream) -> web.StreamResponse:
    window = asked.window()
    with _place(request):
        return await _export(request, stream, window, asked.id)


async def end_exports(app: web.Application) -> None:
    """Cancel all exports when the server stops; it would wait for them otherwise."""
    for task in app[UNDER_WAY]:
        task.cancel()


@contextmanager
def _place(request: web.Request) -> Iterator[None]:
    """Counts this export. Raises Problem where as many as are allowed are under way, or one of this client."""
    under_way, task = request.app[UNDER_WAY], asyncio.current_task()
    client = client_of(request)
    if client in under_way.values():
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "an export of this client is under way already")
    if len(under_way) >= AT_ONCE:
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, f"{AT_ONCE} exports are under way already")
    assert task is not None  # noqa: S101 - a handler runs in one
    under_way[task] = client
    try:
        yield
    finally:
        del under_way[task]


async def _export(request: web.Request, stream: Stream, window: TimeRange, device_id: str | None) -> web.StreamResponse:
    services = request.app[SERVICES]
    archive_end = await services.archive_end(stream, window)
    async with aclosing(services.export(stream, window, device_id)) as chunks:
        first = await anext(chunks, None)  # before the status line, so that an error can still be answered by a problem
        if first is None:
            raise unknown(stream, device_id)
        response = web.StreamResponse()
        response.content_type, response.charset = "text/csv", "utf-8"
        name = _file_name(device_id or stream.topic_root, window)
        response.headers[hdrs.CONTENT_DISPOSITION] = f'attachment; filename="{name}"'
        if archive_end is not None:
            response.headers[ARCHIVE_END] = f"{archive_end:%FT%TZ}"
        await response.prepare(request)
        try:
            if request.method != hdrs.METH_HEAD:
                await send(response, first, chunks)
        except (ArchiveError, StoreError, ConnectionError, TimeoutError) as error:
            log.warning("export_aborted", path=request.path, reason=str(error) or type(error).__name__)
            reset(request)
        except BaseException:
            reset(request)
            raise
    return response


async def send(response: web.StreamResponse, chunk: bytes, following: AsyncIterator[bytes]) -> None:
    """Send the body. Raises ConnectionError if the client is gone, TimeoutError if it is too slow."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + EXPORT_SECONDS
    while chunk:
        async with asyncio.timeout(CLIENT_SECONDS):
            await response.write(chunk)
        if clock() > deadline:
            raise TimeoutError(f"it lasted more than {EXPORT_SECONDS:.0f} s")
        chunk = await anext(following, b"")
    async with asyncio.timeout(CLIENT_SECONDS):
        await response.write_eof()


def _file_name(of: str, window: TimeRange) -> str:
    return f"{of}_{_compact(window.start)}_{_compact(window.end)}.csv".replace(":", "-")


def _compact(at: datetime) -> str:
    """ISO 8601's basic format, which can stand in a file name."""
    return f"{at:%Y%m%dT%H%M%SZ}"


OPERATIONS: Final[tuple[Operation, ...]] = tuple(
    raw(
        hdrs.METH_GET,
        f"/v1/export/{stream.topic_root}.csv",
        partial(get_export, stream=stream),
        summary=f"History of {stream.topic_root} as CSV, as fast as the client reads it",
        tag="Exports",
        asks=ExportQuestion,
        answers={HTTPStatus.OK: "text/csv"},
        problems=[HTTPStatus.NOT_FOUND],
    )
    for stream in STREAMS
)
