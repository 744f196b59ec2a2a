"""Connections to PostgreSQL, and the one place where its errors become ours."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeAlias

import psycopg
import structlog
from psycopg import AsyncConnection, AsyncRawCursor, OperationalError, sql
from psycopg.rows import namedtuple_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from ingestd.errors import DataStoreError, OperatorStoreError, StoreError, TransientStoreError
from ingestd.store.queries import Statement

log = structlog.get_logger(__name__)

Connection: TypeAlias = AsyncConnection[tuple[Any, ...]]

CONNECT_SECONDS: Final = 5
READ_CONNECTIONS: Final = 4
READ_WAIT_SECONDS: Final = 5.0
READ_SECONDS: Final = 15.0
READ_SETTINGS: Final = (
    f"SET timezone = 'UTC'; SET statement_timeout = '{READ_SECONDS:.0f}s';"
    # Compiling costs more than it saves here, and so does planning the long statements of the analytics anew each
    # time: with a plan kept, a vehicle's performance takes a fifth of the time.
    " SET jit = off; SET plan_cache_mode = force_generic_plan;"
    # A seek costs next to nothing on the disks of today: a stretch of history is found by its index.
    " SET random_page_cost = 1.1"
).encode()

_RETRIED_CLASSES: Final = {
    "08",  # connection exception
    "40",  # transaction rollback: serialization failure, deadlock
    "53",  # insufficient resources: disk full, too many connections
    "57",  # operator intervention: shutdown, crash recovery, query cancelled
}
_RETRIED_STATES: Final = {
    "25006",  # read-only transaction: a failover under way
    "55P03",  # lock not available
}
_DATA_CLASSES: Final = {
    "22",  # data exception
    "23",  # integrity constraint violation
}
_OPERATOR_CLASSES: Final = {
    "28",  # invalid authorization specification
    "3D",  # invalid catalog name: no such database
    "42",  # syntax error or access rule violation: no such table, no permission
}


def classify(error: psycopg.Error) -> StoreError:
    """What to do about a database error, told by its SQLSTATE (PostgreSQL manual, appendix A).

    - Data: the row is at fault. It is found by bisection and kept as a dead letter.
    - Operator: permissions, missing objects. Said loudly, and repeated slowly until mended.
    - Transient: everything else is repeated as it is, because giving up would lose readings. That includes
      what is unknown, marked as such so that a row which fails again and again can be told from an outage.
    """
    state = error.sqlstate
    message = f"{state or 'database'}: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
    if state is None and isinstance(error, psycopg.DataError):
        return DataStoreError(message)  # refused by the client library already
    if state is None or state[:2] in _RETRIED_CLASSES or state in _RETRIED_STATES:
        return TransientStoreError(message)
    if state[:2] in _DATA_CLASSES:
        return DataStoreError(message)
    if state[:2] in _OPERATOR_CLASSES:
        return OperatorStoreError(message)
    return TransientStoreError(message, known=False)


@contextmanager
def translated() -> Iterator[None]:
    """psycopg's errors as StoreError; everything in ingestd/store/ that talks to the database runs inside it."""
    try:
        yield
    except PoolTimeout as error:
        raise TransientStoreError("no connection to the database") from error
    except psycopg.Error as error:
        raise classify(error) from error


@asynccontextmanager
async def closed_on_error(connection: Connection) -> AsyncIterator[None]:
    """For what has to be done before a new connection is kept: where it fails, nothing is left open."""
    try:
        yield
    except BaseException:
        await connection.close()
        raise


async def connect(dsn: str, *, application_name: str) -> Connection:
    """A connection of one's own, in autocommit mode. Raises StoreError."""
    with translated():
        connection = await AsyncConnection.connect(
            dsn, autocommit=True, connect_timeout=CONNECT_SECONDS, application_name=application_name
        )
        async with closed_on_error(connection):
            await connection.execute("SET timezone = 'UTC'")
        return connection


@asynccontextmanager
async def bounded(connection: Connection, seconds: float) -> AsyncIterator[None]:
    """Cut the connection when the work with it takes longer, so that a frozen server cannot hold us.

    Not `asyncio.timeout`: psycopg answers a cancellation by asking the server to stop and waiting for its
    answer, which with a frozen server takes ten seconds more.
    """

    def cut() -> None:
        log.error("the database does not answer; connection cut", seconds=seconds)
        with socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
            duplicate.shutdown(socket.SHUT_RDWR)

    timer = asyncio.get_running_loop().call_later(seconds, cut)
    try:
        yield
    finally:
        timer.cancel()


class Reads:
    """A small pool for queries, apart from the writer so that dashboards and ingestion do not wait for each other."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            dsn,
            kwargs={
                "autocommit": True,
                "connect_timeout": CONNECT_SECONDS,
                "application_name": "ingestd-reads",
            },
            configure=_set_up_reads,
            min_size=1,
            max_size=READ_CONNECTIONS,
            timeout=READ_WAIT_SECONDS,
            # Give up soon and try afresh at the next request: the pool's own backoff would grow to minutes.
            reconnect_timeout=READ_WAIT_SECONDS,
            open=False,
            name="reads",
        )

    async def open(self) -> None:
        """Raises StoreError where no connection can be made, and says why, which the pool alone would not."""
        await (await connect(self._dsn, application_name="ingestd-reads")).close()
        with translated():
            await self._pool.open(wait=True, timeout=READ_WAIT_SECONDS)

    async def close(self) -> None:
        await self._pool.close()

    async def fetch(
        self, statement: Statement, parameters: Mapping[str, object], *, within: float = READ_SECONDS
    ) -> list[Any]:
        """Rows of one query, as namedtuples; raises StoreError after at most `within` seconds of work.

        A connection that died while idle shows it only when used, so each of the pool may fail once.
        """
        with translated():
            wait = min(within, READ_WAIT_SECONDS)
            for _ in range(READ_CONNECTIONS):
                async with self._connection(wait) as connection, bounded(connection, within):
                    try:
                        return await _answer(connection, statement, parameters)
                    except OperationalError:
                        if not connection.closed:
                            raise
            async with self._connection(wait) as connection, bounded(connection, within):
                return await _answer(connection, statement, parameters)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """For the few changes made on request; raises StoreError, also for what is done in it."""
        with translated():
            async with (
                self._connection(READ_WAIT_SECONDS) as connection,
                bounded(connection, READ_SECONDS),
                connection.transaction(),
            ):
                yield connection

    @asynccontextmanager
    async def _connection(self, wait: float) -> AsyncIterator[Connection]:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - this is a coroutine
        cancellations = task.cancelling()
        async with self._pool.connection(wait) as connection:
            # The pool waits by `asyncio.wait_for`, which before Python 3.12 loses a cancellation that meets the result.
            if task.cancelling() > cancellations:
                raise asyncio.CancelledError
            yield connection


async def _set_up_reads(connection: Connection) -> None:
    await connection.execute(READ_SETTINGS)
    connection.prepare_threshold = 0


async def _answer(connection: Connection, statement: Statement, parameters: Mapping[str, object]) -> list[Any]:
    async with AsyncRawCursor(connection, row_factory=namedtuple_row) as cursor:
        await cursor.execute(statement.text, [parameters[name] for name in statement.parameters])
        return await cursor.fetchall()


async def rows_of(
    connection: Connection, statement: sql.SQL | sql.Composed, parameters: Mapping[str, object]
) -> list[Any]:
    async with connection.cursor(row_factory=namedtuple_row) as cursor:
        await cursor.execute(statement, parameters)
        return await cursor.fetchall()
