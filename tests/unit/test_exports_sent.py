# ruff: noqa: SIM300 - expected == actual
"""How long an export waits for its client, in virtual time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from ingestd.http.exports import CLIENT_SECONDS, EXPORT_SECONDS, send
from tests.fakes import clock, in_virtual_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class SlowResponse(web.StreamResponse):
    """Its client takes so many seconds for each chunk."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.taken: list[bytes] = []
        self._seconds = seconds

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        await asyncio.sleep(self._seconds)
        self.taken.append(bytes(data))

    async def write_eof(self, data: bytes = b"") -> None:
        await self.write(data)


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b"row\n"


async def one_more() -> AsyncIterator[bytes]:
    yield b"row\n"


@in_virtual_time
async def test_a_slow_client_gets_all_of_it() -> None:
    response = SlowResponse(CLIENT_SECONDS - 1)

    await send(response, b"names\n", one_more())

    assert [b"names\n", b"row\n", b""] == response.taken


@in_virtual_time
async def test_a_client_that_takes_nothing_is_given_up() -> None:
    with pytest.raises(TimeoutError):
        await send(SlowResponse(CLIENT_SECONDS + 1), b"names\n", endless())

    assert clock() == CLIENT_SECONDS


@in_virtual_time
async def test_an_export_that_goes_on_and_on_is_ended() -> None:
    response = SlowResponse(CLIENT_SECONDS - 1)

    with pytest.raises(TimeoutError, match="lasted more than 3600 s"):
        await send(response, b"names\n", endless())

    assert EXPORT_SECONDS < clock() <= EXPORT_SECONDS + CLIENT_SECONDS
