"""A network that fails on demand: a TCP proxy to put between the daemon and a server."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import urlsplit

from ingestd.demo.process import LOOPBACK, LoopbackPort

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType

T = TypeVar("T")

CHUNK = 64 * 1024
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, for no time at all


class Proxy:
    """Forwards a port of its own to the server of `url`; its methods may be called from any thread.

    It runs in a thread with an event loop of its own, so a test that blocks does not hold up the network.
    """

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._port = LoopbackPort()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        self._listener: asyncio.Server | None = None
        self._links: dict[asyncio.Task[None], set[asyncio.StreamWriter]] = {}
        self._flowing = asyncio.Event()
        self._flowing.set()

    @property
    def url(self) -> str:
        """The server's URL with the proxy's address in place of the server's."""
        user, at, _ = self._target.netloc.rpartition("@")
        return self._target._replace(netloc=f"{user}{at}{LOOPBACK}:{self._port.number}").geturl()

    def cut(self, *, reset: bool = True) -> None:
        """Closes all connections, with a RST or else with a FIN; new ones are welcome."""
        self._run(self._cut(reset=reset))

    def refuse(self) -> None:
        """Refuses new connections; those there are stay."""
        self._run(self._refuse())

    def accept(self) -> None:
        """Takes new connections again."""
        self._run(self._accept())

    def black_hole(self) -> None:
        """Keeps all connections, and takes new ones, but no byte goes through until `resume`."""
        self._run(self._set_flowing(yes=False))

    def resume(self) -> None:
        """Lets the bytes through that were held up, none is lost, and those that follow."""
        self._run(self._set_flowing(yes=True))

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
            self._listener = await asyncio.start_server(self._link, LOOPBACK, self._port.number)

    async def _refuse(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def _cut(self, *, reset: bool) -> None:
        links = dict(self._links)
        for task, writers in links.items():
            for writer in writers:
                if reset and not writer.is_closing():
                    sock: socket.socket = writer.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                writer.transport.abort()
            task.cancel()
        await asyncio.gather(*links, return_exceptions=True)

    async def _set_flowing(self, *, yes: bool) -> None:
        if yes:
            self._flowing.set()
        else:
            self._flowing.clear()

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from the client's to the server's end of it."""
        task = asyncio.current_task()
        assert task is not None
        writers = self._links[task] = {writer}
        task.add_done_callback(self._links.pop)
        with suppress(asyncio.CancelledError):  # by `cut`
            try:
                far_reader, far_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
                writers.add(far_writer)
                async with asyncio.TaskGroup() as pumps:
                    pumps.create_task(self._pump(reader, far_writer))
                    pumps.create_task(self._pump(far_reader, writer))
            except* OSError:
                pass  # refused or broken at one end: the other end sees its connection closed
            finally:
                for end in writers:
                    end.close()
                    with suppress(OSError):
                        await end.wait_closed()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """All bytes of one direction go through here: the place for further faults."""
        while data := await reader.read(CHUNK):
            await self._flowing.wait()
            writer.write(data)
            await writer.drain()
        await self._flowing.wait()
        writer.write_eof()
