"""A broker's name that has several addresses, some of which do not answer."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from ingestd.errors import BrokerError
from ingestd.mqtt.timing import Timing
from tests.support.sessions import new_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ingestd.demo.servers import PrivateMosquitto

Address = tuple[str, int]

NAME = "broker.example"


class Resolving(asyncio.AbstractEventLoop):
    """An event loop, in part, that finds these addresses for a name."""

    addresses: tuple[Address, ...] = ()

    async def getaddrinfo(self, host: Any, *arguments: Any, **options: Any) -> list[Any]:  # noqa: ANN401
        if host != NAME:  # uvloop looks up addresses, too
            return await super().getaddrinfo(host, *arguments, **options)
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address) for address in self.addresses]


class ResolvingAsyncio(Resolving, asyncio.SelectorEventLoop):
    pass


class ResolvingUvloop(Resolving, uvloop.Loop):  # type: ignore[misc]
    pass


LOOPS = [ResolvingAsyncio, ResolvingUvloop]


@contextmanager
def silent_address() -> Iterator[Address]:
    """Nothing answers there, not even a refusal: the queue of connections is full."""
    with ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.2", 0))
        listener.listen(0)
        address: Address = listener.getsockname()
        for _ in range(3):
            client = sockets.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(address)
        yield address


@contextmanager
def refusing_address() -> Iterator[Address]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.2", 0))
        yield bound.getsockname()


def open_session(loop: type[Resolving], *addresses: Address) -> None:
    async def run() -> None:
        running = asyncio.get_running_loop()
        assert isinstance(running, Resolving)
        running.addresses = addresses
        session = new_session(f"mqtt://{NAME}", timing=Timing(connect=3.0))
        await session.open()
        await session.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())


@pytest.mark.parametrize("loop", LOOPS)
def test_an_address_that_is_silent_does_not_keep_us_from_the_next(
    loop: type[Resolving], broker: PrivateMosquitto
) -> None:
    with silent_address() as silent:
        open_session(loop, silent, ("127.0.0.1", broker.port))


@pytest.mark.parametrize("loop", LOOPS)
def test_an_address_that_refuses_does_not_keep_us_from_the_next(
    loop: type[Resolving], broker: PrivateMosquitto
) -> None:
    with refusing_address() as refusing:
        open_session(loop, refusing, ("127.0.0.1", broker.port))


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("name", ["a..b", "x" * 70])
def test_a_name_that_can_be_none_is_one_clear_error(loop: Callable[[], asyncio.AbstractEventLoop], name: str) -> None:
    with (
        asyncio.Runner(loop_factory=loop) as runner,
        pytest.raises(BrokerError, match=rf"^cannot reach {name}:1883: "),
    ):
        runner.run(new_session(f"mqtt://{name}").open())


@pytest.mark.parametrize("loop", LOOPS)
def test_addresses_that_are_all_silent_or_refuse_are_one_clear_error(loop: type[Resolving]) -> None:
    with silent_address() as silent, refusing_address() as refusing:
        with pytest.raises(BrokerError, match=r"^no answer from broker\.example:1883$"):
            open_session(loop, silent, refusing)
        with pytest.raises(BrokerError, match=r"^cannot reach broker\.example:1883: .*refused"):
            open_session(loop, refusing, refusing)
