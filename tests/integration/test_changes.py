# ruff: noqa: SIM300 - expected == actual
"""What a look at the live tables finds: all at first, then what has changed, in whatever order it was committed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest

from ingestd.errors import StoreError
from ingestd.model.stream import METER
from ingestd.store import changes
from ingestd.store.changes import Changes
from ingestd.store.pool import Pool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with Pool(database_url) as pool:
        yield pool


@pytest.fixture
def database(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def store(
    database: psycopg.Connection, devices: Sequence[str], at: datetime = NOW, *, received_at: datetime = NOW
) -> None:
    """As the writer does: a newer reading takes the place of an older one."""
    database.execute(
        "INSERT INTO meter_live AS live (meter_id, ts, received_at, voltage)"
        " SELECT id, %(at)s, %(received_at)s, 230 FROM unnest(%(devices)s::text[]) AS id"
        " ON CONFLICT (meter_id) DO UPDATE SET ts = excluded.ts, received_at = excluded.received_at"
        " WHERE live.ts < excluded.ts",
        {"devices": devices, "at": at, "received_at": received_at},
    )


async def found(seen: Changes) -> list[str]:
    """The devices of one look; those that are gone with a minus."""
    devices: list[str] = []
    async for changed in seen.look():
        assert METER is changed.stream
        devices += [reading.device_id for reading in changed.readings]
        devices += [f"-{device}" for device in changed.gone]
    assert len(set(devices)) == len(devices)
    return sorted(devices)


async def test_at_first_all_are_found_and_then_what_has_changed(pool: Pool, database: psycopg.Connection) -> None:
    seen = Changes(pool)
    assert [] == await found(seen)
    store(database, ["a", "b", "c"])
    assert ["a", "b", "c"] == await found(seen)
    assert [] == await found(seen)
    store(database, ["b"], NOW + SECOND)
    assert ["b"] == await found(seen)
    store(database, ["a"], NOW - SECOND)
    assert [] == await found(seen)


async def test_what_is_committed_late_is_found_though_it_arrived_early(
    pool: Pool, database: psycopg.Connection
) -> None:
    """As after an outage of the database, or from another daemon whose clock is behind."""
    seen = Changes(pool)
    store(database, ["early"], received_at=NOW)
    assert ["early"] == await found(seen)
    store(database, ["late"], received_at=NOW - timedelta(days=1))

    assert ["late"] == await found(seen)


async def test_a_transaction_is_found_when_it_commits_and_not_before(
    pool: Pool, database: psycopg.Connection, database_url: str
) -> None:
    seen = Changes(pool)
    with psycopg.connect(database_url) as slow:
        store(slow, ["slow"])
        store(database, ["quick"])
        assert ["quick"] == await found(seen)
        slow.commit()

    assert ["slow"] == await found(seen)


async def test_a_device_that_was_forgotten_is_gone_and_may_come_back(pool: Pool, database: psycopg.Connection) -> None:
    seen = Changes(pool)
    store(database, ["a", "b"], NOW)
    await found(seen)
    database.execute("DELETE FROM meter_live WHERE meter_id = 'a'")
    store(database, ["b"], NOW + SECOND)
    assert ["-a", "b"] == await found(seen)
    store(database, ["a"], NOW - SECOND)

    assert ["a"] == await found(seen)


async def test_after_a_look_that_failed_nothing_is_missed(pool: Pool, database: psycopg.Connection) -> None:
    seen = Changes(pool)
    store(database, [f"m-{number}" for number in range(600)])
    assert 600 == len(await found(seen))
    store(database, [f"m-{number}" for number in range(600)], NOW + SECOND)
    look = seen.look()
    await anext(look)  # some of them
    database.execute("ALTER TABLE meter_live RENAME TO other_live")
    with pytest.raises(StoreError):
        await anext(look)
    database.execute("ALTER TABLE other_live RENAME TO meter_live")

    assert 600 == len(await found(seen))


async def test_many_devices_are_read_in_pages(
    pool: Pool, database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids that sort by bytes: capitals, then small letters."""
    monkeypatch.setattr(changes, "VERSIONS_AT_ONCE", 7)
    seen = Changes(pool)
    devices = sorted(f"{letter}{number}" for letter in "aAzZ:._-" for number in range(7))
    store(database, devices)
    assert devices == await found(seen)
    assert [] == await found(seen)
    store(database, ["Z3", "z6", "-0"], NOW + SECOND)
    database.execute("DELETE FROM meter_live WHERE meter_id = 'a1'")

    assert ["--0", "-a1", "Z3", "z6"] != (last := await found(seen))
    assert sorted(["-0", "-a1", "Z3", "z6"]) == last


async def test_a_reading_has_its_times_and_only_figures_that_were_sent(
    pool: Pool, database: psycopg.Connection
) -> None:
    store(database, ["a"], NOW)
    readings = [reading async for changed in Changes(pool).look() for reading in changed.readings]

    assert [("a", NOW, NOW, {"voltage": 230.0})] == [
        (one.device_id, one.timestamp, one.received_at, one.figures) for one in readings
    ]


async def test_a_look_takes_no_lock_and_reads_each_table_once_a_page(database: psycopg.Connection) -> None:
    """Its plan: at most one scan, and no sort of more than a page."""
    store(database, [f"m-{number:05}" for number in range(10_000)])
    database.execute("ANALYZE meter_live")
    statement = changes._SQL[METER]["versions"]  # noqa: SLF001 - the statement that runs
    assert ("after", "limit") == statement.parameters
    text = statement.text.decode().replace("$1", "''").replace("$2", "10000")
    plan = "\n".join(line for (line,) in database.execute(f"EXPLAIN {text}"))

    assert 1 == plan.count("Scan"), plan
