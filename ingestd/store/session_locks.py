"""One daemon for each session of the broker: PostgreSQL advisory locks, all on one connection of the daemon.

PostgreSQL releases the locks with the connection. So a daemon that ends, or loses the database, loses them. A daemon
that hangs, or whose machine is gone, asks nothing any more: then the server ends the connection after IDLE_SECONDS.
The connection must be direct, or through a pooler in session mode.
"""

import asyncio
from collections.abc import Collection
from contextlib import suppress
from typing import Any, Final

from ingestd.errors import StoreError
from ingestd.model.claims import Claims
from ingestd.store import queries
from ingestd.store.connection import Connection, bounded, closed_on_error, connect, rows_of
from ingestd.store.sqlstate import translated

_SQL: Final = queries.load("session_locks.sql")

IDLE_SECONDS: Final = 3.0
ANSWER_SECONDS: Final = 5.0
"""If the database takes longer to answer, the connection may be lost, and the locks with it."""


class SessionLocks:
    """The locks of one daemon. After a StoreError it holds none; the next `look` connects again."""

    def __init__(
        self,
        dsn: str,
        *,
        daemon: str,
        shared_group: str | None = None,
        is_member: bool = True,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        """`daemon` is the client id that all daemons of the group have. Who is no member gets no share of sessions."""
        self._dsn = dsn
        self._daemon = daemon
        self._shared_group = shared_group
        self._is_member = is_member
        self._idle_seconds = idle_seconds
        self._connection: Connection | None = None

    async def look(self, sessions: Collection[str]) -> Claims:
        """Who holds which of these sessions, and of others that the broker keeps for this group. Raises StoreError."""
        if self._connection is None:
            await self._connect()
        members = await self._rows("members")
        me = next((row.pid for row in members if row.is_me), 0)
        found = await self._rows("holders", client_ids=list(sessions))
        return Claims(
            me=me,
            members=frozenset(row.pid for row in members),
            holders={row.client_id: row.pid for row in found},
            existing={row.client_id: row.shared_group for row in found if row.exists},
        )

    async def take(self, session: str, *, exists: bool) -> bool:
        """Whether this daemon holds the session now. `exists`: the database knows of it already. Raises StoreError."""
        ((granted,),) = await self._rows("take", client_id=session)
        if granted and not exists:
            await self._execute("begin_session", client_id=session, shared_group=self._shared_group)
        return bool(granted)

    async def give(self, session: str) -> None:
        """Let others hold it. Raises StoreError."""
        await self._rows("give", client_id=session)

    async def ended(self, session: str) -> None:
        """The broker keeps this session no more. Raises StoreError."""
        await self._execute("end_session", client_id=session)

    async def wait(self, seconds: float) -> None:
        """Wait, but not longer than the connection lasts: its end shows at the socket at once."""
        if self._connection is None or self._connection.closed:
            await asyncio.sleep(seconds)
        else:
            await _readable(self._connection, within=seconds)

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def _connect(self) -> None:
        connection = await connect(self._dsn, application_name="ingestd-active")
        with translated():
            async with closed_on_error(connection), bounded(connection, ANSWER_SECONDS):
                await connection.execute(_SQL["limit_idle"], {"milliseconds": round(self._idle_seconds * 1000)})
                if self._is_member:
                    await connection.execute(_SQL["join"], {"daemon": self._daemon})
        self._connection = connection

    async def _rows(self, name: str, **parameters: object) -> list[Any]:
        connection = self._connection
        assert connection is not None, "look comes first"  # noqa: S101
        try:
            with translated():
                async with closed_on_error(connection), bounded(connection, ANSWER_SECONDS):
                    return await rows_of(connection, _SQL[name], {"daemon": self._daemon, **parameters})
        except StoreError:
            self._connection = None
            raise

    async def _execute(self, name: str, **parameters: object) -> None:
        connection = self._connection
        assert connection is not None, "look comes first"  # noqa: S101
        try:
            with translated():
                async with closed_on_error(connection), bounded(connection, ANSWER_SECONDS):
                    await connection.execute(_SQL[name], {"daemon": self._daemon, **parameters})
        except StoreError:
            self._connection = None
            raise


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
