"""History as CSV, straight from COPY: no row is decoded here, and only a few are held at a time."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Final

from psycopg import AsyncCopy, generators
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus

from ingestd.model.periods import TimeRange
from ingestd.model.stream import STREAMS, Stream
from ingestd.store import queries
from ingestd.store.connection import Connection, bounded, closed_on_error, connect, rows_of
from ingestd.store.sqlstate import translated

_SQL: Final = queries.load("exports.sql")
_HAS_SENT: Final = {stream: queries.for_stream(_SQL["has_sent"], stream) for stream in STREAMS}
_EXPORT: Final = {stream: queries.for_stream(_SQL["export"], stream) for stream in STREAMS}

CHUNK_BYTES: Final = 64 * 1024
SILENCE_SECONDS: Final = 60.0
"""A server that sends nothing for so long while we wait for it is given up."""


class Exports:
    """History on its way out, each time over a connection of its own, so that no query ever waits for one."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    async def csv(self, stream: Stream, window: TimeRange, device_id: str | None) -> AsyncGenerator[bytes]:
        """A line of names, which are the API's keys, and a line for each reading, in chunks of whole lines.

        One device in order of time; all of them in order of days, and in no certain one within a day. Nothing, not
        even the names, where the device is unknown. Raises StoreError. `aclose` frees the connection at once.
        """
        parameters = {"start": window.start, "end": window.end, "device_id": device_id}
        with translated():
            connection = await connect(self._dsn, application_name="ingestd-export")
            async with connection, AsyncExitStack() as copying:
                async with bounded(connection, SILENCE_SECONDS):
                    await connection.execute(_SQL["prepare_export"])
                    if device_id is not None and not await rows_of(connection, _HAS_SENT[stream], parameters):
                        return
                    cursor = await copying.enter_async_context(connection.cursor())
                    copy = await copying.enter_async_context(cursor.copy(_EXPORT[stream], parameters))
                # Where it ends early, the connection is closed before psycopg gets to ask the server to cancel, and
                # to wait for that: one that is busy sending hears nothing, but sees at once that nobody is there.
                await copying.enter_async_context(closed_on_error(connection))
                more = True
                while more:
                    chunk = bytearray()
                    while more and len(chunk) < CHUNK_BYTES:
                        more = await _take(connection, copy, chunk)
                    if chunk:
                        yield bytes(chunk)


async def _take(connection: Connection, copy: AsyncCopy, chunk: bytearray) -> bool:
    """Wait for a row, and append it together with those that came with it; False at the end.

    psycopg hands out row by row, at 2.3 µs each; what libpq holds already is had from it directly, at 0.7 µs.
    """
    async with bounded(connection, SILENCE_SECONDS):
        row = await copy.read()
        if not row:
            return False
        size = len(row)
        while size > 0:
            chunk += row
            size, row = connection.pgconn.get_copy_data(1)
        if size == 0:
            return True
        for result in await connection.wait(generators.fetch_many(connection.pgconn)):
            if result.status == ExecStatus.FATAL_ERROR:
                raise error_from_result(result)
        return False
