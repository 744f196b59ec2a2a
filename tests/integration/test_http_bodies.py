# ruff: noqa: SIM300 - expected == actual
"""What a running daemon does with bodies that are compressed, too large, too many or broken, and with no HTTP."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psutil
import pytest

from ingestd.demo.servers import PrivateMosquitto
from tests.support.api import MAPPINGS, Names, answer_on, assert_problem, connected
from tests.support.daemon import Daemon
from tests.support.polling import until
from tests.support.readings import meter_message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.daemon import Response

TELEMETRY = "/v1/telemetry"
KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


@pytest.fixture(scope="module")
def broker() -> Iterator[PrivateMosquitto]:
    with PrivateMosquitto() as server:
        yield server


@pytest.fixture(scope="module")
def daemon(broker: PrivateMosquitto, shared_database_url: str) -> Iterator[Daemon]:
    with Daemon(mqtt_url=broker.url, database_url=shared_database_url, flush_interval=0.2) as daemon:
        daemon.wait_healthy()
        yield daemon


@pytest.fixture
def names() -> Names:
    return Names()


def reading(meter_id: str, number: int = 0) -> bytes:
    return meter_message(meter_id, datetime.now(UTC) - timedelta(minutes=1, milliseconds=number))[1]


def request_head(path: str, *headers: str, method: str = "POST") -> bytes:
    return "\r\n".join(
        [f"{method} {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers, "", ""]
    ).encode()


# Content-Encoding


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "GZip", "gzip, identity", "x-unknown"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", TELEMETRY),
        ("POST", MAPPINGS),
        ("PUT", f"{MAPPINGS}/EV-1"),
        ("PUT", "/v1/devices/vehicle/EV-1/settings"),
    ],
)
def test_a_compressed_body_is_415(daemon: Daemon, method: str, path: str, encoding: str) -> None:
    body = gzip.compress(b"{}")

    answer = daemon.request(method, path, body=body, headers={"Content-Encoding": encoding})

    assert "Content-Encoding" in assert_problem(answer, 415)
    assert "identity" == answer.headers["accept-encoding"]


def test_a_body_that_says_it_is_not_compressed_is_welcome(daemon: Daemon, names: Names) -> None:
    answer = daemon.request("POST", TELEMETRY, body=reading(names.meter), headers={"Content-Encoding": "identity"})

    assert 201 == answer.status, answer.body


def bomb() -> bytes:
    """A megabyte of gzip that is a gibibyte of zeros: a thousand times the same block, each complete in itself."""
    compress = zlib.compressobj(9, wbits=-15)
    block = compress.compress(bytes(MIB)) + compress.flush(zlib.Z_FULL_FLUSH)
    return gzip.compress(b"")[:10] + block * (GIB // MIB) + zlib.compressobj(wbits=-15).flush()


def test_compressed_gibibytes_cost_no_time_and_readings_go_on(daemon: Daemon, names: Names) -> None:
    body = bomb()
    assert 0.9 * MIB < len(body) < 1.2 * MIB

    def send() -> Response:
        return daemon.request("POST", TELEMETRY, body=body, headers={"Content-Encoding": "gzip"})

    before = psutil.Process(daemon.pid).cpu_times()
    with ThreadPoolExecutor() as pool:
        bombs = [pool.submit(send) for _ in range(4)]
        readings = [daemon.request("POST", TELEMETRY, body=reading(names.meter, number)).status for number in range(10)]
        answers = [sent.result() for sent in bombs]
    after = psutil.Process(daemon.pid).cpu_times()

    for answer in answers:
        assert_problem(answer, 415)
    assert [201] * 10 == readings
    # Inflating one of them takes about a second.
    assert after.user + after.system - before.user - before.system < 1.0


# Limits


@pytest.mark.parametrize(("method", "path"), [("POST", MAPPINGS), ("PUT", f"{MAPPINGS}/EV-1")])
def test_an_ordinary_body_of_64_kib_is_read_and_a_byte_more_is_413(daemon: Daemon, method: str, path: str) -> None:
    largest = b" " * (64 * KIB - 2) + b"{}"

    assert_problem(daemon.request(method, path, body=largest + b" "), 413)
    answer = daemon.request(method, path, body=largest)

    assert 400 == answer.status
    assert "parameter" in answer.json()


@pytest.mark.parametrize("path", [MAPPINGS, TELEMETRY, "/login"])
def test_a_body_in_chunks_is_411_before_it_is_parsed(daemon: Daemon, path: str) -> None:
    with connected(daemon) as client:
        client.sendall(request_head(path, "Transfer-Encoding: chunked", "Expect: 100-continue") + b"2\r\n")  # no end
        answer = answer_on(client)

    assert_problem(answer, 411)


def test_a_body_whose_content_length_is_too_large_is_413_before_it_comes(daemon: Daemon) -> None:
    with connected(daemon) as client:
        client.sendall(request_head(TELEMETRY, f"Content-Length: {5 * MIB}"))
        answer = answer_on(client)

    assert_problem(answer, 413)


async def unfinished_body(daemon: Daemon, *, source: str, size: int) -> bool:
    """All of a body but its last byte; whether the daemon has answered 503 instead of waiting for that."""
    url = urlsplit(daemon.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port, local_addr=(source, 0))
    answering = asyncio.create_task(reader.readline())
    try:
        writer.write(request_head(TELEMETRY, f"Content-Length: {size}"))
        for _ in range(size // (64 * KIB) - 1):
            if answering.done():
                break
            writer.write(b" " * 64 * KIB)
            await writer.drain()
        await asyncio.wait({answering}, timeout=3)
        return answering.done() and b"503" in answering.result()
    except ConnectionError:
        return b"503" in await answering
    finally:
        answering.cancel()
        writer.close()


async def test_unfinished_bodies_are_held_up_to_their_budget_and_no_further(daemon: Daemon, names: Names) -> None:
    process = psutil.Process(daemon.pid)
    before = most = process.memory_info().rss
    async with asyncio.TaskGroup() as tasks:
        sent = [
            tasks.create_task(unfinished_body(daemon, source=f"127.0.0.{2 + number % 10}", size=4 * MIB))
            for number in range(200)
        ]
        while not all(task.done() for task in sent):
            most = max(most, process.memory_info().rss)
            await asyncio.sleep(0.02)

    refused = sum(task.result() for task in sent)
    assert most - before < 150 * MIB
    assert 100 < refused

    def taken_in_again() -> bool:
        return daemon.request("POST", TELEMETRY, body=reading(names.meter)).status == 201

    until(taken_in_again)


async def test_bodies_that_are_large_when_parsed_are_parsed_one_at_a_time(daemon: Daemon) -> None:
    body = b"[[" + b"[]," * 1_300_000 + b"[]]]"  # takes 80 MB
    process = psutil.Process(daemon.pid)
    before = most = process.memory_info().rss

    sent = [asyncio.to_thread(daemon.request, "POST", TELEMETRY, body=body) for _ in range(8)]
    answering = asyncio.gather(*sent)
    while not answering.done():
        most = max(most, process.memory_info().rss)
        await asyncio.sleep(0.005)

    assert {201, 503} >= {answer.status for answer in await answering}
    assert most - before < 400 * MIB


# What is no HTTP


BROKEN = {
    "no request line": b"GARBAGE\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "bad URL": request_head("http://[::1"),
    "long URL": request_head("/" + "a" * 9000),
    "long header": request_head(TELEMETRY, "X: " + "a" * 9000),
    "many headers": request_head(TELEMETRY, *(f"X-{number}: 1" for number in range(200))),
    "NUL in a header": request_head(TELEMETRY, "X: a\0b"),
    "bad length": request_head(TELEMETRY, "Content-Length: x"),
    "two lengths": request_head(TELEMETRY, "Content-Length: 2", "Transfer-Encoding: chunked") + b"2\r\n{}\r\n0\r\n\r\n",
    "bad chunk": request_head(TELEMETRY, "Transfer-Encoding: chunked") + b"zz\r\n",
}


@pytest.mark.parametrize("sent", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_no_http_is_a_problem_of_400(daemon: Daemon, sent: bytes) -> None:
    with connected(daemon) as client:
        client.sendall(sent)
        answer = answer_on(client)

    detail = assert_problem(answer, 400)
    assert detail.isprintable()


@pytest.mark.parametrize("expectation", [b"miracles", b"\xff"], ids=["text", "no text"])
def test_an_expectation_that_nobody_knows_is_a_problem_of_417(daemon: Daemon, expectation: bytes) -> None:
    with connected(daemon) as client:
        client.sendall(request_head(TELEMETRY, "Expect: ?").replace(b"?", expectation))
        answer = answer_on(client)

    assert_problem(answer, 417)


@pytest.mark.parametrize(
    "sent",
    [
        request_head("/livez", method="GET"),
        request_head("/nowhere", method="GET"),
        request_head("/v1/export/meters.csv", method="GET"),
        request_head("/livez", "Expect: miracles", method="GET"),
        BROKEN["no request line"],
    ],
    ids=["answer", "problem", "export", "refused by aiohttp", "no HTTP"],
)
def test_no_answer_tells_a_version(daemon: Daemon, sent: bytes) -> None:
    with connected(daemon) as client:
        client.sendall(sent)
        answer = answer_on(client)

    assert "ingestd" == answer.headers["server"]


def abort(client: socket.socket) -> None:
    """End a connection with a reset."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def test_broken_requests_are_one_line_of_the_log_and_no_traceback(broker: PrivateMosquitto, database_url: str) -> None:
    with Daemon(mqtt_url=broker.url, database_url=database_url, mqtt_client_id="another") as daemon:
        daemon.wait_healthy()
        for _ in range(3):
            for sent in [*BROKEN.values(), request_head("/livez").replace(b"Host", b"Expect: \xff\r\nHost")]:
                with connected(daemon) as client:
                    client.sendall(sent)
                    answer_on(client)
            with connected(daemon) as client:
                client.sendall(request_head(TELEMETRY, "Content-Length: 2") + b"{}")  # refused when nobody listens
            for path in (TELEMETRY, MAPPINGS, "/livez", "/nowhere"):
                for method in ("POST", "GET"):
                    client = connected(daemon)
                    client.sendall(request_head(path, "Content-Length: 1000", method=method) + b"[")
                    abort(client)
                    client = connected(daemon)
                    client.sendall(
                        request_head(path, "Transfer-Encoding: chunked", method=method) + b"1\r\n[\r\nzz\r\n"
                    )
                    abort(client)
        until(lambda: daemon.request("GET", "/livez").status == 200)
        daemon.terminate()
        lines: list[dict[str, Any]] = [json.loads(line) for line in daemon.log.read_text().splitlines()]

    not_info = [line for line in lines if line["level"] != "info"]
    assert ["requests_broken"] == [line["event"] for line in not_info], not_info
    assert {"requests", "last_reason", "last_remote"} < set(not_info[0])
