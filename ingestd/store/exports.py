"""Exports history as CSV: of what is in the database straight from COPY, of what is in the archive from its files."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, aclosing, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from ingestd.archive.archive import Archive, need_pyarrow
from ingestd.archive.pieces import archive_end, pieces
from ingestd.archive.threads import in_thread
from ingestd.model.periods import TimeRange
from ingestd.model.stream import STREAMS, Stream
from ingestd.store import queries
from ingestd.store.connection import Connection, bounded, connect, rows_of
from ingestd.store.copying import chunks_of
from ingestd.store.sqlstate import translated

_SQL: Final = queries.load("exports.sql")
_OF_STREAM: Final = {
    name: {stream: queries.for_stream(_SQL[name], stream) for stream in STREAMS}
    for name in ("has_sent", "hold", "divide_export", "export")
}

SILENCE_SECONDS: Final = 60.0
"""If the server sends nothing for this long, the connection is cut."""
TABLE_BYTES: Final = 4 * 1024 * 1024
"""Bytes of CSV that are merged with the archive at a time."""


class Exports:
    """Each export has a connection of its own, so that no query has to wait for it."""

    def __init__(
        self,
        dsn: str,
        *,
        archive: Archive | None = None,
        errors: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """`archive`: where days are that may be in the database no more.

        `errors` translates the errors further: those of a replica.
        """
        self._dsn = dsn
        self._archive = archive
        self._errors = errors

    async def csv(
        self, stream: Stream, window: TimeRange, device_id: str | None, *, in_order: bool = False
    ) -> AsyncGenerator[bytes]:
        """A line of names, which are the API's keys, and a line for each reading, in chunks of whole lines.

        One device is in order of time. All devices are in order of days, without an order within a day unless
        `in_order`. There is no line at all if the device is unknown. Raises StoreError and ArchiveError. `aclose` frees
        the connection at once.
        """
        parameters = {"start": window.start, "end": window.end, "device_id": device_id, "in_order": in_order}
        with self._errors(), translated():
            connection = await connect(self._dsn, application_name="ingestd-export")
            async with connection, AsyncExitStack() as copying:
                async with bounded(connection, SILENCE_SECONDS):
                    await connection.execute(_SQL["prepare_export"])
                    if self._archive is not None:
                        await connection.execute(_OF_STREAM["hold"][stream])
                    has_sent = await rows_of(connection, _OF_STREAM["has_sent"][stream], parameters)
                    if device_id is not None and not has_sent:
                        return
                    divided = [
                        row.at for row in await rows_of(connection, _OF_STREAM["divide_export"][stream], parameters)
                    ]
                # Listed after the database was asked first, so a day that is not in the list is still in the database.
                archived = await self._archived(stream)
                names = _names(stream)
                for piece, files in pieces(window, archived, divided):
                    of_piece = self._piece(connection, stream, device_id, piece, files, in_order=in_order)
                    async for chunk in await copying.enter_async_context(aclosing(of_piece)):
                        yield names + chunk
                        names = b""
                if names:
                    yield names

    async def archive_end(self, stream: Stream, window: TimeRange) -> datetime | None:
        """Up to when readings of the window are in the archive; None if none are. Raises ArchiveError."""
        return archive_end(window, await self._archived(stream))

    async def _archived(self, stream: Stream) -> Mapping[Any, Sequence[Path]]:
        return {} if self._archive is None else await in_thread(self._archive.days, stream)

    async def _piece(
        self,
        connection: Connection,
        stream: Stream,
        device_id: str | None,
        piece: TimeRange,
        files: Sequence[Path],
        *,
        in_order: bool,
    ) -> AsyncGenerator[bytes]:
        """A part of the window, without the line of names. With files, what the database has of it is merged in."""
        parameters = {
            "start": piece.start,
            "end": piece.end,
            "device_id": device_id,
            "in_order": in_order or bool(files),
        }
        copied = chunks_of(connection, _OF_STREAM["export"][stream], parameters, seconds=SILENCE_SECONDS, header=False)
        async with aclosing(copied):
            chunks = _with_archive(copied, stream, device_id, piece, files) if files else copied
            async with aclosing(chunks):
                async for chunk in chunks:
                    yield chunk


async def _with_archive(
    copied: AsyncIterator[bytes], stream: Stream, device_id: str | None, piece: TimeRange, files: Sequence[Path]
) -> AsyncGenerator[bytes]:
    need_pyarrow()
    from ingestd.archive.merge import merged  # noqa: PLC0415 - an extra, and slow to load
    from ingestd.archive.parquet import csv_of, table_of, tables_in  # noqa: PLC0415

    async def in_file(path: Path) -> AsyncGenerator[Any]:
        tables = tables_in(path, stream, piece, device_id)
        try:
            while (table := await in_thread(next, tables, None)) is not None:
                yield table
        finally:
            await in_thread(tables.close)

    async def in_database() -> AsyncGenerator[Any]:
        held = bytearray()
        async for chunk in copied:
            held += chunk
            if len(held) >= TABLE_BYTES:
                yield await in_thread(table_of, _names(stream) + held, stream)
                held.clear()
        if held:
            yield await in_thread(table_of, _names(stream) + held, stream)

    async with AsyncExitStack() as sources:
        opened = [
            await sources.enter_async_context(aclosing(source)) for source in (*map(in_file, files), in_database())
        ]
        async for table in await sources.enter_async_context(aclosing(merged(opened))):
            for chunk in await in_thread(csv_of, table):
                yield chunk


def _names(stream: Stream) -> bytes:
    return ",".join([stream.id_key, "timestamp", *stream.columns, "receivedAt"]).encode() + b"\n"
