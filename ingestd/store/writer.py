"""The write path: one batch, one transaction.

    optimistic   COPY straight into history; MERGE of the newest row of each device into the live table (on Citus an
                 upsert). If any statement fails, usually with the unique violation of a redelivery, the transaction is
                 repeated:
    staged       COPY into a temporary table, INSERT ... ON CONFLICT DO NOTHING from there; upsert of the newest rows.
                 If this fails, too, its error is the one that counts.
In both, readings of closed quarters are staged and mark their quarters as stale, and dead letters are written before
COMMIT.
"""

import asyncio
from collections import Counter
from collections.abc import Collection, Sequence
from operator import itemgetter
from typing import Any, Final, TypeAlias

import psycopg
from psycopg import AsyncCursor
from psycopg.abc import Buffer
from psycopg.copy import AsyncLibpqWriter, AsyncWriter

from ingestd import failpoints
from ingestd.errors import TransientStoreError
from ingestd.model.dead_letter import DeadLetter
from ingestd.model.quarters import quarter_of
from ingestd.model.stream import STREAMS, Row, Stream
from ingestd.model.timestamps import MICROSECONDS_PER_DAY
from ingestd.pipeline.delivery import Batch, StreamBatch, newest_per_device
from ingestd.store import queries
from ingestd.store.connection import HUNG_TIMEOUT, Connection, bounded, closed_on_error, connect, cut
from ingestd.store.partitions import make_partition
from ingestd.store.sqlstate import translated

Cursor: TypeAlias = AsyncCursor[tuple[Any, ...]]

WRITE_SECONDS: Final = 60.0
"""If a transaction takes longer, the connection is cut: the server may hang, and then its own timeouts do not work."""
LOCK_TIMEOUT: Final = "10s"
ROWS_AT_ONCE: Final = 4000
"""Formatting this many rows takes two or three milliseconds. Then other tasks of the event loop run."""
_LETTER_TYPES: Final = ("int8", "text", "text", "text", "bytea", "text", "text")

_WAIT_FOR_STANDBY: Final = "SyncRepWaitForLSN"
"""The function of PostgreSQL that waits for a synchronous standby. If somebody cancels the wait, it warns, and the
transaction is committed, though the standby may lack it (src/backend/replication/syncrep.c)."""

_timestamp: Final = itemgetter(1)
_WRITE: Final = queries.load("write.sql")
_COPY_DEAD_LETTERS: Final = _WRITE["copy_dead_letters"].as_bytes()


class Writer:
    """Writes all readings, on one connection. If the connection is lost, the next write makes another one."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: Connection | None = None
        self._days: dict[Stream, set[int]] = {stream: set() for stream in STREAMS}
        self._unconfirmed: str | None = None
        """What PostgreSQL said when it committed without its synchronous standby."""
        self._distributed: set[Stream] = set()
        """Streams whose tables Citus has distributed."""
        self._sql: dict[Stream, dict[str, bytes]] = {
            stream: {name: queries.for_stream(statement, stream).as_bytes() for name, statement in _WRITE.items()}
            for stream in STREAMS
        }

    async def open(self) -> None:
        """Connect; raises StoreError."""
        with translated():
            await self._connected()

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    def cut(self) -> None:
        """Leave a server that may hang: the write under way fails, and the next one makes another connection."""
        if self._connection is not None:
            cut(self._connection)

    async def write(self, batch: Batch) -> dict[Stream, Counter[int]]:
        """Commit the batch; returns for each stream how many rows of each origin were new. Raises StoreError.

        A batch can always be repeated, also if the answer to COMMIT was lost: rows that exist stay as they are.
        """
        with translated():
            connection = await self._connected()
            async with bounded(connection, WRITE_SECONDS):
                await self._make_partitions(connection, batch)
                try:
                    return await self._transact(connection, batch, staged=False)
                except psycopg.Error:
                    if connection.closed:
                        raise
                try:
                    return await self._transact(connection, batch, staged=True)
                except psycopg.errors.CheckViolation as error:
                    if error.diag.constraint_name is not None:
                        raise
                # "no partition of relation found for row": an operator has dropped or detached it.
                self._forget_partitions()
                await self._make_partitions(connection, batch)
                return await self._transact(connection, batch, staged=True)

    async def live_devices(self) -> dict[Stream, set[str]]:
        """The ids of the devices with a live row. Raises StoreError."""
        with translated():
            connection = await self._connected()
            async with bounded(connection, WRITE_SECONDS):
                return {stream: await self._ids(connection, stream) for stream in STREAMS}

    async def _ids(self, connection: Connection, stream: Stream) -> set[str]:
        ((joined,),) = await (await connection.execute(self._sql[stream]["live_devices"])).fetchall()
        return set(joined.split()) if joined else set()

    async def _connected(self) -> Connection:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        connection = await connect(self._dsn, application_name="ingestd-writer")
        connection.add_notice_handler(self._noticed)
        async with closed_on_error(connection), bounded(connection, WRITE_SECONDS):
            await self._prepare(connection)
        self._connection = connection
        return connection

    async def _prepare(self, connection: Connection) -> None:
        await connection.execute(
            f"SET lock_timeout = '{LOCK_TIMEOUT}'; SET idle_in_transaction_session_timeout = '{HUNG_TIMEOUT}'"
        )
        # What we acknowledge must be on disk, whatever the server's default is.
        await connection.execute(
            "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
        )
        for stream in STREAMS:
            await connection.execute(self._sql[stream]["prepare_session"])
            days = await connection.execute(_WRITE["partition_days"], {"history": stream.history})
            self._days[stream] = {row[0] for row in await days.fetchall()}
            distributed = await connection.execute(_WRITE["is_distributed"], {"live": stream.live})
            if await distributed.fetchone() == (True,):
                self._distributed.add(stream)

    def _noticed(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.source_function == _WAIT_FOR_STANDBY:
            self._unconfirmed = notice.message_primary

    async def _transact(self, connection: Connection, batch: Batch, *, staged: bool) -> dict[Stream, Counter[int]]:
        committed: dict[Stream, Counter[int]] = {}
        self._unconfirmed = None
        async with connection.transaction(), connection.cursor() as cursor:
            closed_until = await self._closed_until(cursor)
            for stream, part in batch.readings.items():
                store = self._staged if staged else self._optimistic
                committed[stream] = await store(cursor, stream, part, closed_until[stream])
            if batch.dead_letters:
                await self._dead_letters(cursor, batch.dead_letters)
            failpoints.reach("before-commit")
        failpoints.reach("after-commit")
        if self._unconfirmed is not None:
            raise TransientStoreError(f"the standby has not confirmed the commit: {self._unconfirmed}")
        return committed

    async def _optimistic(
        self, cursor: Cursor, stream: Stream, part: StreamBatch, closed_until: int | None
    ) -> Counter[int]:
        sql, newest = self._sql[stream], newest_per_device(part.rows)
        late, in_time = part.parted(closed_until)
        # If every device is there once, as usual in large fleets, both tables take the same bytes.
        sent = _Sent(cursor) if in_time is part and len(newest) == len(part.rows) else None
        await _copy(cursor, sql["copy_history"], newest if sent else in_time.rows, stream.copy_types, writer=sent)
        committed = Counter(in_time.origins)
        if late.rows:
            committed += await self._insert_staged(cursor, stream, late, closed_until)
        if sent:
            async with cursor.copy(sql["copy_newest"]) as copy:
                for block in sent.blocks:
                    await copy.write(block)
        else:
            await _copy(cursor, sql["copy_newest"], newest, stream.copy_types)
        await cursor.execute(sql["upsert_live" if stream in self._distributed else "merge_live"])
        return committed

    async def _staged(
        self, cursor: Cursor, stream: Stream, part: StreamBatch, closed_until: int | None
    ) -> Counter[int]:
        committed = await self._insert_staged(cursor, stream, part, closed_until)
        await _copy(cursor, self._sql[stream]["copy_newest"], newest_per_device(part.rows), stream.copy_types)
        await cursor.execute(self._sql[stream]["upsert_live"])
        return committed

    async def _insert_staged(
        self, cursor: Cursor, stream: Stream, part: StreamBatch, closed_until: int | None
    ) -> Counter[int]:
        await _copy(cursor, self._sql[stream]["copy_staged"], part.rows, stream.copy_types)
        await cursor.execute(self._sql[stream]["insert_staged"])
        inserted = await cursor.fetchall()
        if closed_until is not None:
            stale = {(device, quarter_of(at)) for device, at in inserted if at <= closed_until}
            await self._mark_stale(cursor, stream, stale)
        origins = {row[:2]: origin for row, origin in zip(part.rows, part.origins, strict=True)}
        return Counter(origins[key] for key in inserted)

    async def _mark_stale(self, cursor: Cursor, stream: Stream, stale: Collection[tuple[str, int]]) -> None:
        if stale:
            ids, starts = map(list, zip(*stale, strict=True))
            await cursor.execute(self._sql[stream]["mark_stale"], {"ids": ids, "starts": starts})

    async def _closed_until(self, cursor: Cursor) -> dict[Stream, int | None]:
        """By stream: quarters are closed up to this time; None: no quarter is closed."""
        (closed,) = await (await cursor.execute(_WRITE["closed_until"])).fetchall()
        return {stream: closed[0].get(stream.name) for stream in STREAMS}

    async def _dead_letters(self, cursor: Cursor, letters: Sequence[DeadLetter]) -> None:
        await _copy(cursor, _COPY_DEAD_LETTERS, [_letter_row(letter) for letter in letters], _LETTER_TYPES)

    async def _make_partitions(self, connection: Connection, batch: Batch) -> None:
        """Make missing partitions for the days of the batch, in a transaction of their own."""
        for stream, part in batch.readings.items():
            known = self._days[stream]
            timestamps = list(map(_timestamp, part.rows))
            if known.issuperset(
                range(min(timestamps) // MICROSECONDS_PER_DAY, max(timestamps) // MICROSECONDS_PER_DAY + 1)
            ):
                continue
            for day in {timestamp // MICROSECONDS_PER_DAY for timestamp in timestamps} - known:
                await make_partition(connection, stream, day)
                known.add(day)

    def _forget_partitions(self) -> None:
        for days in self._days.values():
            days.clear()


class _Sent(AsyncLibpqWriter):
    """Sends blocks of COPY's bytes, and keeps them to send them again."""

    def __init__(self, cursor: Cursor) -> None:
        super().__init__(cursor)
        self.blocks: list[Buffer] = []

    async def write(self, data: Buffer) -> None:
        self.blocks.append(data)
        await super().write(data)


async def _copy(
    cursor: Cursor, statement: bytes, rows: Sequence[Row], types: Sequence[str], *, writer: AsyncWriter | None = None
) -> None:
    async with cursor.copy(statement, writer=writer) as copy:
        copy.set_types(types)
        for number, row in enumerate(rows, 1):
            await copy.write_row(row)
            if number % ROWS_AT_ONCE == 0:
                await asyncio.sleep(0)


def _letter_row(letter: DeadLetter) -> Row:
    return (
        letter.received_at,
        letter.source,
        letter.stream,
        letter.topic,
        letter.payload,
        letter.reason,
        letter.detail,
    )
