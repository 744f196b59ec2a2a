"""Citus: whether the database uses it, and which tables it distributes (docs/scaling.md)."""

from typing import Final

import structlog

from ingestd.errors import OperatorStoreError
from ingestd.store import queries
from ingestd.store.connection import Connection

log = structlog.get_logger(__name__)

_EXTENSION: Final = "SELECT installed_version IS NOT NULL FROM pg_available_extensions WHERE name = 'citus'"
_DISTRIBUTED: Final = """
    SELECT logicalrelid::text
    FROM pg_dist_partition JOIN pg_class ON pg_class.oid = logicalrelid
    WHERE NOT relispartition
"""


async def is_used(connection: Connection) -> bool:
    """Whether the database has the extension. Raises OperatorStoreError if its tables belong on another server."""
    found = await (await connection.execute(_EXTENSION)).fetchone()
    if found == (False,):
        log.info("citus_not_used", database=connection.info.dbname, hint="CREATE EXTENSION citus, then migrate again")
    if found != (True,):
        return False
    if await (await connection.execute("SELECT citus_is_coordinator()")).fetchone() == (False,):
        raise OperatorStoreError("the server is a worker of Citus: ingestd needs the address of the coordinator")
    return True


async def distribute(connection: Connection, shard_count: int) -> list[str]:
    """Distribute what is not distributed yet, inside of the caller's transaction. Returns a line for each table."""
    await connection.execute("SELECT set_config('citus.shard_count', %s, true)", (str(shard_count),))
    # It tells of each table that it copies.
    await connection.execute("SET LOCAL client_min_messages = 'warning'")
    before = await _distributed(connection)
    await connection.execute(queries.script("citus.sql"))
    tables = sorted(await _distributed(connection) - before)
    if tables:
        log.info("tables_distributed", tables=tables, shards=shard_count)
    return [f"distributed {table}" for table in tables]


async def _distributed(connection: Connection) -> set[str]:
    return {table for (table,) in await (await connection.execute(_DISTRIBUTED)).fetchall()}
