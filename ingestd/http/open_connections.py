"""How many connections there may be, and how long one may keep the server waiting. An IPv6 network is one address."""

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Protocol

from ingestd.http.addresses import network_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """What clients may take. A connection that waits for its next request is ended by aiohttp (KEEP_ALIVE_SECONDS)."""

    total: int = 256
    of_address: int = 32
    head_seconds: float = 10.0
    """Within this time the first line and the headers of a request must be there."""
    write_seconds: float = 60.0
    """A client that has taken nothing of its answer for so long is left."""
    check_seconds: float = 1.0
    """The time between two looks at all connections."""


class Watched(Protocol):
    """A connection, as it is watched here."""

    def check(self, now: float, limits: ConnectionLimits) -> None:
        """End the connection if it has kept the server waiting for too long."""


class OpenConnections:
    """All connections that are open."""

    def __init__(self, limits: ConnectionLimits | None = None) -> None:
        self.limits = limits or ConnectionLimits()
        self._open: dict[Watched, str] = {}
        self._of_address: Counter[str] = Counter()

    def admit(self, connection: Watched, address: str) -> str | None:
        """Count it; or say why it may not be."""
        address = network_of(address)
        if len(self._open) >= self.limits.total:
            return f"there are {self.limits.total} connections already"
        if self._of_address[address] >= self.limits.of_address:
            return f"there are {self.limits.of_address} connections of this address already"
        self._open[connection] = address
        self._of_address[address] += 1
        return None

    def leave(self, connection: Watched) -> None:
        """It has ended, or another one takes its place. Nothing happens if it has left already."""
        address = self._open.pop(connection, None)
        if address is None:
            return
        self._of_address[address] -= 1
        if not self._of_address[address]:
            del self._of_address[address]

    async def watch(self) -> None:
        """Look at all of them again and again, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.limits.check_seconds)
            now = loop.time()
            for connection in list(self._open):
                connection.check(now, self.limits)
