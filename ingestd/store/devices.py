"""Newest readings of devices; lists of devices, vehicles with their efficiency of the last 24 hours."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ingestd.model.answers import VehicleEfficiency
from ingestd.model.device import Device, DevicePage, LiveReading, SortKey
from ingestd.model.periods import TimeRange, last_day
from ingestd.model.stream import STREAMS, VEHICLE, Stream
from ingestd.model.timestamps import to_microseconds
from ingestd.store import queries
from ingestd.store.pool import Pool

SHARED_SECONDS: Final = 5.0
"""Requests within this time share the efficiencies."""

_SQL: Final = queries.of_streams(queries.load("lists.sql"), STREAMS)


class Devices:
    """Every method raises StoreError if the database does not answer."""

    def __init__(
        self,
        pool: Pool,
        *,
        efficiencies: Callable[[TimeRange], Awaitable[Sequence[VehicleEfficiency]]],
        offline_after: timedelta,
    ) -> None:
        """`offline_after` is for devices without a setting of their own."""
        self._pool = pool
        self._efficiencies = efficiencies
        self._offline_after = offline_after
        self._lock = asyncio.Lock()
        self._shared: Sequence[VehicleEfficiency] = ()
        self._shared_at: float | None = None  # monotonic seconds

    async def newest(self, stream: Stream, device_id: str) -> LiveReading | None:
        """The newest reading of a device; None if the device is unknown."""
        rows = await self._pool.fetch(_SQL[stream]["newest"], {"device_id": device_id})
        return live_reading(stream, rows[0]) if rows else None

    async def page(self, stream: Stream, wanted: DevicePage, *, anew: bool = False) -> list[Device]:
        """One page of the devices that have reported. `anew`: do not use shared efficiencies."""
        after_key, after_id = wanted.after or ("", None)
        efficiencies = await self._of_last_day(anew=anew) if stream is VEHICLE else ()
        rows = await self._pool.fetch(
            _SQL[stream]["page"],
            {
                "shown_until": self._pool.shown_until,
                "offline_after": self._offline_after,
                "ids": [one.vehicle_id for one in efficiencies],
                "statuses": [one.status for one in efficiencies],
                "ratios": [one.efficiency_ratio for one in efficiencies],
                "sort": wanted.sort,
                "descending": wanted.descending,
                "after_key": _number(after_key),
                "after_id": after_id,
                "online": wanted.online,
                "status": "below-threshold" if wanted.below_threshold else None,
                "without_ratio": wanted.without_ratio,
                "limit": wanted.limit,
            },
        )
        return [
            Device(
                newest=live_reading(stream, row),
                online=row.online,
                status=row.status or ("unmapped" if stream is VEHICLE else None),
                efficiency_ratio=row.efficiency_ratio,
            )
            for row in rows
        ]

    async def _of_last_day(self, *, anew: bool) -> Sequence[VehicleEfficiency]:
        """The efficiencies of mapped vehicles; shared for SHARED_SECONDS."""
        async with self._lock:
            if anew or self._shared_at is None or time.monotonic() - self._shared_at > SHARED_SECONDS:
                asked_at = time.monotonic()
                self._shared = await self._efficiencies(last_day(datetime.now(UTC)))
                self._shared_at = asked_at
            return self._shared


def _number(key: SortKey) -> float | None:
    """The sort key as the statement compares it; None if the list is sorted by id."""
    if isinstance(key, datetime):
        return to_microseconds(key)
    return None if isinstance(key, str) else key


def live_reading(stream: Stream, row: Any) -> LiveReading:  # noqa: ANN401 - psycopg makes the namedtuple's class at run time
    """A row of a live table."""
    figures = {key: getattr(row, column) for key, column in stream.columns.items()}
    return LiveReading(
        device_id=getattr(row, stream.id_column),
        timestamp=row.ts,
        received_at=row.received_at,
        figures={key: value for key, value in figures.items() if value is not None},
    )
