"""History as a table of days, away from the hot path: partitions made ahead, listed, and dropped in their time.

So are the months of the ledger, which are made where rows are stored.
"""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, Literal

import psycopg
import structlog

from ingestd.errors import NoPartitionError, TransientStoreError
from ingestd.model.stream import STREAMS, Stream
from ingestd.model.timestamps import MICROSECONDS_PER_DAY, to_datetime
from ingestd.store import queries
from ingestd.store.connection import Connection, bounded, connect, rows_of
from ingestd.store.pool import STATEMENT_SECONDS
from ingestd.store.sqlstate import translated

log = structlog.get_logger(__name__)

DAYS_AHEAD: Final = 2
CHANGE_SECONDS: Final = 60.0
"""A change that takes longer is given up: the server may be frozen, and then no timeout of its own fires."""
DROP_LOCK_TIMEOUT: Final = "1s"
"""There is another round for a partition in use, and nobody shall wait behind us for long."""
DAY: Final = r"_\d{8}$"
"""How the names of days end: YYYYMMDD. What has another name is not ours."""
MONTH: Final = r"_\d{6}$"
DROP_COMMENT: Final = "ingestd: being dropped, as it is past INGESTD_RETENTION"

_SQL: Final = queries.load("partitions.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """One UTC day of a history table."""

    table: str
    name: str
    day: date
    age_days: int
    """0 is today; the days made ahead are negative."""
    bytes: int
    """With indexes and TOAST."""
    rows: int | None
    """As VACUUM or ANALYZE estimated last; None where neither has been there."""
    state: Literal["attached", "dropping", "detaching", "detached"]
    """`dropping`: begun by ingestd, which finishes it. `detaching`, `detached`: by somebody else, and left alone."""


async def make_partition(connection: Connection, stream: Stream, day: int) -> None:
    """Make the partition of a day since 2000-01-01 unless it is there.

    Raises NoPartitionError where somebody has detached that day; other errors of psycopg's are the caller's.
    """
    try:
        made = await connection.execute(_SQL["make_partition"], {"history": stream.history, "day": day})
    except psycopg.errors.InvalidTableDefinition as error:
        raise NoPartitionError(str(error.diag.message_primary), history=stream.history, day=day) from error
    if await made.fetchone() == (True,):
        log.debug("partition made", table=stream.history, day=f"{to_datetime(day * MICROSECONDS_PER_DAY):%F}")


class Partitions:
    """The days of the history tables; every method raises StoreError, and connects for as long as it takes."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._made_ahead_on: int | None = None
        self._dropped: Counter[str] = Counter()
        """By table, how many the last round dropped."""

    async def make_ahead(self) -> None:
        """Today's partitions and those of the next days, so that midnight costs nothing; once a day is enough."""
        async with self._connected() as connection, bounded(connection, CHANGE_SECONDS):
            ((today,),) = await rows_of(connection, _SQL["today"], {})
            if self._made_ahead_on == today:
                return
            for stream in STREAMS:
                for day in range(today, today + DAYS_AHEAD + 1):
                    try:
                        await make_partition(connection, stream, day)
                    except NoPartitionError as error:
                        log.warning("readings of that day will become dead letters", reason=str(error))
        self._made_ahead_on = today

    async def days(self) -> list[Partition]:
        """All partitions, by table and day."""
        async with self._connected() as connection, bounded(connection, STATEMENT_SECONDS):
            return [
                Partition(**row._asdict())
                for stream in STREAMS
                for row in await rows_of(
                    connection, _SQL["list_partitions"], {"history": stream.history, "mark": DROP_COMMENT}
                )
            ]

    async def drop_days(self, stream: Stream, *, older_than: timedelta) -> None:
        """Drop the days of history that ended longer ago, up to where the ledger is made."""
        async with self._connected() as connection:
            async with bounded(connection, STATEMENT_SECONDS):
                ((made_until,),) = await rows_of(connection, _SQL["ledger_made_until"], {"stream": stream.name})
            await self._drop(connection, stream.history, DAY, older_than, made_until)

    async def drop_months(self, stream: Stream, *, older_than: timedelta) -> None:
        """Drop the months of the ledger that ended longer ago."""
        async with self._connected() as connection:
            for table in (f"{stream.name}_quarter", f"{stream.name}_hour"):
                await self._drop(connection, table, MONTH, older_than, None)

    async def _drop(
        self, connection: Connection, table: str, suffix: str, older_than: timedelta, made_until: str | None
    ) -> None:
        """Drop the partitions of a table that ended longer ago, and finish what an earlier round left undone.

        By the database's clock. A round that drops more than one more than the one before says so at warning.

        Neither readers nor writers of others wait for it. A TransientStoreError asks for another round: where one ended
        later than `made_until`, and where one is in use, which hides it from queries that begin from now on.
        """
        parameters = {
            "table": table,
            "suffix": suffix,
            "mark": DROP_COMMENT,
            "older_than": older_than,
            "made_until": made_until,
        }
        async with _alone(connection, table):
            async with bounded(connection, CHANGE_SECONDS):
                await connection.execute(f"SET lock_timeout = '{DROP_LOCK_TIMEOUT}'")
                expired = await rows_of(connection, _SQL["steps_to_drop"], parameters)
            if len(expired) > self._dropped[table] + 1:
                log.warning(
                    "many partitions are past their retention and are dropped now",
                    table=table,
                    partitions=len(expired),
                    before=self._dropped[table],
                    first=expired[0].name,
                    last=expired[-1].name,
                    retention_days=older_than.days,
                )
            self._dropped[table] = len(expired)
            for name, steps in expired:
                async with bounded(connection, CHANGE_SECONDS):
                    await _take(connection, name, steps)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        with translated():
            async with await connect(self._dsn, application_name="ingestd-partitions") as connection:
                yield connection


@asynccontextmanager
async def _alone(connection: Connection, table: str) -> AsyncIterator[None]:
    """As the only one who drops partitions of this table."""
    parameters = {"table": table}
    async with bounded(connection, CHANGE_SECONDS):
        ((granted,),) = await rows_of(connection, _SQL["try_drop_lock"], parameters)
    if not granted:
        raise TransientStoreError(f"another ingestd is dropping partitions of {table}")
    try:
        yield
    finally:
        if not connection.closed:
            async with bounded(connection, CHANGE_SECONDS):
                await connection.execute(_SQL["drop_unlock"], parameters)


async def _take(connection: Connection, name: str, steps: Sequence[str]) -> None:
    """Not in one transaction: DETACH CONCURRENTLY is several."""
    if not steps:
        raise TransientStoreError(f"{name} is past its retention, but not in the ledger yet")
    try:
        for step in steps:
            await connection.execute(step.encode())
    except psycopg.errors.LockNotAvailable as error:
        raise TransientStoreError(f"{name} is past its retention, but in use") from error
    log.info("retention applied", partition=name, done=steps[-1])
