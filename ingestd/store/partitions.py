"""History as a table of days, away from the hot path: partitions made ahead, listed, and dropped in their time."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, Literal

import psycopg
import structlog

from ingestd.errors import NoPartitionError, TransientStoreError
from ingestd.store import queries
from ingestd.store.database import READ_SECONDS, Connection, bounded, connect, rows_of, translated
from ingestd.telemetry import MICROSECONDS_PER_DAY, STREAMS, Stream, to_datetime

log = structlog.get_logger(__name__)

DAYS_AHEAD: Final = 2
CHANGE_SECONDS: Final = 60.0
"""A change that takes longer is given up: the server may be frozen, and then no timeout of its own fires."""
DROP_LOCK_TIMEOUT: Final = "1s"
"""There is another round for a partition in use, and nobody shall wait behind us for long."""
ROLLUPS_AT_ONCE: Final = 5000
MARK: Final = "ingestd: being dropped, as it is past INGESTD_RETENTION"

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
        self._dropped: Counter[Stream] = Counter()
        """Days that the last round dropped."""

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
        async with self._connected() as connection, bounded(connection, READ_SECONDS):
            return [
                Partition(**row._asdict())
                for stream in STREAMS
                for row in await rows_of(connection, _SQL["list_partitions"], {"history": stream.history, "mark": MARK})
            ]

    async def drop(self, stream: Stream, *, older_than: timedelta) -> None:
        """Drop the partitions of a stream that ended longer ago, and finish what an earlier round left undone.

        By the database's clock. A round that drops more than a day more than the one before says so at warning.

        Neither readers nor writers of other days wait for it. A TransientStoreError asks for another round: where a
        day is not rolled up yet, and where one is in use, which hides it from queries that begin from now on.
        """
        statement = queries.for_stream(_SQL["steps_to_drop"], stream)
        parameters = {"history": stream.history, "mark": MARK, "older_than": older_than}
        async with self._connected() as connection, _alone(connection, stream):
            async with bounded(connection, CHANGE_SECONDS):
                await connection.execute(f"SET lock_timeout = '{DROP_LOCK_TIMEOUT}'")
                expired = await rows_of(connection, statement, parameters)
            if len(expired) > self._dropped[stream] + 1:
                log.warning(
                    "many days of history are past their retention and are dropped now",
                    table=stream.history,
                    days=len(expired),
                    before=self._dropped[stream],
                    first=expired[0].name,
                    last=expired[-1].name,
                    retention_days=older_than.days,
                )
            self._dropped[stream] = len(expired)
            for name, steps in expired:
                async with bounded(connection, CHANGE_SECONDS):
                    await _take(connection, name, steps)

    async def delete_rollups(self, stream: Stream, *, older_than: timedelta) -> None:
        """Delete the rollups of days that ended longer ago."""
        statement = queries.for_stream(_SQL["delete_rollups"], stream)
        parameters = {"older_than": older_than, "limit": ROLLUPS_AT_ONCE}
        deleted = 0
        async with self._connected() as connection:
            while True:
                async with bounded(connection, CHANGE_SECONDS):
                    gone = len(await rows_of(connection, statement, parameters))
                deleted += gone
                if gone < ROLLUPS_AT_ONCE:
                    break
        if deleted:
            log.info("old rollups deleted", stream=stream.name, deleted=deleted)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        with translated():
            async with await connect(self._dsn, application_name="ingestd-partitions") as connection:
                yield connection


@asynccontextmanager
async def _alone(connection: Connection, stream: Stream) -> AsyncIterator[None]:
    """As the only one who drops partitions of this stream."""
    parameters = {"history": stream.history}
    async with bounded(connection, CHANGE_SECONDS):
        ((granted,),) = await rows_of(connection, _SQL["try_drop_lock"], parameters)
    if not granted:
        raise TransientStoreError(f"another ingestd is dropping partitions of {stream.history}")
    try:
        yield
    finally:
        if not connection.closed:
            async with bounded(connection, CHANGE_SECONDS):
                await connection.execute(_SQL["drop_unlock"], parameters)


async def _take(connection: Connection, name: str, steps: Sequence[str]) -> None:
    """Not in one transaction: DETACH CONCURRENTLY is several."""
    if not steps:
        raise TransientStoreError(f"{name} is past its retention, but not rolled up yet")
    try:
        for step in steps:
            await connection.execute(step.encode())
    except psycopg.errors.LockNotAvailable as error:
        raise TransientStoreError(f"{name} is past its retention, but in use") from error
    log.info("retention applied", partition=name, done=steps[-1])
