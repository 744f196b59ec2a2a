"""Whether a device is known: it has reported, or a mapping announces it."""

from typing import Final

from ingestd.store import queries
from ingestd.store.moments import Moment
from ingestd.telemetry import STREAMS, Stream

_SOURCES: Final = queries.load("known.sql")
_SIGNS: Final = {
    stream: [
        queries.ready(queries.for_stream(_SOURCES[name], stream))
        for name in ("known_by_live", "known_by_mapping", "known_by_quarter", "known_by_reading")
    ]
    for stream in STREAMS
}


async def is_known(moment: Moment, stream: Stream, device: str) -> bool:
    """By the first sign of it. Errors are psycopg's."""
    for sign in _SIGNS[stream]:
        if await moment.fetch(sign, {"id": device}):
            return True
    return False
