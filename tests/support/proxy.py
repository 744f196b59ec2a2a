"""A network that fails on demand: a TCP proxy to put between the daemon and a server."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Self, TypeVar
from urllib.parse import urlsplit

from ingestd.demo.process import LOOPBACK, LoopbackPort

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType

log = logging.getLogger(__name__)

T = TypeVar("T")
Direction = Literal["to server", "to client"]

CHUNK = 64 * 1024
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, for no time at all
THROTTLE_STEP_SECONDS = 0.05
COMMIT = b"COMMIT\0"
"""As it stands in PostgreSQL's simple query and in its Parse message alike."""
PUBREC = b"\x50\x02"
"""MQTT's, of success."""


@dataclass(slots=True)
class _Reset:
    """An order: a connection is reset after this many further bytes in one direction."""

    after: int
    triggered: threading.Event = field(default_factory=threading.Event)


@dataclass(slots=True, eq=False)
class _Link:
    """One connection: the writing ends of both its sides."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    abandoned: bool = False
    """The client's end is gone, and the server is not told."""
    swallowing: threading.Event | None = None
    """Set once what was waited for is out: nothing reaches the client any more, and the answer ends the link."""

    @property
    def writers(self) -> list[asyncio.StreamWriter]:
        return [writer for writer in (self.client, self.server) if writer is not None]

    def reset(self) -> None:
        """Both ends see a RST."""
        for writer in self.writers:
            _reset(writer)

    def abandon(self) -> None:
        """The client sees a RST, the server nothing."""
        self.abandoned = True
        _reset(self.client)


def _reset(writer: asyncio.StreamWriter) -> None:
    if not writer.is_closing():
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    writer.transport.abort()


class Proxy:
    """Forwards a port of its own to the server of `url`; its methods may be called from any thread.

    It runs in a thread with an event loop of its own, so a test that blocks does not hold up the network.
    What is ordered once, such as a reset, returns an event that is set when it has happened.
    """

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._port = LoopbackPort()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        self._listener: asyncio.Server | None = None
        self._links: dict[asyncio.Task[None], _Link] = {}
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._delay = 0.0
        self._rate: float | None = None
        self._resets: dict[Direction, _Reset] = {}
        self._cut_at: tuple[bytes, threading.Event] | None = None

    @property
    def url(self) -> str:
        """The server's URL with the proxy's address in place of the server's."""
        user, at, _ = self._target.netloc.rpartition("@")
        return self._target._replace(netloc=f"{user}{at}{LOOPBACK}:{self._port.number}").geturl()

    def cut(self, *, reset: bool = True) -> None:
        """Closes all connections, with a RST or else with a FIN; new ones are welcome."""
        self._run(self._cut(reset=reset))

    def half_open(self) -> None:
        """Resets the client's end of all connections; to the server it is as if the client had lost power."""
        self._run(self._abandon())

    def refuse(self) -> None:
        """Refuses new connections; those there are stay."""
        self._run(self._refuse())

    def accept(self) -> None:
        """Takes new connections again."""
        self._run(self._accept())

    def black_hole(self) -> None:
        """Keeps all connections, and takes new ones, but passes no byte on until `resume`."""
        self._run(self._set_flowing(yes=False))

    def resume(self) -> None:
        """Lets the bytes through that were held up, none is lost, and those that follow."""
        self._run(self._set_flowing(yes=True))

    def delay(self, seconds: float) -> None:
        """Holds every read back for so long, in both directions; 0.0 is none."""
        self._delay = seconds

    def throttle(self, bytes_per_second: float | None) -> None:
        """Lets no more through in either direction of a connection; None is no limit."""
        self._rate = bytes_per_second

    def reset_after(self, size: int, direction: Direction) -> threading.Event:
        """Resets the connection that carries the byte number `size` from now on; that byte still arrives."""
        order = self._resets[direction] = _Reset(size)
        return order.triggered

    def cut_next_commit(self) -> threading.Event:
        """Lets the next COMMIT through to PostgreSQL, and its answer nowhere: the client sees a reset instead."""
        return self.cut_next(COMMIT)

    def cut_next(self, request: bytes) -> threading.Event:
        """Lets the next request that has these bytes through to the server, and its answer nowhere."""
        cut = threading.Event()
        self._cut_at = (request, cut)
        return cut

    def heal(self) -> None:
        """Takes back whatever is in force or ordered."""
        self._delay, self._rate, self._cut_at = 0.0, None, None
        self._resets.clear()
        self.resume()
        self.accept()

    def __enter__(self) -> Self:
        self._thread.start()
        self.accept()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refuse()
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._port.close()

    def _run(self, work: Coroutine[None, None, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10.0)

    async def _accept(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.start_server(self._serve, LOOPBACK, self._port.number)

    async def _refuse(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def _cut(self, *, reset: bool) -> None:
        links = dict(self._links)
        for task, link in links.items():
            if reset:
                link.reset()
            else:
                for writer in link.writers:
                    writer.transport.abort()
            task.cancel()
        await asyncio.gather(*links, return_exceptions=True)

    async def _abandon(self) -> None:
        for link in self._links.values():
            link.abandon()

    async def _set_flowing(self, *, yes: bool) -> None:
        if yes:
            self._flowing.set()
        else:
            self._flowing.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from the client's to the server's end of it."""
        task = asyncio.current_task()
        assert task is not None
        link = self._links[task] = _Link(writer)
        task.add_done_callback(self._links.pop)
        with suppress(asyncio.CancelledError):  # by `cut`
            try:
                far_reader, far_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
                link.server = far_writer
                async with asyncio.TaskGroup() as pumps:
                    pumps.create_task(self._pump(link, "to server", reader, far_writer))
                    pumps.create_task(self._pump(link, "to client", far_reader, writer))
            except* OSError as errors:
                # Refused or broken at one end: the other end sees its connection closed.
                log.debug("a connection ended: %s", errors.exceptions)
            finally:
                for end in link.writers:
                    end.close()
                    with suppress(OSError):
                        await end.wait_closed()

    async def _pump(
        self, link: _Link, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """All bytes of one direction go through here. Raises ConnectionResetError where the link was reset."""
        while data := await reader.read(CHUNK):
            if link.abandoned:
                continue
            if self._delay:
                await asyncio.sleep(self._delay)
            await self._flowing.wait()
            if direction == "to server":
                self._look_for_request(link, data)
            elif link.swallowing is not None:
                link.reset()
                link.swallowing.set()
                raise ConnectionResetError
            order = self._resets.get(direction)
            if order is not None and order.after <= len(data):
                del self._resets[direction]
                await self._forward(writer, data[: order.after])
                link.reset()
                order.triggered.set()
                raise ConnectionResetError
            if order is not None:
                order.after -= len(data)
            await self._forward(writer, data)
        if link.abandoned and direction == "to server":
            await asyncio.get_running_loop().create_future()  # silence, until the server gives up
        await self._flowing.wait()
        writer.write_eof()

    def _look_for_request(self, link: _Link, data: bytes) -> None:
        # Within one read, as a client sends it in one piece; one that is torn apart is passed over for the next.
        if self._cut_at is not None and self._cut_at[0] in data:
            link.swallowing, self._cut_at = self._cut_at[1], None

    async def _forward(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        while data:
            size = len(data)
            if self._rate is not None:
                size = max(1, int(self._rate * THROTTLE_STEP_SECONDS))
                await asyncio.sleep(THROTTLE_STEP_SECONDS)
            writer.write(data[:size])
            await writer.drain()
            data = data[size:]
