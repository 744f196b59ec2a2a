"""The table of dead letters: pages of it, purge, and retention."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any, Final

import structlog

from ingestd.model.audit import Action, AuditEntry
from ingestd.model.dead_letter import DeadLetterFilter, device_of
from ingestd.pipeline.letter_limits import NOT_LIMITED, ROW_BYTES
from ingestd.store import queries
from ingestd.store.audit import Audit
from ingestd.store.pool import Pool

log = structlog.get_logger(__name__)

_SOURCES: Final = queries.load("dead_letters.sql")
_SQL: Final = queries.all_ready(_SOURCES)

PAGE: Final = 1000


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

    async def delete(self, ids: Sequence[int]) -> None:
        """Delete those that have become readings."""
        await self._pool.fetch(_SQL["delete_dead_letters"], {"ids": ids})

    async def purge(self, wanted: DeadLetterFilter, *, who: str) -> int:
        """Delete them; returns how many. The audit has the filter at the beginning, and the result at the end."""
        await self.record("dead-letters-purged", who, filter=asdict(wanted))
        purged = await self._delete(_SQL["purge_dead_letters"], asdict(wanted))
        await self.record("dead-letters-purged", who, deleted=purged)
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

    async def record(self, action: Action, who: str, **after: object) -> None:
        """Add an entry about dead letters to the audit."""
        await Audit(self._pool).add(AuditEntry(who=who, action=action, subject="dead letters", after=after))
