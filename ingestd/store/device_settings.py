"""What is set for single devices: an efficiency threshold, when they are offline, and how much can flow."""

from datetime import timedelta
from typing import Final

from ingestd.analytics import DeviceSettings
from ingestd.store import queries
from ingestd.store.database import Reads
from ingestd.telemetry import STREAMS, Stream

_SOURCES: Final = queries.load("device_settings.sql")
_SQL: Final = queries.all_ready(_SOURCES)
_MARK: Final = {stream: queries.ready(queries.for_stream(_SOURCES["mark_device"], stream)) for stream in STREAMS}


class DeviceSettingsTable:
    """The table device_setting; None where nothing is set for the device. Every method raises StoreError."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    async def get(self, stream: Stream, device_id: str) -> DeviceSettings | None:
        return await self._one(_SQL["device_settings"], stream, device_id)

    async def set(self, stream: Stream, device_id: str, settings: DeviceSettings) -> None:
        """All of them at once. The device need not have reported."""
        await self._one(
            _SQL["set_device_settings"],
            stream,
            device_id,
            threshold=settings.threshold,
            offline_after=settings.offline_after,
            max_kw=settings.max_kw,
        )

    async def remove(self, stream: Stream, device_id: str) -> DeviceSettings | None:
        """What they were."""
        return await self._one(_SQL["remove_device_settings"], stream, device_id)

    async def _one(
        self, statement: queries.Statement, stream: Stream, device_id: str, **values: float | timedelta | None
    ) -> DeviceSettings | None:
        rows = await self._reads.fetch(statement, {"kind": stream.name, "id": device_id, **values})
        return DeviceSettings(**rows[0]._asdict()) if rows else None
