"""The settings of single devices: threshold of efficiency, offline limit, maximum power."""

from dataclasses import asdict
from typing import Any, Final

from ingestd.model.device import DeviceSettings
from ingestd.model.stream import WITH_ENERGY, Stream
from ingestd.store import queries
from ingestd.store.connection import Connection, rows_of
from ingestd.store.pool import Pool

_SQL: Final = queries.load("device_settings.sql")
_GET: Final = queries.ready(_SQL["device_settings"])
_MARK: Final = {stream: queries.for_stream(_SQL["mark_device"], stream) for stream in WITH_ENERGY}
_NONE: Final = DeviceSettings()


class DeviceSettingsTable:
    """The table device_setting; None if nothing is set for a device. Every method raises StoreError."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def get(self, stream: Stream, device_id: str) -> DeviceSettings | None:
        return _settings(await self._pool.fetch(_GET, {"kind": stream.name, "id": device_id}))

    async def set(self, stream: Stream, device_id: str, settings: DeviceSettings) -> None:
        """Set all settings of a device. The device need not have reported."""
        async with self._pool.transaction() as connection:
            await _change(connection, "set_device_settings", stream, device_id, settings)

    async def remove(self, stream: Stream, device_id: str) -> DeviceSettings | None:
        """Delete the settings of a device; returns what they were."""
        async with self._pool.transaction() as connection:
            return await remove_settings(connection, stream, device_id)


async def remove_settings(connection: Connection, stream: Stream, device_id: str) -> DeviceSettings | None:
    """The same within a transaction. Errors are psycopg's."""
    return await _change(connection, "remove_device_settings", stream, device_id, _NONE)


async def _change(
    connection: Connection, statement: str, stream: Stream, device_id: str, settings: DeviceSettings
) -> DeviceSettings | None:
    """Change the settings; returns what they were. If max_kw changes, the device's ledger becomes stale."""
    parameters = {"kind": stream.name, "id": device_id, **asdict(settings)}
    await rows_of(connection, _SQL["lock_settings"], parameters)
    before = _settings(await rows_of(connection, _SQL["device_settings"], parameters))
    await connection.execute(_SQL[statement], parameters)
    if settings.max_kw != (before or _NONE).max_kw:
        await connection.execute(_MARK[stream], parameters)
    return before


def _settings(rows: list[Any]) -> DeviceSettings | None:
    return DeviceSettings(**rows[0]._asdict()) if rows else None
