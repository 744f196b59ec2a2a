from __future__ import annotations

import socket
import threading
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
