"""A client that requests routes at a given rate, and measures the time."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING, Final

import aiohttp
import uvloop

from bench.errors import BenchError
from bench.report import percentile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.report import Figures

CONNECTIONS: Final = 4
"""Connections that are kept open; as many as ingestd has to the database for requests."""
WARMING_UP: Final = 10
"""Requests of each connection that do not count: it is made, and statements are prepared."""
ANSWER_SECONDS: Final = 30.0
_OK: Final = 200


def ask(urls: Sequence[str], *, rate: float, connections: int = CONNECTIONS, anew: bool = False) -> Figures:
    """Ask all of them, `rate` a second, whoever has answered; returns `p50`, `p99` and `highest` in seconds.

    A request that has to wait for a connection counts from when it was due; over a single one nothing is asked before
    the last answer is there. `anew` takes no answer that was made for
    somebody else. Raises BenchError for anything but 200.
    """
    seconds = uvloop.run(_ask(urls, rate, connections, {"Cache-Control": "no-cache"} if anew else {}))
    return {"p50": percentile(seconds, 0.5), "p99": percentile(seconds, 0.99), "highest": max(seconds)}


async def _ask(urls: Sequence[str], rate: float, connections: int, headers: Mapping[str, str]) -> list[float]:
    seconds: list[float] = []

    async def take_turns(client: aiohttp.ClientSession, started: float, first: int) -> None:
        for number in range(first, len(urls), connections):
            due = started + number / rate
            if (wait := due - perf_counter()) > 0:
                await asyncio.sleep(wait)
            if wait > 0 or connections == 1:
                due = perf_counter()
            await _get(client, urls[number])
            seconds.append(perf_counter() - due)

    connector = aiohttp.TCPConnector(limit=connections)
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as client:
        await asyncio.gather(*(_get(client, url) for url in urls[: WARMING_UP * connections]))
        started = perf_counter()
        await asyncio.gather(*(take_turns(client, started, first) for first in range(connections)))
    return seconds


async def _get(client: aiohttp.ClientSession, url: str) -> None:
    try:
        async with client.get(url) as answer:
            text = await answer.text()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise BenchError(f"{url} does not answer: {error!r}") from error
    if answer.status != _OK:
        raise BenchError(f"{url} answers {answer.status}: {text[:500]}")
