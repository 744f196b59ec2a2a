"""Pools of connections, and queries on them."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final, Self

from psycopg import AsyncRawCursor, IsolationLevel
from psycopg.rows import namedtuple_row
from psycopg_pool import AsyncConnectionPool

from ingestd.store.connection import HUNG_TIMEOUT, Connection, bounded, connect, connection_parameters, set_up
from ingestd.store.queries import Statement
from ingestd.store.sqlstate import translated

CONNECTIONS: Final = 4
WAIT_SECONDS: Final = 5.0
"""The limit for waiting until a connection is free."""
STATEMENT_SECONDS: Final = 15.0
CUT_SECONDS: Final = 2.0
"""The server ends a statement at its limit. If it has not done so this much later, the connection is cut."""
CHECK_SECONDS: Final = 2.0
"""The limit for checking that an idle connection is alive."""
OPEN_SECONDS: Final = 60.0
ROWS_PER_YIELD: Final = 100
"""Rows between two turns of other tasks, about a millisecond of work."""

POOL_SETTINGS: Final = (
    # Compiling takes longer than it saves with these statements.
    b"SET jit = off;"
    # Random reads are cheap on SSDs, so the planner should use the indexes of history.
    b" SET random_page_cost = 1.1"
)

_PING: Final = Statement(text=b"SELECT 1", parameters=())


class Snapshot:
    """Queries on one connection, inside a transaction or outside. Errors are psycopg's."""

    def __init__(self, connection: Connection, *, as_of: datetime | None = None) -> None:
        self._connection = connection
        self.as_of = as_of
        """What was committed after this may be missing; None: nothing is that was committed before."""

    async def fetch(self, statement: Statement, parameters: Mapping[str, object]) -> list[Any]:
        """The rows of one query, as namedtuples."""
        async with AsyncRawCursor(self._connection, row_factory=namedtuple_row) as cursor:
            await cursor.execute(statement.text, [parameters[name] for name in statement.parameters], binary=True)
            return await cursor.fetchall()

    async def each(self, statement: Statement, parameters: Mapping[str, object]) -> AsyncIterator[Any]:
        """The rows one by one, for many rows. Other tasks of the event loop run in between."""
        async with AsyncRawCursor(self._connection, row_factory=namedtuple_row) as cursor:
            await cursor.execute(statement.text, [parameters[name] for name in statement.parameters], binary=True)
            while some := await cursor.fetchmany(ROWS_PER_YIELD):
                for row in some:
                    yield row
                await asyncio.sleep(0)


class Pool:
    """A few connections for requests, alerts and housekeeping. The writer has its own connection."""

    def __init__(
        self,
        dsn: str,
        *,
        application_name: str = "ingestd-reads",
        connections: int = CONNECTIONS,
        seconds: float = STATEMENT_SECONDS,
        waits_for_server: bool = True,
    ) -> None:
        """No statement may take longer than `seconds`. Raises StoreError if `dsn` cannot be parsed."""
        self._waits_for_server = waits_for_server
        self._dsn = dsn
        self._application_name = application_name
        self._seconds = seconds
        self._giving_back: set[asyncio.Task[None]] = set()
        parameters = connection_parameters(dsn, application_name)
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            dsn,
            kwargs=parameters,
            configure=self._configure,
            check=_check,
            min_size=1,
            max_size=connections,
            timeout=min(seconds, WAIT_SECONDS),
            # After this the next request tries again. Without it the pool's own pauses would grow to minutes.
            reconnect_timeout=WAIT_SECONDS,
            open=False,
            name=application_name,
        )

    async def open(self) -> None:
        """Raises StoreError with the reason if no connection can be made; psycopg's pool does not give the reason."""
        if not self._waits_for_server:
            await self._pool.open()
            return
        await (await connect(self._dsn, application_name=self._application_name)).close()
        with translated():
            await self._pool.open(wait=True, timeout=OPEN_SECONDS)

    async def __aenter__(self) -> Self:
        """The pool, open. Raises StoreError."""
        try:
            await self.open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._pool.close()
        while self._giving_back:
            await asyncio.wait(self._giving_back)

    async def fetch(self, statement: Statement, parameters: Mapping[str, object]) -> list[Any]:
        """The rows of one statement, as namedtuples. Raises StoreError. No statement is repeated."""
        with translated():
            async with self._connection() as connection:
                return await Snapshot(connection).fetch(statement, parameters)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator["Snapshot"]:
        """Several queries that see the same data: REPEATABLE READ (PostgreSQL manual, 13.2.2). Raises StoreError."""
        with translated():
            async with self._connection() as connection:
                as_of = await self._as_of(connection)
                async with _begun(connection, IsolationLevel.REPEATABLE_READ, read_only=True):
                    yield Snapshot(connection, as_of=as_of)

    async def ping(self) -> None:
        """Raises StoreError unless the database answers."""
        await self.fetch(_PING, {})

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A transaction for the changes of a request. Raises StoreError, also for errors inside it."""
        with translated():
            async with self._connection() as connection, _begun(connection, None, read_only=None):
                await connection.execute(f"SET LOCAL idle_in_transaction_session_timeout = '{HUNG_TIMEOUT}'")
                yield connection

    @property
    def shown_until(self) -> datetime | None:
        """What was committed after this may not be shown; None: all is shown."""
        return None

    async def _as_of(self, _connection: Connection) -> datetime | None:
        """Of a snapshot that is taken on the connection after this."""
        return None

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        """A connection of the pool. psycopg loses it if `getconn` or `putconn` is cancelled, so neither ever is."""
        taking = asyncio.create_task(self._pool.getconn())
        try:
            await asyncio.wait({taking})
            async with bounded(taking.result(), self._seconds + CUT_SECONDS):
                yield taking.result()
        finally:
            giving_back = asyncio.create_task(self._give_back(taking))
            self._giving_back.add(giving_back)
            giving_back.add_done_callback(self._giving_back.discard)
            if taking.done():  # else the caller was cancelled and does not wait
                await asyncio.wait({giving_back})

    async def _give_back(self, taking: asyncio.Task[Connection]) -> None:
        await asyncio.wait({taking})
        if taking.exception() is None:
            await self._pool.putconn(taking.result())

    async def _configure(self, connection: Connection) -> None:
        await set_up(connection)
        await connection.execute(POOL_SETTINGS)
        await connection.execute(f"SET statement_timeout = '{self._seconds:g}s'".encode())
        connection.prepare_threshold = 0


@asynccontextmanager
async def _begun(
    connection: Connection, isolation: IsolationLevel | None, *, read_only: bool | None
) -> AsyncIterator[None]:
    """A transaction. None: the session's default. psycopg puts both into BEGIN, without another statement."""
    await connection.set_isolation_level(isolation)
    await connection.set_read_only(read_only)
    async with connection.transaction():
        yield


async def _check(connection: Connection) -> None:
    """Raises psycopg's error if an idle connection is dead. The pool then takes another one."""
    async with bounded(connection, CHECK_SECONDS):
        await AsyncConnectionPool.check_connection(connection)
