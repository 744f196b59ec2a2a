# ruff: noqa: S311 - the randomness of tests

"""Whatever becomes of requests, and whoever hangs up when: their bodies give back what they held."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from contextlib import asynccontextmanager, suppress
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import pytest
from aiohttp import web

from ingestd.demo.process import LOOPBACK
from ingestd.http.bodies import BODIES, Bodies, BodyLimit
from ingestd.http.broken import BROKEN, BrokenRequests
from ingestd.http.cancellation import carry_changes_through
from ingestd.http.connection import Connection
from ingestd.http.open_connections import ConnectionLimits, OpenConnections
from ingestd.http.problems import Problem, problems
from tests.support.polling import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CLIENTS: Final = 300
BUDGET: Final = 200_000
LIMIT: Final = BodyLimit(max_bytes=100_000, seconds=0.2)


async def post(request: web.Request) -> web.Response:
    """Takes its time, and refuses or fails by the size of the body."""
    async with request.app[BODIES].read(request, LIMIT) as body:
        await asyncio.sleep(len(body) % 5 / 100)
        if len(body) % 5 == 1:
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "no reading")
        if len(body) % 5 == 2:
            raise ConnectionError("gone while it was answered")
        return web.Response(text=str(len(body)))


@asynccontextmanager
async def serving(bodies: Bodies) -> AsyncIterator[int]:
    """As the server is made, with one route; stopped at the end, whatever is under way."""
    app = web.Application(middlewares=[carry_changes_through, problems])
    app[BODIES], app[BROKEN] = bodies, BrokenRequests()
    app.add_routes([web.post("/", post)])
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    assert runner.server is not None
    loop = asyncio.get_running_loop()
    connections = OpenConnections(ConnectionLimits(total=CLIENTS, of_address=CLIENTS))
    connection = partial(Connection, runner.server, loop=loop, broken=app[BROKEN], connections=connections)
    listening = await loop.create_server(connection, LOOPBACK, 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        await runner.cleanup()


def pieces(chance: random.Random) -> list[bytes]:
    """A request, good or bad, in the pieces in which it is sent."""
    size = chance.choice([0, 1, 1000, 50_000, 99_999, 150_000]) + chance.randrange(5)
    body = [b" " * min(20_000, size - at) for at in range(0, size, 20_000)]
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    if chance.random() < 1 / 10:
        chunks = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in body]
        end = chance.choice([b"0\r\n\r\n", b"zz\r\n", b"0\r\n\r\nno HTTP\r\n\r\n"])
        return [head + b"Transfer-Encoding: chunked\r\n\r\n", *chunks, end]
    more = chance.choice([b"", b"Content-Encoding: gzip\r\n", b"Expect: 100-continue\r\n"])
    return [head + b"Content-Length: %d\r\n%s\r\n" % (size, more), *body]


async def client(port: int, chance: random.Random) -> None:
    """Sends all of a request or a part, and waits for an answer or hangs up in one of the ways there are."""
    sent = pieces(chance)
    end = chance.choice(["answer", "reset", "close", "stall", "half"])
    if end != "answer":
        sent = sent[: chance.randrange(1, len(sent) + 1)]
    with suppress(OSError, TimeoutError):
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        try:
            for piece in sent:
                writer.write(piece)
                await asyncio.sleep(0)
            if end == "half":
                writer.write_eof()
            if end in {"answer", "stall", "half"}:
                async with asyncio.timeout(2 * LIMIT.seconds):
                    await reader.read(1000)
            if end == "reset":
                sock: socket.socket = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        finally:
            writer.close()


@pytest.mark.parametrize("seed", range(3))
async def test_all_is_given_back_whatever_becomes_of_a_request(seed: int) -> None:
    chance = random.Random(seed)
    bodies = Bodies(max_held_bytes=BUDGET)
    most = 0
    async with serving(bodies) as port:
        async with asyncio.TaskGroup() as clients:
            for _ in range(CLIENTS):
                clients.create_task(client(port, chance))
                await asyncio.sleep(0.002)
                most = max(most, bodies.held_bytes)
        await eventually(lambda: bodies.held_bytes == 0)

        # And once more, with the server stopped in the middle of it.
        late = asyncio.gather(*(client(port, chance) for _ in range(30)))
        await eventually(lambda: bodies.held_bytes > 0)
    await late

    await eventually(lambda: bodies.held_bytes == 0)
    assert BUDGET / 2 < most <= BUDGET


async def sending(port: int, source: str, size: int) -> asyncio.StreamWriter:
    """A client that has sent all but the last byte of a body."""
    _, writer = await asyncio.open_connection(LOOPBACK, port, local_addr=(source, 0))
    head = f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n"
    writer.write(head.encode() + b" " * (size - 1))
    return writer


async def test_one_client_cannot_fill_the_room_of_others() -> None:
    bodies = Bodies(max_held_bytes=300_000, max_client_bytes=100_000)
    async with serving(bodies) as port:
        greedy = [await sending(port, "127.0.0.2", 60_000) for _ in range(5)]
        await eventually(lambda: bodies.held_bytes == 59_999)
        friend = await sending(port, "127.0.0.3", 90_000)
        await eventually(lambda: bodies.held_bytes == 59_999 + 89_999)
        for writer in (*greedy, friend):
            writer.close()

    await eventually(lambda: bodies.held_bytes == 0)
