"""Lists of devices, and how the vehicles among them charged in the last 24 hours."""

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

from psycopg import sql

from ingestd.analytics import Device, DevicePage, DeviceSort, TimeRange
from ingestd.store import queries
from ingestd.store.database import Reads
from ingestd.store.reads import Analytics, live_reading, vehicles
from ingestd.telemetry import VEHICLE, Stream

CHARGING: Final = timedelta(hours=24)

_SQL: Final = queries.load("lists.sql")
_KEYS: Final[dict[DeviceSort, tuple[sql.SQL, str]]] = {
    "id": (sql.SQL("{id}"), "text"),
    "lastSeen": (sql.SQL("received_at"), "timestamptz"),
    "efficiency": (sql.SQL("coalesce(efficiency_ratio, %(without_ratio)s)"), "float8"),
}
"""What a page is sorted by, and its type."""


class Devices:
    """Raises StoreError when the database does not answer."""

    def __init__(self, reads: Reads, *, analytics: Analytics, offline_after: timedelta) -> None:
        """`offline_after` is for devices without a setting of their own."""
        self._reads = reads
        self._offline_after = offline_after
        self._analytics = analytics

    async def page(self, stream: Stream, wanted: DevicePage) -> list[Device]:
        """At most `wanted.limit` of the devices that have reported."""
        after_key, after_id = wanted.after or (None, None)
        parameters: dict[str, Any] = {
            "offline_after": self._offline_after,
            "after_key": after_key,
            "after_id": after_id,
            "online": wanted.online,
            "limit": wanted.limit,
        }
        statement = _page(stream, wanted.sort, descending=wanted.descending)
        if stream is not VEHICLE:
            rows = await self._reads.fetch(statement, parameters)
            return [Device(newest=live_reading(stream, row), online=row.online) for row in rows]
        now = datetime.now(UTC)
        parameters |= await self._analytics.parameters(TimeRange(start=now - CHARGING, end=now))
        parameters |= {"below_threshold": wanted.below_threshold, "without_ratio": wanted.without_ratio}
        rows = await self._reads.fetch(statement, parameters)
        return [
            Device(
                newest=live_reading(stream, row),
                online=row.online,
                status=row.status,
                efficiency_ratio=row.efficiency_ratio,
            )
            for row in rows
        ]


@cache
def _page(stream: Stream, sort: DeviceSort, *, descending: bool) -> queries.Statement:
    key, of_type = _KEYS[sort]
    devices = queries.for_stream(_SQL["devices"], stream)
    page = _SQL["page"].format(
        devices=_SQL["judged_devices"].format(devices=devices) if stream is VEHICLE else devices,
        id=sql.Identifier(stream.id_column),
        key=key.format(id=sql.Identifier(stream.id_column)),
        of_type=sql.Identifier(of_type),
        beyond=sql.SQL("<" if descending else ">"),
        direction=sql.SQL("DESC" if descending else "ASC"),
    )
    return vehicles(page) if stream is VEHICLE else queries.ready(page)
