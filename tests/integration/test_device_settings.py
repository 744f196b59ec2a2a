# ruff: noqa: SIM300 - expected == actual
"""Settings of single devices in the database: what follows from another maxKw."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from ingestd.model.device import DeviceSettings
from ingestd.model.stream import METER, STREAMS, Stream
from ingestd.store.device_settings import DeviceSettingsTable
from ingestd.store.pool import Pool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def settings(database_url: str) -> AsyncIterator[DeviceSettingsTable]:
    pool = Pool(database_url)
    await pool.open()
    try:
        yield DeviceSettingsTable(pool)
    finally:
        await pool.close()


def taken_marks(url: str, stream: Stream) -> list[tuple[str, str]]:
    """The marks of the stream's devices, which are gone afterwards."""
    with psycopg.connect(url) as connection:
        names = {"stale": sql.Identifier(f"{stream.name}_stale"), "id": sql.Identifier(stream.id_column)}
        marks = connection.execute(sql.SQL("SELECT {id}, start::text FROM {stale}").format(**names)).fetchall()
        connection.execute(sql.SQL("DELETE FROM {stale}").format(**names))
        return marks


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
async def test_the_ledger_of_a_device_is_marked_when_its_max_kw_changes_and_only_then(
    settings: DeviceSettingsTable, database_url: str, stream: Stream
) -> None:
    marked = [("a", "-infinity")]
    first, other = DeviceSettings(max_kw=22), DeviceSettings(max_kw=11)
    silent = DeviceSettings(max_kw=11, threshold=0.8, offline_after=timedelta(hours=2))
    for given, expected in [(first, marked), (first, []), (other, marked), (silent, []), (DeviceSettings(), marked)]:
        await settings.set(stream, "a", given, who="test")
        assert (expected, given) == (taken_marks(database_url, stream), await settings.get(stream, "a"))

    assert DeviceSettings() == await settings.remove(stream, "a", who="test")
    assert await settings.remove(stream, "a", who="test") is None
    assert [] == taken_marks(database_url, stream)
    await settings.set(stream, "a", first, who="test")
    assert first == await settings.remove(stream, "a", who="test")
    assert [*marked, *marked] == taken_marks(database_url, stream)


async def test_of_changes_at_once_each_is_marked_by_what_was_before_it(
    settings: DeviceSettingsTable, database_url: str
) -> None:
    await asyncio.gather(
        *(
            settings.set(METER, "a", DeviceSettings(max_kw=22) if number % 2 else DeviceSettings(), who="test")
            for number in range(20)
        )
    )

    found = await settings.get(METER, "a")
    assert found is not None
    assert (len(taken_marks(database_url, METER)) % 2 == 1) == (found.max_kw is not None)
