from __future__ import annotations

import socket
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.support.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def echo() -> Iterator[str]:
    """The URL of a server that sends back what it gets, to one connection at a time."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                connection, _ = listener.accept()
                with connection:
                    try:
                        while data := connection.recv(65536):
                            if data == b"end":
                                return
                            connection.sendall(data)
                    except ConnectionError:
                        continue

        thread = threading.Thread(target=serve)
        thread.start()
        host, port = listener.getsockname()
        yield f"tcp://user@{host}:{port}/path"
        with socket.create_connection((host, port)) as last:
            last.sendall(b"end")
        thread.join()


@pytest.fixture
def proxy(echo: str) -> Iterator[Proxy]:
    with Proxy(echo) as proxy:
        yield proxy


def connect(proxy: Proxy) -> socket.socket:
    host, port = proxy.url.removeprefix("tcp://user@").removesuffix("/path").split(":")
    connection = socket.create_connection((host, int(port)), timeout=5.0)
    connection.sendall(b"hello")
    assert connection.recv(100) == b"hello"
    return connection


def test_forwards_both_ways_and_passes_the_end_on(proxy: Proxy) -> None:
    sent = bytes(range(256)) * 4000
    with closing(connect(proxy)) as connection:

        def send() -> None:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)

        writer = threading.Thread(target=send)
        writer.start()
        received = b"".join(iter(lambda: connection.recv(65536), b""))
        writer.join()

    assert received == sent


def test_cut_resets_and_welcomes_the_next(proxy: Proxy) -> None:
    with closing(connect(proxy)) as connection:
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)

    connect(proxy).close()


def test_cut_can_close_politely(proxy: Proxy) -> None:
    with closing(connect(proxy)) as connection:
        proxy.cut(reset=False)
        assert connection.recv(1) == b""


def test_refuse_leaves_alone_what_is_connected(proxy: Proxy) -> None:
    with closing(connect(proxy)) as connection:
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
        connection.sendall(b"still here")
        assert connection.recv(100) == b"still here"

    proxy.accept()
    connect(proxy).close()


def test_a_black_hole_holds_everything_up_and_loses_nothing(proxy: Proxy) -> None:
    with closing(connect(proxy)) as connection:
        proxy.black_hole()
        connection.sendall(b"lost?")
        connection.settimeout(0.1)
        with pytest.raises(TimeoutError):
            connection.recv(1)

        proxy.resume()

        connection.settimeout(5.0)
        assert connection.recv(100) == b"lost?"


def test_delay_holds_every_read_back(proxy: Proxy) -> None:
    with closing(connect(proxy)) as connection:
        proxy.delay(0.1)
        before = time.monotonic()
        connection.sendall(b"late")
        assert connection.recv(100) == b"late"
        assert time.monotonic() - before >= 0.2  # there and back


def test_throttle_lets_no_more_through_than_it_says(proxy: Proxy) -> None:
    with closing(connect(proxy)) as connection:
        proxy.throttle(1000)
        before = time.monotonic()
        connection.sendall(bytes(400))
        received = b""
        while len(received) < 400:
            received += connection.recv(1000)
        assert received == bytes(400)
        assert time.monotonic() - before >= 0.35

        proxy.throttle(None)


def test_a_reset_comes_after_just_so_many_bytes(proxy: Proxy) -> None:
    with closing(connect(proxy)) as connection:
        triggered = proxy.reset_after(7, "to client")
        connection.sendall(b"12345")
        assert connection.recv(100) == b"12345"
        assert not triggered.is_set()

        connection.sendall(b"67890")

        assert connection.recv(100) == b"67"
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
        assert triggered.wait(5.0)

    connect(proxy).close()


def test_a_commit_goes_out_and_its_answer_is_swallowed(proxy: Proxy) -> None:
    with closing(connect(proxy)) as connection:
        cut = proxy.cut_next_commit()
        connection.sendall(b"INSERT")
        assert connection.recv(100) == b"INSERT"

        connection.sendall(b"Q\0\0\0\x0bCOMMIT\0")

        with pytest.raises(ConnectionResetError):
            connection.recv(1)
        assert cut.wait(5.0)

    connect(proxy).close()


def test_half_open_tells_the_client_and_not_the_server(proxy: Proxy) -> None:
    with closing(connect(proxy)) as connection:
        proxy.half_open()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    host, port = proxy.url.removeprefix("tcp://user@").removesuffix("/path").split(":")
    # The echo server serves one connection at a time, and still believes in the first.
    with closing(socket.create_connection((host, int(port)), timeout=0.2)) as second:
        second.sendall(b"hello")
        with pytest.raises(TimeoutError):
            second.recv(1)
        proxy.cut()


def test_heal_takes_everything_back(proxy: Proxy) -> None:
    triggered = proxy.reset_after(3, "to server")
    proxy.delay(60)
    proxy.throttle(1)
    proxy.black_hole()
    proxy.refuse()

    proxy.heal()

    connect(proxy).close()
    assert not triggered.is_set()
