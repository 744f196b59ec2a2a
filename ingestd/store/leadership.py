"""One active daemon per client id: a PostgreSQL advisory lock, held by a connection of its own.

The lock goes with the connection, so a daemon that dies, or loses the database, gives it up without a word.
It needs a direct connection or a pooler in session mode.
"""

import asyncio
from contextlib import suppress
from typing import Final

import structlog

from ingestd.errors import StoreError
from ingestd.store import queries
from ingestd.store.connection import Connection, bounded, closed_on_error, connect, rows_of
from ingestd.store.sqlstate import translated

log = structlog.get_logger(__name__)

_SQL: Final = queries.load("leadership.sql")

RETRY_SECONDS: Final = 1.0
"""How often a standby asks for the lock, so it takes over within two of these."""
CHECK_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 5.0
"""A database that takes longer may be gone, and the lock with it."""


class Leadership:
    """The right to be the active one."""

    def __init__(self, dsn: str, *, client_id: str) -> None:
        self._dsn = dsn
        self._parameters = {"client_id": client_id}
        self._connection: Connection | None = None
        self.is_standby = False
        """Another daemon has it: we are on standby."""

    async def acquire(self) -> None:
        """Wait until it is ours, through any outage of the database."""
        said = ""
        while True:
            try:
                if await self._try():
                    self.is_standby = False
                    return
            except StoreError as error:
                if str(error) != said:
                    log.warning("cannot ask who is active; asked again until it can be told", reason=str(error))
                said = str(error)
            await asyncio.sleep(RETRY_SECONDS)

    async def lost(self) -> str:
        """Wait until it is no longer certain that it is ours; returns why."""
        connection = self._connection
        assert connection is not None, "acquire comes first"  # noqa: S101
        try:
            with translated():
                while True:
                    # Waits at the socket, so the end of the connection is seen at once; the query is for a
                    # network that has gone silent.
                    await _readable(connection, within=CHECK_SECONDS)
                    async with bounded(connection, ANSWER_SECONDS):
                        await connection.execute(_SQL["still_there"])
        except StoreError as error:
            return str(error)
        finally:
            self._connection = None
            await connection.close()

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def _try(self) -> bool:
        connection = await connect(self._dsn, application_name="ingestd-active")
        with translated():
            async with closed_on_error(connection), bounded(connection, ANSWER_SECONDS):
                ((granted,),) = await rows_of(connection, _SQL["try_lock"], self._parameters)
        if granted:
            self._connection = connection
            return True
        await connection.close()
        if not self.is_standby:
            log.info("another ingestd is active under this client id; standing by", **self._parameters)
        self.is_standby = True
        return False


async def _readable(connection: Connection, *, within: float) -> None:
    """Wait until the server says something, or is gone. psycopg's own `notifies` looks ten times a second."""
    loop, socket = asyncio.get_running_loop(), connection.fileno()
    heard = asyncio.Event()
    loop.add_reader(socket, heard.set)
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await heard.wait()
    finally:
        loop.remove_reader(socket)
