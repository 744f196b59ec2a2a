"""Partitions: makes those of history ahead of time, lists them, and drops those that are past their retention.

A partition of history is a day. Those of the ledger are months; they are made when rows are stored, and dropped here.
"""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from typing import Final, Literal, TypeAlias

import psycopg
import structlog

from ingestd import failpoints
from ingestd.errors import IngestdError, NoPartitionError, OperatorStoreError, TransientStoreError
from ingestd.model.stream import STREAMS, Stream
from ingestd.model.timestamps import MICROSECONDS_PER_DAY, to_datetime
from ingestd.store import queries
from ingestd.store.archiving import Archiving
from ingestd.store.connection import Connection, bounded, connect, rows_of
from ingestd.store.pool import STATEMENT_SECONDS
from ingestd.store.sqlstate import translated

log = structlog.get_logger(__name__)

DAYS_AHEAD: Final = 2
CHANGE_SECONDS: Final = 60.0
"""If a change takes longer, the connection is cut: the server may hang, and then its own timeouts do not work."""
DROP_LOCK_TIMEOUT: Final = "1s"
"""A partition in use is tried again later; other sessions should not have to wait for us for long."""
DAY: Final = r"_\d{8}$"
"""The names of days end with YYYYMMDD. A partition with another name was not made by ingestd."""
MONTH: Final = r"_\d{6}$"
DROP_COMMENT: Final = "ingestd: being dropped, as it is past INGESTD_RETENTION"

Archive: TypeAlias = Callable[[str], Awaitable[None]]
"""Puts the readings of a partition into the archive, unless they are there."""

_SQL: Final = queries.load("partitions.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """One UTC day of a history table."""

    table: str
    name: str
    day: date
    age_days: int
    """0 is today; days made ahead of time are negative."""
    bytes: int
    """With indexes and TOAST."""
    rows: int | None
    """The last estimate of VACUUM or ANALYZE; None if neither has run yet."""
    state: Literal["attached", "dropping", "detaching", "detached"]
    """`dropping`: ingestd has begun to drop it and will finish. `detaching`, `detached`: by an operator."""


async def make_partition(connection: Connection, stream: Stream, day: int) -> None:
    """Make the partition of a day since 2000-01-01 unless it is there.

    Raises NoPartitionError if an operator has detached that day, and psycopg's other errors.
    """
    try:
        made = await connection.execute(_SQL["make_partition"], {"history": stream.history, "day": day})
    except psycopg.errors.InvalidTableDefinition as error:
        raise NoPartitionError(str(error.diag.message_primary), history=stream.history, day=day) from error
    if await made.fetchone() == (True,):
        log.debug("partition_made", table=stream.history, day=f"{to_datetime(day * MICROSECONDS_PER_DAY):%F}")


class Partitions:
    """The partitions of all tables. Each method opens its own connection and raises StoreError."""

    def __init__(self, dsn: str, *, owner: str | None = None, archiving: Archiving | None = None) -> None:
        """`owner` is the URL for the role that owns the tables: only it can drop partitions.

        `archiving`: no day of history is dropped before it is in the archive.
        """
        self._dsn = dsn
        self._owner = owner or dsn
        self._archiving = archiving
        self._made_ahead_on: int | None = None
        self._dropped: Counter[str] = Counter()
        """By table: the number of partitions that the last round dropped."""

    async def make_ahead(self) -> None:
        """Make the partitions of today and the next days, once a day, so that no writer has to at midnight."""
        async with _connected(self._dsn) as connection, bounded(connection, CHANGE_SECONDS):
            ((today,),) = await rows_of(connection, _SQL["today"], {})
            if self._made_ahead_on == today:
                return
            for stream in STREAMS:
                for day in range(today, today + DAYS_AHEAD + 1):
                    try:
                        await make_partition(connection, stream, day)
                    except NoPartitionError as error:
                        log.warning("partition_missing", reason=str(error))
        self._made_ahead_on = today

    async def days(self) -> list[Partition]:
        """All partitions of history, by table and day."""
        async with _connected(self._dsn) as connection, bounded(connection, STATEMENT_SECONDS):
            return [
                Partition(**row._asdict())
                for stream in STREAMS
                for row in await rows_of(
                    connection, _SQL["list_partitions"], {"history": stream.history, "mark": DROP_COMMENT}
                )
            ]

    async def drop_days(self, stream: Stream, *, older_than: timedelta) -> None:
        """Drop the days of history that ended longer ago, but none whose rows in the ledger are not made yet.

        Raises ArchiveError, too.
        """
        archiving = self._archiving
        async with (
            nullcontext() if archiving is None else archiving.attempt(stream),
            _connected(self._owner) as connection,
        ):
            async with bounded(connection, STATEMENT_SECONDS):
                ((made_until,),) = await rows_of(connection, _SQL["ledger_made_until"], {"stream": stream.name})
            archive = None if archiving is None else partial(archiving.put, stream)
            await self._drop(connection, stream.history, DAY, older_than, made_until, archive=archive)

    async def archive_day(self, stream: Stream, day: date) -> None:
        """Put one day that has ended into the archive now. Its partition stays. Raises IngestdError."""
        assert self._archiving is not None, "an archive is needed"  # noqa: S101 - the caller's mistake
        days = {(of_day.table, of_day.day): of_day for of_day in await self.days()}
        found = days.get((stream.history, day))
        if found is None:
            raise IngestdError(f"there is no {day:%F} in {stream.history}")
        if found.age_days <= 0:
            raise IngestdError(f"{day:%F} has not ended yet")
        async with _connected(self._owner) as connection, _alone(connection, stream.history):
            await self._archiving.put(stream, found.name)

    async def drop_months(self, stream: Stream, *, older_than: timedelta) -> None:
        """Drop the months of the ledger that ended longer ago."""
        async with _connected(self._owner) as connection:
            for table in (f"{stream.name}_quarter", f"{stream.name}_hour"):
                await self._drop(connection, table, MONTH, older_than, None)

    async def _drop(
        self,
        connection: Connection,
        table: str,
        suffix: str,
        older_than: timedelta,
        made_until: str | None,
        *,
        archive: Archive | None = None,
    ) -> None:
        """Drop the partitions of a table that ended longer ago by the database's clock, and finish earlier drops.

        A round that drops at least two more partitions than the one before logs a warning. Readers and writers of other
        partitions do not wait. Raises TransientStoreError, to be called again, if a partition ended later than
        `made_until`, or if one is in use; queries that begin after this do not see that one.
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
                    "many_partitions_expired",
                    table=table,
                    partitions=len(expired),
                    before=self._dropped[table],
                    first=expired[0].name,
                    last=expired[-1].name,
                    retention_days=older_than.days,
                )
            self._dropped[table] = len(expired)
            for name, steps in expired:
                if archive is not None and steps and steps[-1].startswith("DROP"):
                    await archive(name)
                    failpoints.reach("before-detach")
                    if len(steps) > 1:
                        await _take(connection, name, steps[:-1])
                        await archive(name)  # somebody may have added a reading before it was detached
                    failpoints.reach("before-drop")
                    await _take(connection, name, steps[-1:])
                else:
                    await _take(connection, name, steps)
                log.info("retention_applied", partition=name, statement=steps[-1])


@asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[Connection]:
    with translated():
        async with await connect(dsn, application_name="ingestd-partitions") as connection:
            yield connection


@asynccontextmanager
async def _alone(connection: Connection, table: str) -> AsyncIterator[None]:
    """Hold the lock that allows one daemon at a time to drop partitions of this table."""
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
    """Run the statements one by one: DETACH CONCURRENTLY cannot run inside a transaction."""
    if not steps:
        raise TransientStoreError(f"{name} is past its retention, but not in the ledger yet")
    try:
        async with bounded(connection, CHANGE_SECONDS):
            for step in steps:
                await connection.execute(step.encode())
    except psycopg.errors.LockNotAvailable as error:
        raise TransientStoreError(f"{name} is past its retention, but in use") from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise OperatorStoreError(
            f"the role {connection.info.user} may not drop {name}, which is past its retention:"
            " set INGESTD_OWNER_DATABASE_URL"
        ) from error
