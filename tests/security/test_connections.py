# ruff: noqa: SIM300 - expected == actual
"""Clients that take connections and give nothing: how many they get, how long they keep them, and what others see."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import time
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final, Self

import psutil
import pytest
import uvloop
from aiohttp import web

from ingestd.demo.process import LOOPBACK
from ingestd.demo.servers import PrivateMosquitto
from ingestd.http import connection
from ingestd.http.broken import BROKEN, BrokenRequests
from ingestd.http.open_connections import ConnectionLimits, OpenConnections
from ingestd.http.problems import problems
from tests.faults.load import assert_all_stored_once, load
from tests.support.daemon import Daemon
from tests.support.polling import until
from tests.support.readings import meter_message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

FLOOD: Final = 300
TOTAL: Final = 256
OF_ADDRESS: Final = 32
HEAD_SECONDS: Final = 10.0
FRIEND: Final = "127.0.0.200"
"""The address of a client that means well; the others are at 127.0.0.1 and up."""
SLOW_ADDRESSES: Final = [f"127.0.0.{number}" for number in range(1, 8)]


@pytest.fixture(scope="module")
def broker() -> Iterator[PrivateMosquitto]:
    with PrivateMosquitto() as server:
        yield server


@pytest.fixture(scope="module")
def daemon(broker: PrivateMosquitto, shared_database_url: str) -> Iterator[Daemon]:
    with Daemon(mqtt_url=broker.url, database_url=shared_database_url, flush_interval=0.2) as daemon:
        daemon.wait_healthy()
        yield daemon


def port_of(daemon: Daemon) -> int:
    return int(daemon.url.rpartition(":")[2])


def status_at(daemon: Daemon, source: str, method: str = "GET", path: str = "/livez", body: bytes | None = None) -> int:
    """Of a request that comes from `source`; 0 where the connection was closed before the answer was read."""
    api = http.client.HTTPConnection(LOOPBACK, port_of(daemon), timeout=10, source_address=(source, 0))
    with closing(api):
        try:
            api.request(method, path, body=body, headers={"Content-Type": "application/json"} if body else {})
            return api.getresponse().status
        except ConnectionError:
            return 0


class Holder:
    """Connections that are opened and held."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._held = ExitStack()
        self.sockets: list[socket.socket] = []

    def open(self, source: str) -> None:
        client = socket.create_connection((LOOPBACK, port_of(self._daemon)), 10, source_address=(source, 0))
        client.setblocking(False)
        self.sockets.append(self._held.enter_context(client))

    def refused(self) -> int:
        """How many were told that there is no room."""
        return sum(_peek(client).startswith(b"HTTP/1.1 503 ") for client in self.sockets)

    def ended(self) -> int:
        """How many the server has closed."""
        return sum(_is_ended(client) for client in self.sockets)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()


def _peek(client: socket.socket) -> bytes:
    try:
        return client.recv(100, socket.MSG_PEEK)
    except (BlockingIOError, ConnectionError):
        return b""


def _is_ended(client: socket.socket) -> bool:
    try:
        while client.recv(10_000):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    return True


# How many


def test_of_300_connections_of_one_address_32_are_held_and_others_do_not_notice(daemon: Daemon) -> None:
    with Holder(daemon) as flood:
        for _ in range(FLOOD):
            flood.open("127.0.0.1")
        until(lambda: flood.refused() == FLOOD - OF_ADDRESS, within=5)

        assert 200 == status_at(daemon, FRIEND)
        assert status_at(daemon, "127.0.0.1") in {503, 0}
        assert FLOOD - OF_ADDRESS == flood.ended()
    until(lambda: status_at(daemon, "127.0.0.1") == 200)  # they are gone, and so is what they took


def test_of_300_connections_of_many_addresses_256_are_held_and_readings_go_on(
    daemon: Daemon, broker: PrivateMosquitto, shared_database_url: str
) -> None:
    with load(broker, rate=200) as sent, Holder(daemon) as flood:
        for number in range(FLOOD):
            flood.open(f"127.0.0.{1 + number % 12}")
        until(lambda: flood.refused() == FLOOD - TOTAL, within=5)
        assert status_at(daemon, FRIEND) in {503, 0}
        # What sends no request is gone after a while, without anybody's help.
        until(lambda: status_at(daemon, FRIEND) == 200, within=2 * HEAD_SECONDS)
        until(lambda: flood.ended() == FLOOD, within=5)
    assert_all_stored_once(sent, shared_database_url)


# How long


def test_heads_of_a_byte_a_second_are_ended_after_10_s_and_readings_go_on(
    daemon: Daemon, broker: PrivateMosquitto, shared_database_url: str
) -> None:
    head = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaa"
    seconds: list[float] = []
    with load(broker, rate=200) as sent, Holder(daemon) as slow:
        for address in SLOW_ADDRESSES:
            for _ in range(OF_ADDRESS):
                slow.open(address)
        begun = time.monotonic()
        for byte in head:
            for client in slow.sockets:
                try:
                    client.send(bytes([byte]))
                except ConnectionError:
                    continue
            next_byte_at = time.monotonic() + 1.0
            while time.monotonic() < next_byte_at:
                seconds.append(posted(daemon))
            if slow.ended() == len(slow.sockets):
                break
        lasted = time.monotonic() - begun
    assert HEAD_SECONDS - 1 < lasted < HEAD_SECONDS + 5
    assert 20 < len(seconds)
    assert sorted(seconds)[int(len(seconds) * 0.99)] < 3.0
    assert_all_stored_once(sent, shared_database_url)


def posted(daemon: Daemon) -> float:
    """How long it took until a reading of a client that means well was committed."""
    at = datetime.now(UTC)
    begun = time.monotonic()
    assert 201 == status_at(daemon, FRIEND, "POST", "/v1/telemetry", meter_message("m-friend", at)[1])
    return time.monotonic() - begun


QUICK = ConnectionLimits(total=10, of_address=10, head_seconds=0.3, write_seconds=0.3, check_seconds=0.02)
LARGE = bytes(20_000_000)


async def large(_: web.Request) -> web.Response:
    return web.Response(body=LARGE)


async def slow_body(request: web.Request) -> web.Response:
    return web.Response(text=str(len(await request.read())))


@asynccontextmanager
async def serving() -> AsyncIterator[int]:
    """As the server is made, but for two routes and limits of a fraction of a second."""
    app = web.Application(middlewares=[problems])
    app[BROKEN] = BrokenRequests()
    app.add_routes([web.get("/large", large), web.post("/body", slow_body)])
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    assert runner.server is not None
    loop = asyncio.get_running_loop()
    connections = OpenConnections(QUICK)
    made = partial(connection.Connection, runner.server, loop=loop, broken=app[BROKEN], connections=connections)
    listening = await loop.create_server(made, LOOPBACK, 0)
    watching = asyncio.create_task(connections.watch())
    try:
        yield listening.sockets[0].getsockname()[1]
        assert not watching.done()
    finally:
        watching.cancel()
        listening.close()
        await runner.cleanup()


async def test_a_head_that_stops_on_a_kept_connection_is_ended() -> None:
    async with serving() as port, asyncio.timeout(5):
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        writer.write(b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}")
        assert (await reader.readuntil(b"\r\n\r\n2")).startswith(b"HTTP/1.1 200 ")
        writer.write(b"GET / HT")
        assert b"" == await end_of(reader)
        writer.close()


async def test_a_body_that_comes_slowly_is_not_taken_for_a_head() -> None:
    async with serving() as port, asyncio.timeout(5):
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        writer.write(b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n")
        for _ in range(10):
            writer.write(b" ")
            await asyncio.sleep(QUICK.head_seconds / 5)
        assert (await reader.readuntil(b"\r\n\r\n10")).startswith(b"HTTP/1.1 200 ")
        writer.close()


@pytest.mark.parametrize("end", [b"", b"Connection: close\r\n"], ids=["kept", "closed"])
@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_client_that_takes_nothing_of_its_answer_is_left(
    loop: Callable[[], asyncio.AbstractEventLoop], end: bytes
) -> None:
    async def take_nothing() -> None:
        async with serving() as port:
            with socket.socket() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)  # or the kernel takes megabytes
                client.connect((LOOPBACK, port))
                client.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n" + end + b"\r\n")
                await asyncio.sleep(5 * QUICK.write_seconds)
                taken = await asyncio.to_thread(taken_in_the_end, client)
        assert taken < len(LARGE)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(take_nothing())


def taken_in_the_end(client: socket.socket) -> int:
    """How much of the answer still comes until the server closes the connection."""
    client.settimeout(5)
    taken = 0
    try:
        while chunk := client.recv(2**20):
            taken += len(chunk)
    except ConnectionError:
        pass
    return taken


async def test_a_client_that_takes_its_answer_slowly_gets_all_of_it() -> None:
    async with serving() as port:
        reader, writer = await asyncio.open_connection(LOOPBACK, port, limit=2**16)
        writer.write(b"GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        taken = 0
        async with asyncio.timeout(20):
            while chunk := await reader.read(2**20):
                taken += len(chunk)
                await asyncio.sleep(0.002)
        writer.close()
    assert len(LARGE) < taken


async def test_a_connection_that_asks_for_nothing_more_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 60.0 == connection.KEEP_ALIVE_SECONDS
    monkeypatch.setattr(connection, "KEEP_ALIVE_SECONDS", 0.3)
    async with serving() as port, asyncio.timeout(5):
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        writer.write(b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}")
        assert (await reader.readuntil(b"\r\n\r\n2")).startswith(b"HTTP/1.1 200 ")
        assert b"" == await end_of(reader)
        writer.close()


async def end_of(reader: asyncio.StreamReader) -> bytes:
    """What still comes until the server closes the connection."""
    try:
        return await reader.read()
    except ConnectionError:
        return b""


def test_what_was_ended_is_in_the_log(broker: PrivateMosquitto, database_url: str) -> None:
    with Daemon(mqtt_url=broker.url, database_url=database_url, mqtt_client_id="logged") as daemon:
        daemon.wait_healthy()
        with Holder(daemon) as flood:
            for _ in range(OF_ADDRESS + 1):
                flood.open("127.0.0.1")
            until(lambda: flood.refused() == 1)
        daemon.terminate()
        lines = [json.loads(line) for line in daemon.log.read_text().splitlines()]

    (line,) = [line for line in lines if line["event"] == "requests_broken"]
    assert "there are 32 connections of this address already" == line["last_reason"]
    assert "127.0.0.1" == line["last_remote"]


def sent(daemon: Daemon, request: bytes) -> bytes:
    """The first line of the answer to these bytes."""
    with socket.create_connection((LOOPBACK, port_of(daemon)), 10, source_address=("127.0.0.90", 0)) as client:
        client.sendall(request)
        return client.recv(1000).partition(b"\r\n")[0]


@pytest.mark.parametrize(
    ("header", "status"),
    [(b"Transfer-Encoding: chunked", b"411 "), (b"Connection: Upgrade\r\nUpgrade: websocket", b"400 ")],
    ids=["chunked", "upgrade"],
)
def test_what_follows_a_head_that_is_refused_is_not_parsed(daemon: Daemon, header: bytes, status: bytes) -> None:
    """Before, one-byte chunks cost 0.07 s of CPU for 360 KB, and what followed an upgrade stayed in memory: 1.2 GB."""
    process = psutil.Process(daemon.pid)
    before = process.memory_info().rss
    for _ in range(150):
        head = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + header + b"\r\n\r\n"
        with suppress(ConnectionError):
            assert b" " + status in sent(daemon, head + b"1\r\nx\r\n" * 100_000) + b" "

    assert process.memory_info().rss - before < 32 * 2**20
