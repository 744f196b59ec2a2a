"""What the database says of ingestd without its daemon: the ledger, alerts, dead letters, devices that send most."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ingestd.model.stream import STREAMS
from ingestd.model.timestamps import to_datetime
from ingestd.store import queries
from ingestd.store.alerts import Alerts
from ingestd.store.pool import Pool

_SOURCES: Final = queries.load("status.sql")
_LETTERS: Final = queries.ready(_SOURCES["recent_letters"])
_TALKERS: Final = queries.of_streams({"top_talkers": _SOURCES["top_talkers"]}, STREAMS)
_MADE_UNTIL: Final = queries.ready(queries.load("ledger.sql")["made_until"])

ROWS: Final = 200_000
"""How many rows a statement looks at: twice the readings that 10,000 devices send in 10 minutes."""
TALKERS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Talkers:
    """The devices of a stream that have sent most in the last 10 minutes, with their numbers of readings."""

    readings: Mapping[str, int]
    is_partial: bool
    """There were more readings than were looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseStatus:
    """By stream, kind of alert, or reason."""

    made_until: Mapping[str, datetime | None]
    alerts: Mapping[str, int]
    dead_letters: Mapping[str, int]
    """Of the last hour."""
    talkers: Mapping[str, Talkers]


async def database_status(pool: Pool) -> DatabaseStatus:
    """Raises StoreError."""
    talkers = {}
    for stream in STREAMS:
        rows = await pool.fetch(_TALKERS[stream]["top_talkers"], {"rows": ROWS, "limit": TALKERS})
        talkers[stream.name] = Talkers(
            readings={row.device_id: row.readings for row in rows},
            is_partial=bool(rows) and rows[0].looked_at >= ROWS,
        )
    made = await pool.fetch(_MADE_UNTIL, {})
    return DatabaseStatus(
        made_until={row.stream: None if row.made_until is None else to_datetime(row.made_until) for row in made},
        alerts=await Alerts(pool).active(),
        dead_letters={row.reason: row.letters for row in await pool.fetch(_LETTERS, {"rows": ROWS})},
        talkers=talkers,
    )
