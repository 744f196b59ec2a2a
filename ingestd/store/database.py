"""Connections to PostgreSQL, and the one place where its errors become ours."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeAlias

import psycopg
import structlog
from psycopg import AsyncConnection, AsyncRawCursor, IsolationLevel, sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import namedtuple_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from ingestd.errors import DataStoreError, OperatorStoreError, StoreError, TransientStoreError
from ingestd.store.queries import Statement

log = structlog.get_logger(__name__)

Connection: TypeAlias = AsyncConnection[tuple[Any, ...]]

CONNECT_SECONDS: Final = 5
"""For an address of the database, unless the URL or PGCONNECT_TIMEOUT says otherwise."""
CONNECT_SECONDS_OF_SEVERAL: Final = 2
"""The same where the URL names several hosts: they are tried one after the other, and one may be silent."""
OLDEST_VERSION: Final = 150000
"""PostgreSQL 15, which brought MERGE."""
READ_CONNECTIONS: Final = 4
READ_WAIT_SECONDS: Final = 5.0
READ_SECONDS: Final = 15.0
CUT_SECONDS: Final = 2.0
"""The server ends a statement at its limit. One that has not done so this much later is taken for frozen."""
CHECK_SECONDS: Final = 2.0
"""How long an idle connection of a pool may take to show that it lives."""
OPEN_SECONDS: Final = 60.0
ROWS_IN_A_TURN: Final = 100
"""Taking these apart takes a millisecond or so."""

SESSION_SETTINGS: Final = (
    # Limits are ours to set: a role's own might end a long batch again and again. This first, as it limits the others.
    b"SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0;"
    b" SET idle_session_timeout = 0;"
    # What the code relies on, whatever server, database, role, URL and environment say.
    b" SET datestyle = 'ISO, MDY'; SET intervalstyle = 'postgres'; SET timezone = 'UTC';"
    b" SET standard_conforming_strings = on; SET bytea_output = 'hex'; SET extra_float_digits = 1;"
    # Who waits for a lock has to see afterwards what was committed meanwhile.
    b" SET default_transaction_isolation = 'read committed';"
    # PostgreSQL 17 brought this limit.
    b" SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'transaction_timeout'"
)
READ_SETTINGS: Final = (
    # Compiling costs more than it saves here.
    b"SET jit = off;"
    # A seek costs next to nothing on the disks of today: a stretch of history is found by its index.
    b" SET random_page_cost = 1.1"
)

_PING: Final = Statement(text=b"SELECT 1", parameters=())

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
    except UnicodeEncodeError as error:
        raise DataStoreError(f"no UTF-8 text: {error.reason}") from error
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
    """A connection of one's own, in autocommit mode, with `SESSION_SETTINGS`. Raises StoreError."""
    with translated():
        try:
            connection = await AsyncConnection.connect(dsn, **_parameters(dsn, application_name))
        except UnicodeError as error:
            raise OperatorStoreError(f"the host of the database can be no name: {error}") from error
        async with closed_on_error(connection):
            await _set_up(connection)
        return connection


def _parameters(dsn: str, application_name: str) -> dict[str, Any]:
    """What every connection is made with, over what the URL says (libpq's parameter key words)."""
    parameters: dict[str, Any] = {
        "autocommit": True,
        "application_name": application_name,
        "client_encoding": "UTF8",  # whatever PGCLIENTENCODING says
    }
    given = conninfo_to_dict(dsn)
    if "connect_timeout" not in given and "PGCONNECT_TIMEOUT" not in os.environ:
        several = "," in str(given.get("host", given.get("hostaddr", "")))
        parameters["connect_timeout"] = CONNECT_SECONDS_OF_SEVERAL if several else CONNECT_SECONDS
    return parameters


async def _set_up(connection: Connection) -> None:
    """Raises OperatorStoreError where the database is none that ingestd can use."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise OperatorStoreError(
            f"the encoding of the database {connection.info.dbname} is {encoding}; ingestd needs one made with"
            " ENCODING 'UTF8'"
        )
    if connection.info.server_version < OLDEST_VERSION:
        raise OperatorStoreError(
            f"the server is PostgreSQL {connection.info.server_version // 10_000}; ingestd needs"
            f" {OLDEST_VERSION // 10_000} or newer"
        )
    await connection.execute(SESSION_SETTINGS)


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


class Snapshot:
    """Queries on one connection, in a transaction or not. Errors are psycopg's."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def fetch(self, statement: Statement, parameters: Mapping[str, object]) -> list[Any]:
        """Rows of one query, as namedtuples."""
        async with AsyncRawCursor(self._connection, row_factory=namedtuple_row) as cursor:
            await cursor.execute(statement.text, [parameters[name] for name in statement.parameters], binary=True)
            return await cursor.fetchall()

    async def each(self, statement: Statement, parameters: Mapping[str, object]) -> AsyncIterator[Any]:
        """The same one by one, for many rows: the event loop has its turn in between."""
        async with AsyncRawCursor(self._connection, row_factory=namedtuple_row) as cursor:
            await cursor.execute(statement.text, [parameters[name] for name in statement.parameters], binary=True)
            while some := await cursor.fetchmany(ROWS_IN_A_TURN):
                for row in some:
                    yield row
                await asyncio.sleep(0)


class Reads:
    """A small pool for queries, apart from the writer so that dashboards and ingestion do not wait for each other."""

    def __init__(
        self,
        dsn: str,
        *,
        application_name: str = "ingestd-reads",
        connections: int = READ_CONNECTIONS,
        seconds: float = READ_SECONDS,
    ) -> None:
        """No statement may take longer than `seconds`. Raises StoreError where `dsn` is not understood."""
        self._dsn = dsn
        self._application_name = application_name
        self._seconds = seconds
        self._giving_back: set[asyncio.Task[None]] = set()
        with translated():
            parameters = _parameters(dsn, application_name)
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            dsn,
            kwargs=parameters,
            configure=self._configure,
            check=_check,
            min_size=1,
            max_size=connections,
            timeout=min(seconds, READ_WAIT_SECONDS),
            # Give up soon and try afresh at the next request: the pool's own backoff would grow to minutes.
            reconnect_timeout=READ_WAIT_SECONDS,
            open=False,
            name=application_name,
        )

    async def open(self) -> None:
        """Raises StoreError where no connection can be made, and says why, which the pool alone would not."""
        await (await connect(self._dsn, application_name=self._application_name)).close()
        with translated():
            await self._pool.open(wait=True, timeout=OPEN_SECONDS)

    async def close(self) -> None:
        await self._pool.close()
        while self._giving_back:
            await asyncio.wait(self._giving_back)

    async def fetch(self, statement: Statement, parameters: Mapping[str, object]) -> list[Any]:
        """Rows of one query, as namedtuples. Raises StoreError; nothing is repeated that may have begun."""
        with translated():
            async with self._connection() as connection:
                return await Snapshot(connection).fetch(statement, parameters)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator["Snapshot"]:
        """For several queries that have to see the same (PostgreSQL manual, 13.2.2). Raises StoreError."""
        async with self._begun(IsolationLevel.REPEATABLE_READ, read_only=True) as connection:
            yield Snapshot(connection)

    async def ping(self) -> None:
        """Raises StoreError unless the database answers."""
        await self.fetch(_PING, {})

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """For the few changes made on request; raises StoreError, also for what is done in it."""
        async with self._begun(None, read_only=None) as connection:
            yield connection

    @asynccontextmanager
    async def _begun(self, isolation: IsolationLevel | None, *, read_only: bool | None) -> AsyncIterator[Connection]:
        """A transaction; None: as the session has it. These two are said in BEGIN."""
        with translated():
            async with self._connection() as connection:
                await connection.set_isolation_level(isolation)
                await connection.set_read_only(read_only)
                async with connection.transaction():
                    yield connection

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        """One of the pool's, which loses a connection whose taking or giving back is cancelled: neither ever is."""
        taking = asyncio.create_task(self._pool.getconn())
        try:
            await asyncio.wait({taking})
            async with bounded(taking.result(), self._seconds + CUT_SECONDS):
                yield taking.result()
        finally:
            giving_back = asyncio.create_task(self._give_back(taking))
            self._giving_back.add(giving_back)
            giving_back.add_done_callback(self._giving_back.discard)
            if taking.done():  # else nobody waits for the connection any more
                await asyncio.wait({giving_back})

    async def _give_back(self, taking: asyncio.Task[Connection]) -> None:
        await asyncio.wait({taking})
        if taking.exception() is None:
            await self._pool.putconn(taking.result())

    async def _configure(self, connection: Connection) -> None:
        await _set_up(connection)
        await connection.execute(READ_SETTINGS)
        await connection.execute(f"SET statement_timeout = '{self._seconds:g}s'".encode())
        connection.prepare_threshold = 0


async def _check(connection: Connection) -> None:
    """Raises psycopg's error where a connection died while it was idle: the pool then takes another one."""
    async with bounded(connection, CHECK_SECONDS):
        await AsyncConnectionPool.check_connection(connection)


async def rows_of(
    connection: Connection, statement: sql.SQL | sql.Composed, parameters: Mapping[str, object]
) -> list[Any]:
    async with connection.cursor(row_factory=namedtuple_row) as cursor:
        await cursor.execute(statement, parameters)
        return await cursor.fetchall()
