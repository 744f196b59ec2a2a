# ruff: noqa: SIM300 - expected == actual
"""Floods and bombs at the HTTP API: readings go on being committed meanwhile, by MQTT and by HTTP."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import pytest

from bench.load import Load
from bench.report import percentile
from ingestd.demo.process import LOOPBACK
from ingestd.demo.servers import PrivateMosquitto
from tests.support.daemon import Daemon
from tests.support.lag import publish_to_commit, undisturbed
from tests.support.tokens import Tokens, ask, reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FLOODERS: Final = 6
SECONDS: Final = 4.0
MOST_SECONDS: Final = 3.0
"""The contract: 99 of 100 readings of others are committed within this time."""
FRIEND: Final = "127.0.0.200"
MIB: Final = 2**20


@pytest.fixture(scope="module")
def broker() -> Iterator[PrivateMosquitto]:
    with PrivateMosquitto() as server:
        yield server


@pytest.fixture(scope="module")
def daemon(tokens: Tokens, broker: PrivateMosquitto, shared_database_url: str) -> Iterator[Daemon]:
    with Daemon(mqtt_url=broker.url, database_url=shared_database_url, tokens_file=str(tokens.path)) as daemon:
        daemon.wait_healthy()
        yield daemon


def head(method: str, path: str, token: str, *lines: str) -> bytes:
    always = (f"{method} {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {token}")
    return "\r\n".join((*always, *lines, "", "")).encode()


def posted(token: str, body: bytes) -> bytes:
    sent_as = ("Content-Type: application/json", f"Content-Length: {len(body)}")
    return head("POST", "/v1/telemetry", token, *sent_as) + body


FLOODS: Final[dict[str, Callable[[Tokens], bytes]]] = {
    "connections that ask for nothing": lambda _: b"",
    "bytes that are no HTTP": lambda _: b"\0" * 10_000,
    "guesses of tokens": lambda _: head("GET", "/v1/vehicles", "ing_" + "0" * 12 + "_" + "0" * 64),
    "questions about the whole fleet": lambda t: head(
        "GET", "/v1/analytics/fleet", t.of["read"], "Cache-Control: no-cache"
    ),
    "headers without an end": lambda t: head("GET", "/", t.of["read"])[:-2] + b"X-Long: " + b"x" * MIB,
    "bodies of nested arrays": lambda t: posted(t.of["ingest"], b"[" * (MIB // 2)),
    "bodies of ten thousand elements that are nothing": lambda t: posted(t.hostile, b"[" + b"{}," * 9_999 + b"{}]"),
    "bodies of a number with a million digits": lambda t: posted(t.hostile, b'{"voltage":' + b"9" * MIB + b"}"),
    "bodies in chunks of a byte": lambda _: (
        b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * (MIB // 6)
    ),
    "upgrades that are not offered": lambda _: (
        b"GET /login HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + b"x" * MIB
    ),
    "bodies that stop": lambda t: posted(t.hostile, b"[" + b" " * MIB)[:-1],
}


@contextmanager
def flooding(daemon: Daemon, request: bytes) -> Iterator[list[int]]:
    """Several clients send the same again and again; yields a list with an item for each time."""
    port = int(daemon.url.rpartition(":")[2])
    stop, sent = threading.Event(), list[int]()

    def flood(source: str) -> None:
        while not stop.is_set():
            with (
                suppress(OSError),
                socket.create_connection((LOOPBACK, port), 5, source_address=(source, 0)) as client,
            ):
                client.sendall(request)
                client.settimeout(0.5)
                client.recv(100)
            sent.append(1)

    threads = [threading.Thread(target=flood, args=(f"127.0.0.{10 + number}",)) for number in range(FLOODERS)]
    for thread in threads:
        thread.start()
    try:
        yield sent
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=10)


def post_until(daemon: Daemon, token: str, deadline: float) -> list[float]:
    """How long each POST of a client that means well took, which has an account of its own; until a time."""
    seconds: list[float] = []
    while time.monotonic() < deadline:
        begun = time.monotonic()
        at = {"timestamp": datetime.now(UTC).isoformat()}
        answer = ask(daemon, "POST", "/v1/telemetry", token=token, body=reading("friend") | at, source=FRIEND)
        assert 201 == answer.status, answer.body
        seconds.append(time.monotonic() - begun)
    return seconds


@pytest.mark.parametrize("flood", FLOODS)
def test_readings_are_committed_beside_a_flood(
    flood: str, daemon: Daemon, tokens: Tokens, broker: PrivateMosquitto, shared_database_url: str
) -> None:
    worst = undisturbed(
        lambda: p99_beside(flood, daemon, tokens, broker, shared_database_url), is_good=lambda p99: p99 < MOST_SECONDS
    )

    assert worst < MOST_SECONDS


def p99_beside(flood: str, daemon: Daemon, tokens: Tokens, broker: PrivateMosquitto, database_url: str) -> float:
    """Seconds until a reading of others was committed: by MQTT or by HTTP, whichever took longer."""
    with (
        Load(broker.url, rate=200, devices=100) as load,
        ThreadPoolExecutor(1) as pool,
        flooding(daemon, FLOODS[flood](tokens)) as flooded,
    ):
        posting = pool.submit(post_until, daemon, tokens.gateway, time.monotonic() + SECONDS)
        published = publish_to_commit(load, database_url, is_over=posting.done, within=SECONDS + 30)

    assert len(flooded) >= FLOODERS
    assert len(published) > 200 * SECONDS / 2
    return max(percentile(published, 0.99), percentile(posting.result(), 0.99))
