# ruff: noqa: SIM300 - expected == actual
"""The schema, made by whoever comes first and made once, and what its partitions and indexes are good for."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from ingestd.store.reads import Analytics
from psycopg import sql
from tests.support.house import JUDGEMENT, opened

from ingestd.analytics import TimeRange
from ingestd.errors import OperatorStoreError
from ingestd.pipeline.delivery import Batch
from ingestd.store.database import Reads
from ingestd.store.migrations import available, migrate
from ingestd.store.writer import Writer
from ingestd.telemetry import MICROSECONDS_PER_DAY, STREAMS, to_microseconds
from tests.fakes import FakeOrigin
from tests.support.deliveries import NOW, delivery_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from ingestd.demo.servers import PrivatePostgres
    from ingestd.store.queries import Statement
    from ingestd.telemetry import Row

DAY = date(2026, 11, 20)
MAKE = "SELECT ingestd_make_partition('meter_history', %s)"
STORE = "INSERT INTO meter_history VALUES ('m', %s, 1, 230, now())"
NAMES = [f"{migration.version:04}_{migration.name}" for migration in available()]


@pytest.fixture
def empty_database_url(postgres_server: PrivatePostgres) -> Iterator[str]:
    """A database nobody has migrated yet."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(postgres_server.dsn(), autocommit=True) as administrator:
        administrator.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield postgres_server.dsn(name)
        administrator.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


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

    assert NAMES == first
    assert [] == second
    assert [migration[:2] for migration in available()] == applied(empty_database_url)


async def test_of_several_that_migrate_at_once_one_does_it_and_all_succeed(empty_database_url: str) -> None:
    results = await asyncio.gather(*(migrate(empty_database_url) for _ in range(4)))

    assert sorted([NAMES, [], [], []]) == sorted(results)
    assert [migration[:2] for migration in available()] == applied(empty_database_url)


async def test_a_migration_that_fails_leaves_nothing_and_may_be_run_again(empty_database_url: str) -> None:
    with connected(empty_database_url) as connection:
        connection.execute("CREATE TABLE dead_letter (of_another_house text)")

        with pytest.raises(OperatorStoreError, match="dead_letter"):
            await migrate(empty_database_url)

        assert [] == applied(empty_database_url)
        assert (None,) == connection.execute("SELECT to_regclass('meter_history')").fetchone()
        connection.execute("DROP TABLE dead_letter")
    assert NAMES == await migrate(empty_database_url)


async def test_a_database_that_was_not_migrated_is_for_an_operator(empty_database_url: str) -> None:
    writer = Writer(empty_database_url)

    with pytest.raises(OperatorStoreError, match="meter_history"):
        await writer.open()


# On a database of the first release

EARLY = datetime(2026, 11, 20, 0, 5, tzinfo=UTC)
FIRST: dict[str, list[tuple[Any, ...]]] = {
    "meter_history": [("m", EARLY, 0.5, 230.0, EARLY), ("m", EARLY + timedelta(hours=1), 0.25, 231.5, EARLY)],
    "meter_live": [("m", EARLY + timedelta(hours=1), 0.25, 231.5, EARLY)],
    "vehicle_history": [("v", EARLY, 85.5, 0.375, 28.5, EARLY)],
    "vehicle_live": [("v", EARLY, 85.5, 0.375, 28.5, EARLY)],
    "vehicle_meter_mapping": [("v", EARLY + timedelta(seconds=1), None, "m")],
}


@pytest.fixture
def first_release_url(empty_database_url: str) -> str:
    """A database as the first release made it, with readings and a mapping."""
    first = available()[0]
    with connected(empty_database_url) as connection:
        connection.execute(
            "CREATE TABLE ingestd_migration (version integer PRIMARY KEY, name text NOT NULL,"
            " applied_at timestamptz NOT NULL DEFAULT now())"
        )
        connection.execute(first.statements.encode())
        connection.execute("INSERT INTO ingestd_migration (version, name) VALUES (%s, %s)", first[:2])
        for stream in STREAMS:
            connection.execute("SELECT ingestd_make_partition(%s, %s)", (stream.history, DAY))
        for table, rows in FIRST.items():
            for row in rows:
                values = sql.SQL(", ").join(map(sql.Literal, row))
                connection.execute(sql.SQL("INSERT INTO {} VALUES ({})").format(sql.Identifier(table), values))
    return empty_database_url


async def test_readings_of_the_first_release_are_kept_as_they_were(first_release_url: str) -> None:
    assert NAMES[1:] == await migrate(first_release_url)

    with connected(first_release_url) as connection:
        connection.execute("SET timezone = 'UTC'")
        for table, rows in FIRST.items():
            # What is new stands behind what was there, and is not known of old readings.
            found = connection.execute(sql.SQL("TABLE {} ORDER BY 1, 2").format(sql.Identifier(table))).fetchall()
            assert [(*row, *[None] * (len(found[0]) - len(row))) for row in rows] == found


async def test_a_database_of_the_first_release_takes_registers_and_intervals_from_then_on(
    first_release_url: str,
) -> None:
    """Also in days that were there already, and beside what was there."""
    await migrate(first_release_url)
    then = to_microseconds(EARLY + timedelta(hours=2))
    tomorrow = then + MICROSECONDS_PER_DAY
    meters: list[Row] = [
        ("m", then, None, 230.0, 4000.0, NOW),
        ("m", then + 1, 0.125, 230.0, None, NOW),
        ("m", tomorrow, None, 230.0, 4001.0, NOW),
    ]
    vehicles: list[Row] = [("v", then, 80.0, None, 20.0, 10_760.0, NOW), ("v", tomorrow, 80.0, 0.5, 20.0, None, NOW)]
    async with opened(first_release_url) as house:
        await house.writer.write(Batch.of([delivery_of(FakeOrigin(), meters=meters, vehicles=vehicles)]))
        for rolled_up in (False, True):
            if rolled_up:
                await house.rollups.catch_up(EARLY + timedelta(hours=3))
            found = await house.performance("v", EARLY, EARLY + timedelta(days=2))

            # Of the vehicle: 0.375 from the first release and 0.5; a single reading of a register counts nothing.
            # Of the meter, but for its first reading, when it was not mapped: 0.25, 0.125, and 4001 - 4000.
            assert (0.875, 1.375) == (found.dc_kwh, found.ac_kwh)
            assert (3, 4) == (found.samples, found.meter_samples)
    with connected(first_release_url) as connection:
        live = connection.execute("SELECT kwh_consumed_ac, kwh_consumed_ac_register FROM meter_live").fetchall()
        assert [(None, 4001.0)] == live


async def test_a_day_of_the_first_release_has_the_indexes_of_a_new_one(first_release_url: str) -> None:
    await migrate(first_release_url)
    with connected(first_release_url) as connection:
        connection.execute(MAKE, (DAY + timedelta(days=1),))
        of_day = (
            "SELECT regexp_replace(indexdef, '.* USING ', '') FROM pg_indexes"
            " WHERE tablename = 'meter_history_' || to_char(%s::date, 'YYYYMMDD') ORDER BY 1"
        )
        old, new = (connection.execute(of_day, (day,)).fetchall() for day in (DAY, DAY + timedelta(days=1)))

        assert 3 == len(new)
        assert new == old


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


# What a dashboard's question costs


@pytest.fixture
def _ten_days(database: psycopg.Connection) -> None:
    """Twenty vehicles and meters, a reading every ten minutes of ten days up to DAY; one vehicle changes its meter."""
    for stream, figures in zip(STREAMS, ("1, 230", "50, 0.9, 20"), strict=True):
        database.execute(
            sql.SQL("SELECT ingestd_make_partition({name}, {day}::date - n) FROM generate_series(0, 9) AS n").format(
                name=sql.Literal(stream.history), day=sql.Literal(DAY)
            )
        )
        database.execute(
            sql.SQL(
                "INSERT INTO {history} SELECT 'd-' || device, ts, {figures}, ts FROM generate_series(1, 20) AS device,"
                " generate_series({day}::timestamptz - interval '9 days', {day}::timestamptz + interval '23 hours',"
                " interval '10 minutes') AS ts"
            ).format(
                history=sql.Identifier(stream.history),
                figures=sql.SQL(figures),
                day=sql.Literal(f"{DAY}T00:00:00Z"),
            )
        )
    database.execute(
        "INSERT INTO vehicle_meter_mapping VALUES ('d-7', '2026-01-01Z', '2026-11-14T12:00Z', 'd-3'),"
        " ('d-7', '2026-11-14T12:00Z', NULL, 'd-4')"
    )
    database.execute("ANALYZE")


class Explaining(Reads):
    """Keeps, of every query, the parts of its plan that did read a history table."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        self.scans: list[dict[str, Any]] = []

    async def fetch(self, statement: Statement, parameters: Mapping[str, object]) -> list[Any]:
        explain = replace(statement, text=b"EXPLAIN (ANALYZE, FORMAT JSON) " + statement.text)
        (((explained,),),) = await super().fetch(explain, parameters)
        self.scans += walk(explained["Plan"])
        return await super().fetch(statement, parameters)


def walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "_history_" in node.get("Relation Name", "") and node["Actual Loops"]:
        yield node
    for child in node.get("Plans", ()):
        yield from walk(child)


@pytest.mark.usefixtures("_ten_days")
async def test_performance_is_read_by_index_and_from_the_days_asked_for_only(database_url: str) -> None:
    reads = Explaining(database_url)
    await reads.open()
    window = TimeRange(start=datetime(2026, 11, 14, tzinfo=UTC), end=datetime(2026, 11, 15, 12, tzinfo=UTC))
    found = await Analytics(reads, judgement=JUDGEMENT).performance("d-7", window)
    await reads.close()

    # Six an hour, of 36 hours.
    assert found is not None
    assert (216, 216) == (found.samples, found.meter_samples)
    assert {scan["Node Type"] for scan in reads.scans} <= {"Index Scan", "Index Only Scan", "Bitmap Heap Scan"}
    assert all(scan.get("Rows Removed by Filter", 0) == 0 for scan in reads.scans)
    # Elsewhere it has a look into the indexes of registers, which are empty.
    assert {f"{stream.history}_{day}" for stream in STREAMS for day in ("20261114", "20261115")} == {
        scan["Relation Name"] for scan in reads.scans if scan["Actual Rows"]
    }
