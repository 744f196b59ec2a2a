"""The pool of the queries: what comes to those who wait for a connection."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from ingestd.store.pool import CONNECTIONS, Pool
from ingestd.store.queries import Statement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    opened = Pool(database_url)
    await opened.open()
    yield opened
    await opened.close()


async def turned(times: int) -> None:
    """Everybody else has had so many turns of the event loop."""
    for _ in range(times):
        await asyncio.sleep(0)


@pytest.mark.parametrize("within", ["fetch", "transaction"])
async def test_a_cancellation_is_never_lost_to_a_connection_that_comes_free(pool: Pool, within: str) -> None:
    async def work() -> None:
        if within == "fetch":
            await pool.fetch(Statement(text=b"SELECT 1", parameters=()), {})
        else:
            async with pool.transaction():
                pass

    for turns in range(5):
        async with AsyncExitStack() as others:
            for _ in range(CONNECTIONS - 1):
                await others.enter_async_context(pool.transaction())
            async with pool.transaction():
                waiting = asyncio.create_task(work())
                await turned(10)
            await turned(turns)
            in_time = waiting.cancel()
            await asyncio.wait({waiting})

        assert in_time == waiting.cancelled(), turns
