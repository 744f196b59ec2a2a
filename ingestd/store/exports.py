"""Exports history as CSV, straight from COPY: no row is decoded here, and only a few are in memory."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing
from itertools import pairwise
from typing import Final

from psycopg import AsyncCopy, generators, sql
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus

from ingestd.model.periods import TimeRange
from ingestd.model.stream import STREAMS, Stream
from ingestd.store import queries
from ingestd.store.connection import Connection, bounded, closed_on_error, connect, rows_of
from ingestd.store.sqlstate import translated

_SQL: Final = queries.load("exports.sql")
_HAS_SENT: Final = {stream: queries.for_stream(_SQL["has_sent"], stream) for stream in STREAMS}
_DIVIDE: Final = {stream: queries.for_stream(_SQL["divide_export"], stream) for stream in STREAMS}
_EXPORT: Final = {stream: queries.for_stream(_SQL["export"], stream) for stream in STREAMS}

CHUNK_BYTES: Final = 64 * 1024
SILENCE_SECONDS: Final = 60.0
"""If the server sends nothing for this long, the connection is cut."""


class Exports:
    """Each export has a connection of its own, so that no query has to wait for it."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    async def csv(self, stream: Stream, window: TimeRange, device_id: str | None) -> AsyncGenerator[bytes]:
        """A line of names, which are the API's keys, and a line for each reading, in chunks of whole lines.

        One device is in order of time. All devices are in order of days, without an order within a day. There is no
        line at all if the device is unknown. Raises StoreError. `aclose` frees the connection at once.
        """
        parameters = {"start": window.start, "end": window.end, "device_id": device_id}
        with translated():
            connection = await connect(self._dsn, application_name="ingestd-export")
            async with connection:
                async with bounded(connection, SILENCE_SECONDS):
                    await connection.execute(_SQL["prepare_export"])
                    if device_id is not None and not await rows_of(connection, _HAS_SENT[stream], parameters):
                        return
                    divided = [row.at for row in await rows_of(connection, _DIVIDE[stream], parameters)]
                for start, end in pairwise([window.start, *divided, window.end]):
                    its = parameters | {"start": start, "end": end}
                    async with aclosing(_chunks(connection, _EXPORT[stream], its, names=start == window.start)) as part:
                        async for chunk in part:
                            yield chunk


async def _chunks(
    connection: Connection, statement: sql.Composed, parameters: Mapping[str, object], *, names: bool
) -> AsyncGenerator[bytes]:
    """The lines of one COPY, the line of names only where asked for."""
    async with AsyncExitStack() as copying:
        async with bounded(connection, SILENCE_SECONDS):
            cursor = await copying.enter_async_context(connection.cursor())
            copy = await copying.enter_async_context(cursor.copy(statement, parameters))
            if not names:
                await copy.read()
        # If the export ends early, the connection is closed before psycopg can ask the server to cancel, and wait for
        # it. A server that is sending does not see such a request, but it sees a closed connection.
        await copying.enter_async_context(closed_on_error(connection))
        more = True
        while more:
            chunk = bytearray()
            while more and len(chunk) < CHUNK_BYTES:
                more = await _take(connection, copy, chunk)
            if chunk:
                yield bytes(chunk)


async def _take(connection: Connection, copy: AsyncCopy, chunk: bytearray) -> bool:
    """Wait for a row, and append it with the rows that arrived with it; False at the end.

    psycopg returns row by row, at 2.3 µs each. Rows that libpq has received already are read from libpq, at 0.7 µs.
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
