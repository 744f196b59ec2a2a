"""The table of dead letters: pages of it, replay, purge, and retention."""

from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Final, NamedTuple

import structlog

from ingestd.errors import DataStoreError
from ingestd.model.audit import Action, AuditEntry
from ingestd.model.dead_letter import DeadLetterFilter, device_of
from ingestd.model.decode import Window, decode
from ingestd.model.stream import Row, Stream
from ingestd.model.timestamps import now_microseconds
from ingestd.pipeline.delivery import Batch, StreamBatch
from ingestd.pipeline.known_devices import KnownDevices
from ingestd.pipeline.letter_limits import NOT_LIMITED, ROW_BYTES
from ingestd.store import queries
from ingestd.store.audit import Audit
from ingestd.store.pool import Pool
from ingestd.store.writer import Writer

log = structlog.get_logger(__name__)

_SOURCES: Final = queries.load("dead_letters.sql")
_SQL: Final = queries.all_ready(_SOURCES)

PAGE: Final = 1000


@dataclass(slots=True, kw_only=True)
class Replayed:
    """The result of a replay."""

    stored: int = 0
    duplicates: int = 0
    still_bad: int = 0


class DeadLetters:
    """The dead_letter table. Rows are namedtuples of its columns; every method raises StoreError."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def page(self, wanted: DeadLetterFilter, *, limit: int, before: int | None = None) -> list[Any]:
        """At most `limit`, the newest first, with ids below `before`."""
        return await self._pool.fetch(_SQL["page_dead_letters"], {**asdict(wanted), "limit": limit, "before": before})

    async def count(self, wanted: DeadLetterFilter) -> int:
        ((letters,),) = await self._pool.fetch(_SQL["count_dead_letters"], asdict(wanted))
        return int(letters)

    async def get(self, letter_id: int) -> Any | None:  # noqa: ANN401 - psycopg makes the class at run time
        rows = await self._pool.fetch(_SQL["one_dead_letter"], {"id": letter_id})
        return rows[0] if rows else None

    async def purge(self, wanted: DeadLetterFilter, *, who: str) -> int:
        """Delete them; returns how many. The audit has the filter at the beginning, and the result at the end."""
        await self._record("dead-letters-purged", who, filter=asdict(wanted))
        purged = await self._delete(_SQL["purge_dead_letters"], asdict(wanted))
        await self._record("dead-letters-purged", who, deleted=purged)
        return purged

    async def expire(self, *, older_than: timedelta) -> None:
        """Delete dead letters that were stored longer ago, by the database's clock."""
        if expired := await self._delete(_SQL["expire_dead_letters"], {"older_than": older_than}):
            log.info("dead_letters_expired", deleted=expired)

    async def size(self) -> int:
        """About how many bytes they take in the database."""
        ((size,),) = await self._pool.fetch(_SQL["dead_letter_bytes"], {"row_bytes": ROW_BYTES})
        return int(size)

    async def of_last_hour(self) -> list[tuple[str, str | None, int]]:
        """Stream, device and number of letters, but for those that are not limited by device; the most first."""
        rows = await self._pool.fetch(_SQL["recent_dead_letters"], {"but": NOT_LIMITED})
        return [(row.stream, device_of(row.stream, row.device), row.letters) for row in rows]

    async def _delete(self, statement: queries.Statement, parameters: dict[str, object]) -> int:
        deleted = 0
        while True:
            gone = await self._pool.fetch(statement, {**parameters, "limit": PAGE})
            deleted += len(gone)
            if len(gone) < PAGE:
                return deleted

    async def _record(self, action: Action, who: str, **after: object) -> None:
        await Audit(self._pool).add(AuditEntry(who=who, action=action, subject="dead letters", after=after))

    async def replay(
        self,
        wanted: DeadLetterFilter,
        *,
        writer: Writer,
        devices: KnownDevices,
        window: Window,
        who: str,
        progress: Callable[[int], None],
    ) -> Replayed:
        """Decode dead letters again. Those that become readings are stored, then deleted here.

        `progress` is called with the number of letters that were decoded since its last call.

        Readings of unknown devices are stored if there is room for these devices.
        After a crash in between there are both, the reading and the dead letter; the next replay finds a duplicate.
        The audit has the filter at the beginning, and the result at the end.
        """
        await self._record("dead-letters-replayed", who, filter=asdict(wanted))
        result = Replayed()
        devices.replace(await writer.live_devices())
        async for letters in self._pages(wanted):
            now = now_microseconds()
            oldest, newest = window.around(now)
            good: list[_Decoded] = []
            for letter in letters:
                decoded = decode(letter.topic, letter.payload, oldest=oldest, newest=newest, received_at=now)
                if isinstance(decoded, tuple) and not _is_refused(devices, *decoded):
                    good.append(_Decoded(letter.id, *decoded))
            done = await _store(good, writer, result)
            result.still_bad += len(letters) - len(done)
            await self._pool.fetch(_SQL["delete_dead_letters"], {"ids": done})
            progress(len(letters))
        await self._record("dead-letters-replayed", who, **asdict(result))
        return result

    async def _pages(self, wanted: DeadLetterFilter) -> AsyncIterator[list[Any]]:
        before = None
        while letters := await self.page(wanted, limit=PAGE, before=before):
            before = letters[-1].id
            yield letters


class _Decoded(NamedTuple):
    letter_id: int
    stream: Stream
    row: Row


def _is_refused(devices: KnownDevices, stream: Stream, row: Row) -> bool:
    return bool(devices.add(stream, devices.unknown(stream, [row])))


async def _store(decoded: list[_Decoded], writer: Writer, result: Replayed) -> list[int]:
    """Store readings together, or one by one if the database refuses one; returns the ids of their letters."""
    rows: dict[Stream, dict[Row, Row]] = {}
    for _, stream, row in decoded:
        rows.setdefault(stream, {}).setdefault(row[:2], row)
    batch = Batch(
        readings={
            stream: StreamBatch(rows=list(by_key.values()), origins=[0] * len(by_key))
            for stream, by_key in rows.items()
        },
        dead_letters=[],
    )
    try:
        committed = await writer.write(batch)
    except DataStoreError:
        if len(decoded) == 1:
            return []
        return [letter_id for one in decoded for letter_id in await _store([one], writer, result)]
    new = sum(by_origin.total() for by_origin in committed.values())
    result.stored += new
    result.duplicates += len(decoded) - new
    return [one.letter_id for one in decoded]
