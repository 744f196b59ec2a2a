"""Dead letters, for people who look after them."""

from typing import Any, Final

from ingestd.store import queries
from ingestd.store.database import connect, rows_of, translated
from ingestd.telemetry import Reason

_DEAD_LETTERS: Final = queries.load("dead_letters.sql")


async def list_dead_letters(dsn: str, *, reason: Reason | None, limit: int) -> list[Any]:
    """The newest dead letters as namedtuples of the table's columns; raises StoreError."""
    connection = await connect(dsn, application_name="ingestd-dead-letters")
    async with connection:
        with translated():
            return await rows_of(connection, _DEAD_LETTERS["list_dead_letters"], {"reason": reason, "limit": limit})
