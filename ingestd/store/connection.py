"""Connections to PostgreSQL: how each of them is made and set up."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import structlog
from psycopg import AsyncConnection, sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import namedtuple_row

from ingestd.errors import OperatorStoreError
from ingestd.store.sqlstate import translated

log = structlog.get_logger(__name__)

Connection: TypeAlias = AsyncConnection[tuple[Any, ...]]

CONNECT_SECONDS: Final = 5
"""For an address of the database, unless the URL or PGCONNECT_TIMEOUT says otherwise."""
CONNECT_SECONDS_OF_SEVERAL: Final = 2
"""The same where the URL names several hosts: they are tried one after the other, and one may be silent."""
OLDEST_VERSION: Final = 150000
"""PostgreSQL 15, which brought MERGE."""

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


@asynccontextmanager
async def closed_on_error(connection: Connection) -> AsyncIterator[None]:
    """For what is done with a new connection before it is kept. Where that fails, the connection is closed."""
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
    """libpq's parameters of every connection, beside those in the URL."""
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


async def set_up(connection: Connection) -> None:
    """Raises OperatorStoreError where ingestd cannot use the database."""
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
    """Cut the connection where the work with it takes longer, so that a server that hangs does not block us.

    Not by `asyncio.timeout`: at a cancellation psycopg asks the server to stop, and waits for its answer. Where the
    server hangs, that takes ten seconds more.
    """

    def cut() -> None:
        log.error("database_connection_cut", seconds=seconds)
        with socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
            duplicate.shutdown(socket.SHUT_RDWR)

    timer = asyncio.get_running_loop().call_later(seconds, cut)
    try:
        yield
    finally:
        timer.cancel()


async def rows_of(
    connection: Connection, statement: sql.SQL | sql.Composed, parameters: Mapping[str, object]
) -> list[Any]:
    async with connection.cursor(row_factory=namedtuple_row) as cursor:
        await cursor.execute(statement, parameters)
        return await cursor.fetchall()
