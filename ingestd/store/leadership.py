"""One active daemon per client id: a PostgreSQL advisory lock, held by a connection of its own.

PostgreSQL releases the lock with the connection. So a daemon that dies, or loses the database, loses the lock.
The connection must be direct, or through a pooler in session mode.
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
"""A standby tries to get the lock this often. It takes over within twice this time."""
CHECK_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 5.0
"""If the database takes longer to answer, the connection may be lost, and the lock with it."""


class Leadership:
    """The right to be the active daemon of a client id."""

    def __init__(self, dsn: str, *, client_id: str) -> None:
        self._dsn = dsn
        self._client_id = client_id
        self._connection: Connection | None = None
        self.is_standby = False
        """Whether another daemon is active, and this one is on standby."""

    async def acquire(self) -> None:
        """Wait for the lock, through any outage of the database."""
        logged = ""
        while True:
            try:
                if await self._try():
                    self.is_standby = False
                    return
            except StoreError as error:
                if str(error) != logged:
                    log.warning("leadership_unknown", reason=str(error))
                logged = str(error)
            await asyncio.sleep(RETRY_SECONDS)

    async def lost(self) -> str:
        """Wait until it is no longer certain that we hold the lock. Returns the reason."""
        connection = self._connection
        assert connection is not None, "acquire comes first"  # noqa: S101
        try:
            with translated():
                while True:
                    # Waiting at the socket shows the end of the connection at once. The query shows that the network
                    # still works.
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
                ((granted,),) = await rows_of(connection, _SQL["try_lock"], {"client_id": self._client_id})
        if granted:
            self._connection = connection
            return True
        await connection.close()
        if not self.is_standby:
            reason = f"another ingestd is active with the client id {self._client_id}"
            log.info("standby", client_id=self._client_id, reason=reason)
        self.is_standby = True
        return False


async def _readable(connection: Connection, *, within: float) -> None:
    """Wait until the server sends something, or closes. psycopg's own `notifies` looks ten times a second."""
    loop, socket = asyncio.get_running_loop(), connection.fileno()
    heard = asyncio.Event()
    loop.add_reader(socket, heard.set)
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await heard.wait()
    finally:
        loop.remove_reader(socket)
