"""The table of the audit."""

from dataclasses import asdict
from typing import Any, Final

from pydantic_core import to_json

from ingestd.model.audit import AuditEntry, AuditFilter
from ingestd.store import queries
from ingestd.store.connection import Connection
from ingestd.store.pool import Pool

_SQL: Final = queries.load("audit.sql")
_PAGE: Final = queries.ready(_SQL["page_audit"])


async def record(connection: Connection, entry: AuditEntry) -> None:
    """Add an entry, in the transaction of the change. Errors are psycopg's."""
    await connection.execute(
        _SQL["add_audit"],
        {
            "who": entry.who,
            "action": entry.action,
            "subject": entry.subject,
            "before": _json(entry.before),
            "after": _json(entry.after),
        },
    )


class Audit:
    """Every method raises StoreError."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(self, entry: AuditEntry) -> None:
        """Add an entry for a change outside of the database, or in several transactions."""
        async with self._pool.transaction() as connection:
            await record(connection, entry)

    async def page(self, wanted: AuditFilter, *, limit: int, before: int | None = None) -> list[Any]:
        """At most `limit` rows, the newest first, with ids below `before`; columns are attributes."""
        return await self._pool.fetch(_PAGE, {**asdict(wanted), "limit": limit, "before": before})


def _json(value: object) -> str | None:
    return None if value is None else to_json(value).decode()
