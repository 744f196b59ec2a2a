# ruff: noqa: SIM300 - expected == actual
"""Event streams in virtual time: heartbeats, slow clients, one look for all, and outages of the database."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from prometheus_client import CollectorRegistry

from ingestd.errors import TransientStoreError
from ingestd.http.authorization import AUTHORIZATION, Authorization
from ingestd.http.event_streams import HEARTBEAT, EventStreamLimits, EventStreams
from ingestd.http.newest_events import CHUNK_BYTES, Wanted
from ingestd.http.problems import Problem
from ingestd.metrics import Requests
from ingestd.model.device import Changed, LiveReading
from ingestd.model.stream import METER
from tests.fakes import clock, in_virtual_time

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

LIMITS = EventStreamLimits()
AT = datetime(2026, 11, 20, 10, tzinfo=UTC)
ALL = Wanted()


class FakeChanges:
    """A database: `store` makes a device change; a look takes `seconds`."""

    def __init__(self) -> None:
        self.looks: list[float] = []
        self.is_away = False
        self.seconds = 0.0
        self._changed: dict[str, LiveReading] = {}

    def store(self, *devices: str) -> None:
        at = AT + timedelta(seconds=clock())
        self._changed |= {
            device: LiveReading(device_id=device, timestamp=at, received_at=at, figures={}) for device in devices
        }

    async def look(self) -> AsyncGenerator[Changed]:
        self.looks.append(clock())
        await asyncio.sleep(self.seconds)
        if self.is_away:
            raise TransientStoreError("away")
        changed, self._changed = self._changed, {}
        if changed:
            yield Changed(stream=METER, readings=list(changed.values()))


class FakeResponse(web.StreamResponse):
    """Its client takes so many seconds for each chunk."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__()
        self.taken: list[tuple[float, bytes]] = []
        self.is_complete = False
        self._seconds = seconds

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        await asyncio.sleep(self._seconds)
        self.taken.append((clock(), bytes(data)))

    async def write_eof(self, data: bytes = b"") -> None:  # noqa: ARG002 - aiohttp's
        self.is_complete = True

    @property
    def heartbeats(self) -> list[float]:
        return [at for at, data in self.taken if data == HEARTBEAT]

    @property
    def events(self) -> list[tuple[float, int]]:
        """When some came, and how many."""
        return [(at, count) for at, data in self.taken if (count := data.count(b"\ndata: "))]


def request() -> web.Request:
    app = web.Application()
    app[AUTHORIZATION] = Authorization(None)
    return make_mocked_request("GET", "/v1/stream", app=app)


@asynccontextmanager
async def running(changes: FakeChanges, limits: EventStreamLimits = LIMITS) -> AsyncIterator[EventStreams]:
    streams = EventStreams(changes.look, metrics=Requests(CollectorRegistry()), limits=limits)
    async with asyncio.TaskGroup() as tasks:
        looking = tasks.create_task(streams.run())
        yield streams
        looking.cancel()


async def read(streams: EventStreams, response: FakeResponse, *, client: str = "a") -> None:
    with streams.place(client):
        await streams.send(request(), response, ALL)


async def read_for(seconds: float, streams: EventStreams, response: FakeResponse) -> None:
    reading = asyncio.create_task(read(streams, response))
    await asyncio.sleep(seconds)
    reading.cancel()
    await asyncio.wait({reading})


@in_virtual_time
async def test_without_events_there_are_heartbeats() -> None:
    response = FakeResponse()
    async with running(FakeChanges()) as streams:
        await read_for(3.5 * LIMITS.heartbeat_seconds, streams, response)

    assert b"retry: 2000\n\n" == response.taken[0][1]
    assert 3 == len(response.heartbeats)
    assert LIMITS.heartbeat_seconds <= response.heartbeats[0] <= LIMITS.heartbeat_seconds + LIMITS.check_seconds


@in_virtual_time
async def test_an_event_comes_with_the_next_look() -> None:
    changes, response = FakeChanges(), FakeResponse()
    async with running(changes) as streams:
        reading = asyncio.create_task(read(streams, response))
        await asyncio.sleep(2.2)
        changes.store("m-1")
        await asyncio.sleep(LIMITS.look_seconds)
        streams.end()
        await reading

    ((at, count),) = response.events
    assert (1, True) == (count, 2.2 < at <= 2.2 + LIMITS.look_seconds)


@in_virtual_time
async def test_all_clients_have_one_look_and_nobody_has_none() -> None:
    changes = FakeChanges()
    async with running(changes) as streams:
        await asyncio.sleep(10)
        assert [] == changes.looks
        responses = [FakeResponse() for _ in range(80)]
        readings = [asyncio.create_task(read(streams, one, client=str(n))) for n, one in enumerate(responses)]
        await asyncio.sleep(5)
        assert 10 <= len(changes.looks) <= 11
        changes.store("m-1")
        await asyncio.sleep(1)
        streams.end()
        await asyncio.gather(*readings)
        looks = len(changes.looks)
        await asyncio.sleep(10)

    assert [1] * 80 == [len(response.events) for response in responses]
    assert all(response.is_complete for response in responses)
    assert len(changes.looks) <= looks + 1


@in_virtual_time
async def test_looks_that_take_long_are_fewer() -> None:
    changes = FakeChanges()
    async with running(changes) as streams:
        changes.seconds = 0.1  # 5 % of 2 s
        await read_for(20, streams, FakeResponse())
        assert 10 == len(changes.looks)
        changes.looks.clear()
        changes.seconds = 2.0
        await read_for(70, streams, FakeResponse())

    assert 10 == len(changes.looks)
    assert {2.0 + LIMITS.longest_pause_seconds} == {round(b - a, 3) for a, b in pairwise(changes.looks)}


@in_virtual_time
async def test_a_slow_client_gets_the_newest_only_and_a_quick_one_all() -> None:
    changes, slow, quick = FakeChanges(), FakeResponse(LIMITS.client_seconds - 1), FakeResponse()
    async with running(changes) as streams:
        readings = [asyncio.create_task(read(streams, one)) for one in (slow, quick)]
        for _ in range(60):
            changes.store("m-1")
            await asyncio.sleep(1)
        streams.end()
        await asyncio.gather(*readings)

    assert 60 == len(quick.events)
    assert 5 >= len(slow.events) >= 3


@in_virtual_time
async def test_a_client_that_takes_nothing_is_given_up_and_others_are_not_delayed() -> None:
    changes, frozen, quick = FakeChanges(), FakeResponse(10_000), FakeResponse()
    async with running(changes) as streams:
        reading = asyncio.create_task(read(streams, quick))
        with pytest.raises(TimeoutError):
            await read(streams, frozen)
        assert LIMITS.client_seconds == clock()
        changes.store("m-1")
        await asyncio.sleep(1)
        streams.end()
        await reading

    assert 1 == len(quick.events)


@in_virtual_time
async def test_what_is_much_is_sent_in_chunks() -> None:
    changes, response = FakeChanges(), FakeResponse()
    changes.store(*(f"m-{number}" for number in range(2000)))
    async with running(changes) as streams:
        await read_for(2, streams, response)

    assert 2000 == sum(count for _, count in response.events)
    assert max(len(data) for _, data in response.taken) < CHUNK_BYTES + 1000


@in_virtual_time
async def test_while_the_database_is_away_there_are_heartbeats_and_then_all_that_was_missed() -> None:
    changes, response = FakeChanges(), FakeResponse()
    async with running(changes) as streams:
        reading = asyncio.create_task(read(streams, response))
        await asyncio.sleep(3)
        changes.is_away = True
        changes.store("m-1", "m-2")
        await asyncio.sleep(30)
        assert [] == response.events
        assert len(response.heartbeats) >= 2
        changes.is_away = False
        await asyncio.sleep(LIMITS.failed_seconds + LIMITS.look_seconds)
        streams.end()
        await reading

    assert [2] == [count for _, count in response.events]


@in_virtual_time
async def test_a_client_that_comes_when_nobody_was_there_gets_nothing_old() -> None:
    changes, first, second = FakeChanges(), FakeResponse(), FakeResponse()
    changes.store("m-1")
    async with running(changes) as streams:
        await read_for(2, streams, first)
        changes.store("m-1")
        changes.seconds = 0.4
        await asyncio.sleep(60)
        await read_for(3, streams, second)

    assert ([1], [1]) == ([count for _, count in first.events], [count for _, count in second.events])
    assert b"10:00:02" in second.taken[1][1]


@in_virtual_time
async def test_places_are_counted_by_client_and_in_all_and_given_back() -> None:
    limits = EventStreamLimits(total=3, of_client=2)
    async with running(FakeChanges(), limits) as streams:
        with streams.place("a"), streams.place("a"):
            with pytest.raises(Problem, match="this client reads 2"), streams.place("a"):
                pass
            with streams.place("b"), pytest.raises(Problem, match="3 clients"), streams.place("c"):
                pass
            with streams.place("c"):
                pass
        with streams.place("a"), streams.place("a"):
            pass
