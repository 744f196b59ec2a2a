"""Makes connections to PostgreSQL and sets them up."""

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import structlog
from psycopg import AsyncConnection, sql
from psycopg.rows import namedtuple_row

from ingestd.errors import OperatorStoreError
from ingestd.store import conninfo
from ingestd.store.sqlstate import translated

log = structlog.get_logger(__name__)

Connection: TypeAlias = AsyncConnection[tuple[Any, ...]]

CONNECT_SECONDS: Final = 5
"""The limit for one address of the database, unless the URL or PGCONNECT_TIMEOUT sets another."""
CONNECT_SECONDS_OF_SEVERAL: Final = 2
"""The same if the URL names several hosts: they are tried one after the other, and one may not answer."""
OLDEST_VERSION: Final = 150000
"""PostgreSQL 15, which brought MERGE."""

HUNG_TIMEOUT: Final = "5s"
"""`idle_in_transaction_session_timeout` of transactions that change something. If nothing comes for so long, this
daemon hangs, or its machine is gone, and others wait for its locks. Shorter than the writer waits for a lock."""

SESSION_SETTINGS: Final = (
    # Limits of the role are removed: they might end a long batch again and again. First, as they limit the others.
    b"SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0;"
    b" SET idle_session_timeout = 0;"
    # If our machine is gone, the server notices within 11 s, not after two hours. Until then it keeps our locks.
    b" SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3;"
    # The code relies on these settings, whatever server, database, role, URL and environment say.
    b" SET datestyle = 'ISO, MDY'; SET intervalstyle = 'postgres'; SET timezone = 'UTC';"
    b" SET standard_conforming_strings = on; SET bytea_output = 'hex'; SET extra_float_digits = 1;"
    # After waiting for a lock, a statement has to see what was committed in the meantime.
    b" SET default_transaction_isolation = 'read committed';"
    # Only PostgreSQL 17 and newer have this limit.
    b" SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'transaction_timeout'"
)


@asynccontextmanager
async def closed_on_error(connection: Connection) -> AsyncIterator[None]:
    """Close a new connection if setting it up fails."""
    try:
        yield
    except BaseException:
        await connection.close()
        raise


async def connect(dsn: str, *, application_name: str) -> Connection:
    """A connection outside of the pools, in autocommit mode, with `SESSION_SETTINGS`. Raises StoreError."""
    with translated():
        try:
            connection = await AsyncConnection.connect(dsn, **connection_parameters(dsn, application_name))
        except UnicodeError as error:
            raise OperatorStoreError(f"the host of the database can be no name: {error}") from error
        async with closed_on_error(connection):
            await set_up(connection)
        return connection


def connection_parameters(dsn: str, application_name: str) -> dict[str, Any]:
    """libpq's parameters for every connection, in addition to those in the URL. Raises OperatorStoreError."""
    parameters: dict[str, Any] = {
        "autocommit": True,
        "application_name": application_name,
        "client_encoding": "UTF8",  # whatever PGCLIENTENCODING says
    }
    given = conninfo.given(dsn)
    if "connect_timeout" not in given and "PGCONNECT_TIMEOUT" not in os.environ:
        several = "," in str(given.get("host", given.get("hostaddr", "")))
        parameters["connect_timeout"] = CONNECT_SECONDS_OF_SEVERAL if several else CONNECT_SECONDS
    return parameters


async def set_up(connection: Connection) -> None:
    """Check the server and set the session up. Raises OperatorStoreError if ingestd cannot use the database."""
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
    """Cut the connection if the work with it takes longer, so that a server that hangs does not block us.

    `asyncio.timeout` would not do: when cancelled, psycopg asks the server to stop and waits for its answer. If the
    server hangs, that takes ten more seconds.
    """

    def on_timeout() -> None:
        log.error("database_connection_cut", seconds=seconds)
        cut(connection)

    timer = asyncio.get_running_loop().call_later(seconds, on_timeout)
    try:
        yield
    finally:
        timer.cancel()


def cut(connection: Connection) -> None:
    """End what waits for the server, with an error of the connection. The server is not asked."""
    if connection.closed:
        return
    with socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
        try:
            duplicate.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:  # the server has reset it already, and we have not read that yet
                raise


async def rows_of(
    connection: Connection, statement: sql.SQL | sql.Composed, parameters: Mapping[str, object]
) -> list[Any]:
    async with connection.cursor(row_factory=namedtuple_row) as cursor:
        await cursor.execute(statement, parameters)
        return await cursor.fetchall()
