"""Puts days of history into the archive, before they are dropped."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import date, timedelta
from typing import Final

import structlog

from ingestd.archive.archive import Archive, need_pyarrow
from ingestd.archive.digest import Digest
from ingestd.archive.threads import in_thread
from ingestd.errors import ArchiveError
from ingestd.model.stream import Stream
from ingestd.model.timestamps import EPOCH, MICROSECONDS_PER_DAY
from ingestd.store import queries
from ingestd.store.connection import Connection, bounded, connect
from ingestd.store.copying import chunks_of
from ingestd.store.sqlstate import translated

log = structlog.get_logger(__name__)

_SQL: Final = queries.load("archive.sql")
SECONDS: Final = 3600.0
"""The limit for adding up a day, and for sorting it. A day of 7 million readings takes some 10 s."""


class Archiving:
    """The archive as retention uses it."""

    def __init__(self, archive: Archive, dsn: str) -> None:
        """`dsn` is for the role that owns the tables: it also reads those that are detached."""
        self._archive = archive
        self._dsn = dsn
        self._reasons: dict[Stream, str] = {}

    @property
    def reason(self) -> str | None:
        """Why days could not be archived at the last attempt; None where they could."""
        return next(iter(self._reasons.values()), None)

    @asynccontextmanager
    async def attempt(self, stream: Stream) -> AsyncIterator[None]:
        """Keeps the reason if days of this stream cannot be archived. Raises ArchiveError if none could be."""
        try:
            await in_thread(self._archive.check)
            yield
        except ArchiveError as error:
            if self._reasons.get(stream) != str(error):
                log.error("archive_failed", stream=stream.name, reason=str(error))  # noqa: TRY400 - no fault of ours
            self._reasons[stream] = str(error)
            raise
        self._reasons.pop(stream, None)

    async def put(self, stream: Stream, partition: str) -> None:
        """Leave the readings of a partition in the archive, checked. Raises ArchiveError and StoreError.

        What is there already is not written again. If the partition has others than each file of its day, such as
        readings that came late, all of them go into a further file.
        """
        need_pyarrow()
        day = date.fromisoformat(partition[-len("YYYYMMDD") :])
        with translated():
            async with await connect(self._dsn, application_name="ingestd-archive") as connection:
                await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                in_table = await _summed(connection, stream, partition)
                _check_span(in_table, partition, day)
                if in_table.readings and not await in_thread(self._has, stream, day, in_table):
                    await self._write(connection, stream, partition, day, in_table)

    def _has(self, stream: Stream, day: date, wanted: Digest) -> bool:
        from ingestd.archive.parquet import digest_of  # noqa: PLC0415 - an extra, and slow to load

        return any(digest_of(file, stream).agrees_with(wanted) for file in self._archive.days(stream).get(day, ()))

    async def _write(self, connection: Connection, stream: Stream, partition: str, day: date, expected: Digest) -> None:
        from ingestd.archive.day_file import DayFile  # noqa: PLC0415 - an extra, and slow to load

        statement = queries.for_stream(queries.load("exports.sql")["export"], stream, history=partition)
        everything = {"start": "-infinity", "end": "infinity", "device_id": None, "in_order": True}
        file = await in_thread(DayFile, self._archive, stream, day)
        try:
            async with aclosing(chunks_of(connection, statement, everything, seconds=SECONDS)) as chunks:
                async for chunk in chunks:
                    await in_thread(file.take, chunk)
            await in_thread(file.finish, expected)
            size = (await in_thread(file.path.stat)).st_size
        finally:
            await in_thread(file.close)
        log.info("day_archived", file=str(file.path), readings=expected.readings, bytes=size)


async def _summed(connection: Connection, stream: Stream, partition: str) -> Digest:
    statement = queries.for_stream(_SQL["sums"], stream, history=partition)
    async with bounded(connection, SECONDS), connection.cursor() as cursor:
        await cursor.execute(statement)
        row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - an aggregate has one row
    return Digest.of(stream, row)


def _check_span(digest: Digest, partition: str, day: date) -> None:
    """Raises ArchiveError if a partition has readings of another day than its name says: nobody would find them."""
    begin = (day - EPOCH.date()) // timedelta(days=1) * MICROSECONDS_PER_DAY
    first, last = digest.span
    if first is not None and last is not None and not begin <= int(first) <= int(last) < begin + MICROSECONDS_PER_DAY:
        raise ArchiveError(f"{partition} has readings of other days than {day:%Y-%m-%d}")
