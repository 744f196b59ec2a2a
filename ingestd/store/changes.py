"""The live rows that have changed since the last look at the live tables."""

from collections.abc import AsyncGenerator
from typing import Final

from ingestd.model.device import Changed
from ingestd.model.stream import STREAMS, Stream
from ingestd.store import queries
from ingestd.store.devices import live_reading
from ingestd.store.pool import Pool

VERSIONS_AT_ONCE: Final = 10_000
ROWS_AT_ONCE: Final = 250
"""About two milliseconds of work."""

_SQL: Final = queries.of_streams(queries.load("changes.sql"), STREAMS)


class Changes:
    """Compares the versions of all live rows with those of the last look.

    The time of arrival would not do: of two readings, the one that arrived first may be committed last, and much later.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._seen: dict[Stream, set[str]] = {stream: set() for stream in STREAMS}

    async def look(self) -> AsyncGenerator[Changed]:
        """What has changed since the last look, a few devices at a time; at the first look, all devices.

        Raises StoreError. After a look that failed, the next one gives all again that the failed one may have given.
        """
        for stream in STREAMS:
            seen, changed = set[str](), set[str]()
            async for versions in self._versions(stream):
                ids = [_device(version) for version in versions - self._seen[stream]]
                for begin in range(0, len(ids), ROWS_AT_ONCE):
                    rows = await self._pool.fetch(_SQL[stream]["newest_of"], {"ids": ids[begin : begin + ROWS_AT_ONCE]})
                    yield Changed(stream=stream, readings=[live_reading(stream, row) for row in rows])
                seen |= versions
                changed.update(ids)
            gone = {_device(version) for version in self._seen[stream] - seen} - changed
            if gone:
                yield Changed(stream=stream, gone=gone)
            self._seen[stream] = seen

    async def _versions(self, stream: Stream) -> AsyncGenerator[set[str]]:
        after = ""
        while True:
            ((text, last),) = await self._pool.fetch(
                _SQL[stream]["versions"], {"after": after, "limit": VERSIONS_AT_ONCE}
            )
            if text is None:
                return
            yield (versions := set(text.split(",")))
            if len(versions) < VERSIONS_AT_ONCE:
                return
            after = last


def _device(version: str) -> str:
    return version.partition(" ")[0]
