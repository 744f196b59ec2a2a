# ruff: noqa: SIM300 - expected == actual
"""The schema, made by whoever comes first and made once, and what its partitions are good for."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from ingestd.errors import OperatorStoreError
from ingestd.model.timestamps import to_microseconds
from ingestd.pipeline.delivery import Batch
from ingestd.store.migrations import available, migrate
from ingestd.store.writer import Writer
from tests.fakes import FakeOrigin
from tests.support.deliveries import NOW, delivery_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


DAY = date(2026, 11, 20)
MAKE = "SELECT ingestd_make_partition('meter_history', %s)"
STORE = "INSERT INTO meter_history VALUES ('m', %s, now(), 1, 230)"
NAMES = [f"{migration.version:04}_{migration.name}" for migration in available()]


@pytest.fixture
def database(database_url: str) -> Iterator[psycopg.Connection]:
    with connected(database_url) as connection:
        yield connection


def connected(dsn: str) -> psycopg.Connection:
    return psycopg.connect(dsn, autocommit=True)


@asynccontextmanager
async def several_connected(dsn: str, count: int) -> AsyncIterator[list[psycopg.AsyncConnection]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(await psycopg.AsyncConnection.connect(dsn, autocommit=True))
            for _ in range(count)
        ]


def applied(dsn: str) -> list[tuple[Any, ...]]:
    with connected(dsn) as connection:
        return connection.execute("SELECT version, name FROM ingestd_migration ORDER BY version").fetchall()


# Once


async def test_a_migration_is_applied_once(empty_database_url: str) -> None:
    first = await migrate(empty_database_url)
    second = await migrate(empty_database_url)

    assert NAMES == first[: len(NAMES)]
    assert [] == second
    assert [migration[:2] for migration in available()] == applied(empty_database_url)


async def test_of_several_that_migrate_at_once_one_does_it_and_all_succeed(empty_database_url: str) -> None:
    results = await asyncio.gather(*(migrate(empty_database_url) for _ in range(4)))

    assert sorted([NAMES, [], [], []]) == sorted(applied[: len(NAMES)] for applied in results)
    assert [migration[:2] for migration in available()] == applied(empty_database_url)


async def test_a_migration_that_fails_leaves_nothing_and_may_be_run_again(empty_database_url: str) -> None:
    with connected(empty_database_url) as connection:
        connection.execute("CREATE TABLE dead_letter (of_another_program text)")

        with pytest.raises(OperatorStoreError, match="dead_letter"):
            await migrate(empty_database_url)

        assert [] == applied(empty_database_url)
        assert (None,) == connection.execute("SELECT to_regclass('meter_history')").fetchone()
        connection.execute("DROP TABLE dead_letter")
    assert NAMES == (await migrate(empty_database_url))[: len(NAMES)]


async def test_a_database_that_was_not_migrated_is_for_an_operator(empty_database_url: str) -> None:
    writer = Writer(empty_database_url)

    with pytest.raises(OperatorStoreError, match="meter_history"):
        await writer.open()


@pytest.mark.parametrize(
    ("version", "name"), [(1, "initial"), (2, "registers_and_rollups"), (9, "a later one")], ids=["first", "old", "new"]
)
async def test_a_database_of_another_schema_is_refused_in_one_line_and_left_as_it_is(
    empty_database_url: str, version: int, name: str
) -> None:
    with connected(empty_database_url) as connection:
        connection.execute(
            "CREATE TABLE ingestd_migration (version integer PRIMARY KEY, name text NOT NULL,"
            " applied_at timestamptz NOT NULL DEFAULT now())"
        )
        connection.execute("INSERT INTO ingestd_migration (version, name) VALUES (%s, %s)", (version, name))

        with pytest.raises(OperatorStoreError) as refused:
            await migrate(empty_database_url)

        assert (
            f"the database has another schema than this ingestd makes (migration {version:04} is {name!r}):"
            " use an empty database"
        ) == str(refused.value)
        assert [(version, name)] == applied(empty_database_url)
        assert (None,) == connection.execute("SELECT to_regclass('meter_history')").fetchone()


# Partitions


def test_a_partition_is_made_once(database: psycopg.Connection) -> None:
    assert [(True,)] == database.execute(MAKE, (DAY,)).fetchall()
    assert [(False,)] == database.execute(MAKE, (DAY,)).fetchall()


async def test_of_several_that_make_a_partition_at_once_one_does_it_and_all_find_it(database_url: str) -> None:
    async def make(connection: psycopg.AsyncConnection, day: datetime) -> bool:
        ((made,),) = await (await connection.execute(MAKE, (day.date(),))).fetchall()
        return bool(made)

    days = [datetime(2026, 11, number, tzinfo=UTC) for number in range(1, 16)]  # so many, as races are rare
    async with several_connected(database_url, 6) as connections:
        for day in days:
            made = await asyncio.gather(*(make(connection, day) for connection in connections))

            assert [False] * 5 + [True] == sorted(made)
            for second, connection in enumerate(connections):
                await connection.execute(STORE, (day.replace(second=second),))


async def test_partitions_of_different_days_made_at_once_do_not_hinder_each_other(database_url: str) -> None:
    async with several_connected(database_url, 6) as connections:
        made = await asyncio.gather(
            *(connection.execute(MAKE, (DAY - timedelta(days=n),)) for n, connection in enumerate(connections))
        )

        assert [[(True,)]] * 6 == [await cursor.fetchall() for cursor in made]


def test_a_partition_is_made_while_others_write_and_read(database_url: str, database: psycopg.Connection) -> None:
    database.execute(MAKE, (DAY,))
    database.execute("SET lock_timeout = '5s'")

    with psycopg.connect(database_url) as busy, busy.transaction():
        busy.execute(STORE, (datetime(2026, 11, 20, tzinfo=UTC),))
        busy.execute("SELECT count(*) FROM meter_history")

        assert [(True,)] == database.execute(MAKE, (DAY - timedelta(days=1),)).fetchall()


@pytest.mark.parametrize(
    ("zone", "date_style"),
    [("Asia/Kolkata", "ISO, MDY"), ("America/Los_Angeles", "German"), ("Pacific/Kiritimati", "SQL, DMY")],
)
def test_a_partition_is_a_utc_day_wherever_the_server_is(database_url: str, zone: str, date_style: str) -> None:
    first = datetime(2026, 11, 5, tzinfo=UTC)  # a day that is another when its month and day change places
    last = first + timedelta(days=1, microseconds=-1)
    with connected(database_url) as connection:
        for name, value in {"TimeZone": zone, "DateStyle": date_style}.items():
            connection.execute(
                sql.SQL("ALTER DATABASE {} SET {} = {}").format(
                    sql.Identifier(connection.info.dbname), sql.Identifier(name), sql.Literal(value)
                )
            )
    with connected(database_url) as connection:
        assert (zone,) == connection.execute("SHOW timezone").fetchone()

        connection.execute(MAKE, (first.date(),))

        for at in (first, last):
            connection.execute(STORE, (at,))
        places = connection.execute("SELECT DISTINCT tableoid::regclass::text FROM meter_history").fetchall()
        assert [("meter_history_20261105",)] == places
        for at in (first - timedelta(microseconds=1), last + timedelta(microseconds=1)):
            with pytest.raises(psycopg.errors.CheckViolation, match="no partition"):
                connection.execute(STORE, (at,))


def test_a_partition_of_the_ledger_is_a_utc_month_wherever_the_server_is(database: psycopg.Connection) -> None:
    make = "SELECT ingestd_make_month('meter_hour', %s)"
    store = (
        "INSERT INTO meter_hour (meter_id, start, kwh, samples, parts, known_seconds, averaged_sum, resets, excluded,"
        " filled) VALUES ('m', %s, 1, 1, 0, 0, 0, 0, 0, 1)"
    )
    database.execute("SET timezone = 'Asia/Kolkata'")

    assert [[(True,)], [(False,)]] == [database.execute(make, (date(2026, 2, 15),)).fetchall() for _ in range(2)]

    first, last = datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 2, 28, 23, tzinfo=UTC)
    for start in (first, last):
        database.execute(store, (start,))
    assert [("meter_hour_202602",)] == database.execute(
        "SELECT DISTINCT tableoid::regclass::text FROM meter_hour"
    ).fetchall()
    for start in (first - timedelta(hours=1), last + timedelta(hours=1)):
        with pytest.raises(psycopg.errors.CheckViolation, match="no partition"):
            database.execute(store, (start,))


async def test_the_writer_puts_readings_into_utc_days_wherever_the_server_is(
    database_url: str, database: psycopg.Connection
) -> None:
    database.execute(
        sql.SQL("ALTER DATABASE {} SET timezone = 'Asia/Kolkata'").format(sql.Identifier(database.info.dbname))
    )
    midnight = to_microseconds(datetime(2026, 11, 20, tzinfo=UTC))
    rows = [("m", at, 0.4, 230.0, None, NOW) for at in (midnight - 1, midnight)]
    writer = Writer(database_url)
    await writer.open()

    await writer.write(Batch.of([delivery_of(FakeOrigin(), meters=rows)]))

    places = database.execute("SELECT tableoid::regclass::text FROM meter_history ORDER BY ts").fetchall()
    assert [("meter_history_20261119",), ("meter_history_20261120",)] == places
    await writer.close()
