"""COPY TO STDOUT in chunks of whole lines: no row is decoded here, and only a few are in memory."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack
from typing import Final

from psycopg import AsyncCopy, generators, sql
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus

from ingestd.store.connection import Connection, bounded, closed_on_error

CHUNK_BYTES: Final = 64 * 1024


async def chunks_of(
    connection: Connection,
    statement: sql.SQL | sql.Composed,
    parameters: Mapping[str, object],
    *,
    seconds: float,
    header: bool = True,
) -> AsyncGenerator[bytes]:
    """What the statement copies. If the server sends nothing for so many seconds, the connection is cut.

    Without `header`, the first line is left out. If the caller ends early, the connection is closed. Errors are
    psycopg's.
    """
    async with AsyncExitStack() as copying:
        async with bounded(connection, seconds):
            cursor = await copying.enter_async_context(connection.cursor())
            copy = await copying.enter_async_context(cursor.copy(statement, parameters))
            if not header:
                await copy.read()
        # If the copy ends early, the connection is closed before psycopg can ask the server to cancel, and
        # wait for it. A server that is sending does not see such a request, but it sees a closed connection.
        await copying.enter_async_context(closed_on_error(connection))
        more = True
        while more:
            chunk = bytearray()
            while more and len(chunk) < CHUNK_BYTES:
                async with bounded(connection, seconds):
                    more = await _take(connection, copy, chunk)
            if chunk:
                yield bytes(chunk)


async def _take(connection: Connection, copy: AsyncCopy, chunk: bytearray) -> bool:
    """Wait for a row, and append it with the rows that arrived with it; False at the end.

    psycopg returns row by row, at 2.3 µs each. Rows that libpq has received already are read from libpq, at 0.7 µs.
    """
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
