# ruff: noqa: SIM300 - expected == actual
"""How bodies of requests are read: within their time, up to their size, and all of them within one budget."""

from __future__ import annotations

import asyncio
import logging
import time
from http import HTTPStatus
from typing import TYPE_CHECKING
from unittest.mock import Mock

import pytest
import structlog
from aiohttp import StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request
from structlog.testing import capture_logs

from ingestd.http.bodies import Bodies, BodyLimit
from ingestd.http.broken import BROKEN, BrokenRequests
from ingestd.http.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

JSON = {"Content-Type": "application/json"}
LIMIT = BodyLimit(max_bytes=100, seconds=30.0)


class Sender:
    """A request whose body comes as the test says."""

    def __init__(self, **headers: str) -> None:
        app = web.Application()
        app[BROKEN] = BrokenRequests()
        self.content = StreamReader(Mock(spec=BaseProtocol), 2**16, loop=asyncio.get_running_loop())
        self.request = make_mocked_request("POST", "/", headers=JSON | headers, payload=self.content, app=app)

    def send(self, data: bytes, *, end: bool = False) -> None:
        self.content.feed_data(data)
        if end:
            self.content.feed_eof()


@pytest.fixture
def bodies() -> Bodies:
    return Bodies(max_held_bytes=150)


@pytest.fixture
def lines() -> Iterator[list[MutableMapping[str, object]]]:
    """What is logged."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with capture_logs() as lines:
        yield lines
    structlog.configure(**before)


async def status_of(bodies: Bodies, sender: Sender, limit: BodyLimit = LIMIT) -> HTTPStatus:
    """Of the problem that reading the body ends with."""
    with pytest.raises(Problem) as raised:
        async with bodies.read(sender.request, limit):
            pass
    return raised.value.status


async def test_a_body_is_whole_and_held_until_it_is_done_with(bodies: Bodies) -> None:
    sender = Sender()
    sender.send(b"one, ")
    sender.send(b"two", end=True)

    async with bodies.read(sender.request, LIMIT) as body:
        assert b"one, two" == body
        assert len(body) == bodies.held_bytes

    assert 0 == bodies.held_bytes


async def test_a_body_is_counted_as_it_grows(bodies: Bodies) -> None:
    sender = Sender(**{"Content-Length": "90"})

    async def read() -> None:
        async with bodies.read(sender.request, LIMIT):
            pass

    reading = asyncio.create_task(read())
    for expected in (0, 40, 80):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert expected == bodies.held_bytes
        sender.send(bytes(40))
    reading.cancel()
    await asyncio.wait({reading})

    assert reading.cancelled()
    assert 0 == bodies.held_bytes


async def test_what_does_not_fit_beside_others_is_503_and_fits_when_they_are_done(bodies: Bodies) -> None:
    first, second, third = Sender(), Sender(), Sender()
    for sender in (first, second, third):
        sender.send(bytes(80), end=True)

    async with bodies.read(first.request, LIMIT):
        assert HTTPStatus.SERVICE_UNAVAILABLE == await status_of(bodies, second)
        assert 80 == bodies.held_bytes
    async with bodies.read(third.request, LIMIT) as body:
        assert bytes(80) == body


async def test_a_body_that_takes_too_long_is_408(bodies: Bodies) -> None:
    sender = Sender()
    sender.send(b"[")

    status = await status_of(bodies, sender, BodyLimit(max_bytes=100, seconds=0.01))

    assert HTTPStatus.REQUEST_TIMEOUT == status
    assert 0 == bodies.held_bytes


@pytest.mark.parametrize(
    "error", [ConnectionResetError("gone"), TimeoutError("no route any more"), web.RequestPayloadError("bad chunk")]
)
async def test_a_body_that_breaks_off_is_noted(
    bodies: Bodies, error: Exception, lines: list[MutableMapping[str, object]]
) -> None:
    sender = Sender()
    sender.send(b"[")
    sender.content.set_exception(error)

    status = await status_of(bodies, sender)

    assert HTTPStatus.BAD_REQUEST == status
    assert [1] == [line["requests"] for line in lines]
    assert f"the body broke off: {error}" == lines[0]["last_reason"]


async def test_a_timeout_of_whoever_uses_the_body_is_theirs(bodies: Bodies) -> None:
    sender = Sender()
    sender.send(b"{}", end=True)

    with pytest.raises(TimeoutError, match="of the store"):
        async with bodies.read(sender.request, LIMIT):
            raise TimeoutError("of the store")


def test_broken_requests_are_logged_once_in_a_while(lines: list[MutableMapping[str, object]]) -> None:
    broken = BrokenRequests(log_seconds=3600)

    for number in range(5):
        broken.note(f"fault {number}", remote="192.0.2.1")

    assert [(1, "fault 0")] == [(line["requests"], line["last_reason"]) for line in lines]


def test_the_next_line_tells_of_all_since_the_last(lines: list[MutableMapping[str, object]]) -> None:
    broken = BrokenRequests(log_seconds=0.2)

    broken.note("fault", remote=None)
    broken.note("fault", remote=None)
    time.sleep(0.25)
    broken.note("the last fault", remote=None)

    assert [(1, "fault"), (2, "the last fault")] == [(line["requests"], line["last_reason"]) for line in lines]
