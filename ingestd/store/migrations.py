"""Applies the numbered files of sql/schema/, each once and in its own transaction, under an advisory lock."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Final, NamedTuple

import structlog
from psycopg.errors import InsufficientPrivilege

from ingestd.errors import OperatorStoreError
from ingestd.store import citus, queries
from ingestd.store.connection import Connection, connect
from ingestd.store.sqlstate import translated

log = structlog.get_logger(__name__)

OWNER: Final = "ingestd_owner"
"""The role that owns the tables, and gives their rights to the others (sql/roles.sql)."""
SHARD_COUNT: Final = 32
"""Citus's default, too."""
_LOCK_KEY: Final = 0x696E_6765_7374_6400  # "ingestd" in ASCII, and a zero
_match_filename: Final = re.compile(r"([0-9]{4})_(\w+)\.sql").fullmatch


class Migration(NamedTuple):
    """One numbered file."""

    version: int
    name: str
    statements: str


def available() -> list[Migration]:
    """All migrations of this release, in order."""
    return sorted(
        Migration(int(matched[1]), matched[2], file.read_text(encoding="utf-8"))
        for file in (files("ingestd") / "sql" / "schema").iterdir()
        if (matched := _match_filename(file.name))
    )


def grants() -> str:
    """The statements that give its rights to each role."""
    return queries.script("grants.sql")


def roles() -> str:
    """The script for psql that makes the roles."""
    return queries.script("roles.sql")


async def migrate(dsn: str, *, shard_count: int = SHARD_COUNT) -> list[str]:
    """Bring the database up to date; returns the names of what was applied. Raises StoreError.

    If the database has the extension Citus, tables that are not distributed yet are, over `shard_count` shards.

    Several daemons may call this at once: one gets the lock, and the others then find nothing left to do. A role that
    may not change the schema can call it too: that is an error only if there is something to do.
    """
    connection = await connect(dsn, application_name="ingestd-migrate")
    async with connection:
        with translated():
            try:
                return await _migrate(connection, shard_count)
            except InsufficientPrivilege as error:
                raise OperatorStoreError(
                    f"the role {connection.info.user} may not bring the schema up to date"
                    f" ({error.diag.message_primary}): run `ingestd migrate` as the owner of the tables, with"
                    " INGESTD_OWNER_DATABASE_URL"
                ) from error


async def _migrate(connection: Connection, shard_count: int) -> list[str]:
    on_citus = await citus.is_used(connection)
    await connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK_KEY,))
    # Asked first: CREATE TABLE IF NOT EXISTS fails for a role that may not create tables, also if the table exists.
    found = await connection.execute("SELECT to_regclass('ingestd_migration') IS NOT NULL")
    if await found.fetchone() == (False,):
        await connection.execute(
            "CREATE TABLE ingestd_migration ("
            "version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
    rows = await (await connection.execute("SELECT version, name FROM ingestd_migration")).fetchall()
    applied: dict[int, str] = dict(rows)
    _refuse_other_schema(applied)
    pending = [migration for migration in available() if migration.version not in applied]
    for migration in pending:
        async with _transaction(connection):
            await connection.execute(migration.statements)
            await connection.execute("INSERT INTO ingestd_migration (version, name) VALUES (%s, %s)", migration[:2])
        log.info("schema_migrated", version=migration.version, name=migration.name)
    distributed: list[str] = []
    if on_citus:
        async with _transaction(connection):
            distributed = await citus.distribute(connection, shard_count)
    if connection.info.user == OWNER:
        async with _transaction(connection):
            await connection.execute(grants())
    return [f"{migration.version:04}_{migration.name}" for migration in pending] + distributed


@asynccontextmanager
async def _transaction(connection: Connection) -> AsyncIterator[None]:
    """While this waits for a long reader, all writers wait, too. So it fails and can be run again."""
    async with connection.transaction():
        await connection.execute("SET LOCAL lock_timeout = '10s'")
        yield


def _refuse_other_schema(applied: Mapping[int, str]) -> None:
    """Refuse a database whose migrations are not ours: schemas from before the first release are not migrated."""
    ours = {migration.version: migration.name for migration in available()}
    for version, name in applied.items():
        if ours.get(version) != name:
            raise OperatorStoreError(
                f"the database has another schema than this ingestd makes (migration {version:04} is {name!r}):"
                " use an empty database"
            )
