"""Lists of devices, and how the vehicles among them charged in the last 24 hours."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from ingestd.model.answers import VehicleEfficiency
from ingestd.model.device import Device, DevicePage, SortKey
from ingestd.model.periods import TimeRange, last_day
from ingestd.model.stream import STREAMS, VEHICLE, Stream
from ingestd.model.timestamps import to_microseconds
from ingestd.store import queries
from ingestd.store.analytics import live_reading
from ingestd.store.pool import Pool

SHARED_SECONDS: Final = 5.0
"""So long the efficiencies serve all who page through a list."""

_PAGE: Final = {
    stream: queries.ready(queries.for_stream(queries.load("lists.sql")["page"], stream)) for stream in STREAMS
}


class Devices:
    """Raises StoreError when the database does not answer."""

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
        self._judging = asyncio.Lock()
        self._judged: Sequence[VehicleEfficiency] = ()
        self._judged_at: float | None = None  # monotonic seconds

    async def page(self, stream: Stream, wanted: DevicePage, *, anew: bool = False) -> list[Device]:
        """At most `wanted.limit` of the devices that have reported; `anew` takes no efficiencies made before."""
        after_key, after_id = wanted.after or ("", None)
        judged = await self._of_last_day(anew=anew) if stream is VEHICLE else ()
        rows = await self._pool.fetch(
            _PAGE[stream],
            {
                "offline_after": self._offline_after,
                "ids": [one.vehicle_id for one in judged],
                "statuses": [one.status for one in judged],
                "ratios": [one.efficiency_ratio for one in judged],
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
        """Of mapped vehicles; the same for all who ask within a few seconds."""
        async with self._judging:
            if anew or self._judged_at is None or time.monotonic() - self._judged_at > SHARED_SECONDS:
                asked_at = time.monotonic()
                self._judged = await self._efficiencies(last_day(datetime.now(UTC)))
                self._judged_at = asked_at
            return self._judged


def _number(key: SortKey) -> float | None:
    """What a page is sorted by, as the statement compares it; by id there is nothing but the id."""
    if isinstance(key, datetime):
        return to_microseconds(key)
    return None if isinstance(key, str) else key
