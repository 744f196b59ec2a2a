"""A broker that does what the test says, and nothing by itself."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import mqtt5

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    Reply = Callable[[mqtt5.Packet], bytes]


@asynccontextmanager
async def bare_broker(reply: Reply) -> AsyncIterator[str]:
    """Its URL; each packet is answered with what `reply` makes of it, nothing and no end where that is empty."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received = b""
        try:
            while data := await reader.read(65_536):
                received += data
                while True:
                    try:
                        packet, size = mqtt5.read(memoryview(received))
                    except IndexError:
                        break
                    received = received[size:]
                    writer.write(reply(packet))
        except ConnectionError:
            pass  # the client has left in its own way
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}"
