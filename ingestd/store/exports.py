"""Exports history as CSV, straight from COPY: no row is decoded here, and only a few are in memory."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, aclosing, nullcontext
from itertools import pairwise
from typing import Final

from ingestd.model.periods import TimeRange
from ingestd.model.stream import STREAMS, Stream
from ingestd.store import queries
from ingestd.store.connection import bounded, connect, rows_of
from ingestd.store.copying import chunks_of
from ingestd.store.sqlstate import translated

_SQL: Final = queries.load("exports.sql")
_HAS_SENT: Final = {stream: queries.for_stream(_SQL["has_sent"], stream) for stream in STREAMS}
_DIVIDE: Final = {stream: queries.for_stream(_SQL["divide_export"], stream) for stream in STREAMS}
_EXPORT: Final = {stream: queries.for_stream(_SQL["export"], stream) for stream in STREAMS}

SILENCE_SECONDS: Final = 60.0
"""If the server sends nothing for this long, the connection is cut."""


class Exports:
    """Each export has a connection of its own, so that no query has to wait for it."""

    def __init__(self, dsn: str, *, errors: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        """`errors` translates the errors further: those of a replica."""
        self._dsn = dsn
        self._errors = errors

    async def csv(self, stream: Stream, window: TimeRange, device_id: str | None) -> AsyncGenerator[bytes]:
        """A line of names, which are the API's keys, and a line for each reading, in chunks of whole lines.

        One device is in order of time. All devices are in order of days, without an order within a day. There is no
        line at all if the device is unknown. Raises StoreError. `aclose` frees the connection at once.
        """
        parameters = {"start": window.start, "end": window.end, "device_id": device_id}
        with self._errors(), translated():
            connection = await connect(self._dsn, application_name="ingestd-export")
            async with connection:
                async with bounded(connection, SILENCE_SECONDS):
                    await connection.execute(_SQL["prepare_export"])
                    if device_id is not None and not await rows_of(connection, _HAS_SENT[stream], parameters):
                        return
                    divided = [row.at for row in await rows_of(connection, _DIVIDE[stream], parameters)]
                for start, end in pairwise([window.start, *divided, window.end]):
                    its = parameters | {"start": start, "end": end}
                    copied = chunks_of(
                        connection, _EXPORT[stream], its, seconds=SILENCE_SECONDS, header=start == window.start
                    )
                    async with aclosing(copied) as chunks:
                        async for chunk in chunks:
                            yield chunk
