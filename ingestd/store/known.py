"""Whether a device is known: it has reported, or it is in a mapping."""

from typing import Final

from ingestd.model.stream import CHARGING, Stream
from ingestd.store import queries
from ingestd.store.ledger_snapshot import LedgerSnapshot

_SQL: Final = queries.of_streams(queries.load("known.sql"))
_SIGNS: Final = ("known_by_live", "known_by_quarter", "known_by_reading")
_SIGNS_OF_CHARGING: Final = ("known_by_live", "known_by_mapping", "known_by_quarter", "known_by_reading")


async def is_known(snapshot: LedgerSnapshot, stream: Stream, device: str) -> bool:
    """Whether any statement finds the device. Errors are psycopg's."""
    for sign in _SIGNS_OF_CHARGING if stream in CHARGING else _SIGNS:
        if await snapshot.fetch(_SQL[stream][sign], {"id": device}):
            return True
    return False
