"""Accepts connections with TLS, which count from the beginning: asyncio's server counts none before its handshake."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Final

from ingestd.errors import IngestdError
from ingestd.http.broken import BrokenRequests
from ingestd.http.connection import Connection
from ingestd.http.open_connections import ConnectionLimits, OpenConnections, Watched
from ingestd.server_tls import ServerTls

BACKLOG: Final = 128
SHUTDOWN_SECONDS: Final = 2.0
"""How long the end of TLS may take when a connection is closed."""
PAUSE_SECONDS: Final = 1.0
"""The pause if no connection can be accepted, as this process has too many open files."""


class Handshake:
    """A connection until its handshake is done. `connect_accepted_socket` ends one that takes too long."""

    def check(self, now: float, limits: ConnectionLimits) -> None: ...


class TlsListener:
    """Listens from `listen` to `close`; accepts while `accept` runs."""

    def __init__(
        self,
        *,
        tls: ServerTls,
        broken: BrokenRequests,
        connections: OpenConnections,
        new_connection: Callable[[Watched], Connection],
    ) -> None:
        """`new_connection` is given the handshake, whose place the connection takes."""
        self._tls = tls
        self._broken = broken
        self._connections = connections
        self._new_connection = new_connection
        self._sockets: list[socket.socket] = []

    async def listen(self, host: str, port: int) -> int:
        """Listen at all addresses of the host; returns the port. Raises OSError."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            listening = socket.create_server(address[:2], family=family, backlog=BACKLOG)
            listening.setblocking(False)
            self._sockets.append(listening)
        if not self._sockets:
            raise IngestdError(f"{host} has no address")
        bound: int = self._sockets[0].getsockname()[1]
        return bound

    async def accept(self) -> None:
        """Accept connections until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for listening in self._sockets:
                tasks.create_task(self._accept(listening, tasks), name="tls-accept")

    def close(self) -> None:
        for listening in self._sockets:
            listening.close()

    async def _accept(self, listening: socket.socket, tasks: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, peer = await loop.sock_accept(listening)
            except OSError as error:
                self._broken.note(f"no connection can be accepted: {error}", remote=None)
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            handshake, address = Handshake(), str(peer[0])
            if reason := self._connections.admit(handshake, address):
                self._broken.note(reason, remote=address)
                client.close()  # without a handshake no answer can be given
                continue
            tasks.create_task(self._shake_hands(handshake, client, address), name="tls-handshake")

    async def _shake_hands(self, handshake: Handshake, client: socket.socket, address: str) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._new_connection(handshake),
                client,
                ssl=self._tls.context,
                ssl_handshake_timeout=self._connections.limits.head_seconds,
                ssl_shutdown_timeout=SHUTDOWN_SECONDS,
            )
        except OSError as error:
            reason = error.reason if isinstance(error, ssl.SSLError) else str(error)
            self._broken.note(f"no TLS handshake: {reason or type(error).__name__}", remote=address)
        finally:
            self._connections.leave(handshake)
