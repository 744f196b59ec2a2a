"""Forgets devices: their live row, settings and alerts. History, ledger and mappings stay."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from ingestd.errors import StillReportsError
from ingestd.model.alert import device_kinds
from ingestd.model.audit import AuditEntry
from ingestd.model.device import Forgotten
from ingestd.model.stream import STREAMS, Stream
from ingestd.store import queries
from ingestd.store.audit import record
from ingestd.store.connection import rows_of
from ingestd.store.device_settings import remove_settings
from ingestd.store.pool import Pool

_SQL: Final = {
    stream: {name: queries.for_stream(statement, stream) for name, statement in queries.load("forget.sql").items()}
    for stream in STREAMS
}


class Forgetting:
    """Forgets one device at a time."""

    def __init__(self, pool: Pool, *, offline_after: timedelta, channels: Sequence[str]) -> None:
        """`offline_after` is for devices without a setting of their own; `channels` are told of alerts that end."""
        self._pool = pool
        self._offline_after = offline_after
        self._channels = list(channels)

    async def forget(self, stream: Stream, device_id: str, *, who: str) -> Forgotten | None:
        """Returns what was removed; None if there was nothing. If the device reports again, it is a new one.

        `who` is for the audit.

        Raises StillReportsError if it has reported within its offline limit, and StoreError.
        """
        sql = _SQL[stream]
        parameters = {
            "id": device_id,
            "offline_after": self._offline_after,
            "kinds": list(device_kinds(stream)),
            "channels": self._channels,
            "now": datetime.now(UTC),
        }
        async with self._pool.transaction() as connection:
            live = await rows_of(connection, sql["live_row_to_forget"], parameters)
            if live and live[0].still_reports:
                raise StillReportsError(stream.name, device_id, heard_at=live[0].received_at)
            await connection.execute(sql["remove_live_row"], parameters)
            settings = await remove_settings(connection, stream, device_id)
            ((alerts,),) = await rows_of(connection, sql["end_alerts"], parameters)
            forgotten = Forgotten(last_seen=live[0].received_at if live else None, settings=settings, alerts=alerts)
            if forgotten == _NOTHING:
                return None
            subject = f"{stream.name} {device_id}"
            entry = AuditEntry(who=who, action="device-forgotten", subject=subject, before=forgotten.described())
            await record(connection, entry)
        return forgotten


_NOTHING: Final = Forgotten(last_seen=None, settings=None, alerts=0)
