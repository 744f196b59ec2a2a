"""The settings of single devices: threshold of efficiency, offline limit, maximum power."""

from dataclasses import asdict
from typing import Any, Final

from ingestd.model.audit import Action, AuditEntry
from ingestd.model.device import DeviceSettings
from ingestd.model.stream import WITH_ENERGY, Stream
from ingestd.store import queries
from ingestd.store.audit import record
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

    async def set(self, stream: Stream, device_id: str, settings: DeviceSettings, *, who: str) -> None:
        """Set all settings of a device. The device need not have reported."""
        async with self._pool.transaction() as connection:
            before = await _change(connection, stream, device_id, settings)
            if before != settings:
                await record(connection, _entry(stream, device_id, before, settings, who=who))

    async def remove(self, stream: Stream, device_id: str, *, who: str) -> DeviceSettings | None:
        """Delete the settings of a device; returns what they were."""
        async with self._pool.transaction() as connection:
            before = await remove_settings(connection, stream, device_id)
            if before is not None:
                await record(connection, _entry(stream, device_id, before, None, who=who))
        return before


async def remove_settings(connection: Connection, stream: Stream, device_id: str) -> DeviceSettings | None:
    """Delete the settings of a device within a transaction; returns what they were. Errors are psycopg's."""
    return await _change(connection, stream, device_id, None)


async def _change(
    connection: Connection, stream: Stream, device_id: str, settings: DeviceSettings | None
) -> DeviceSettings | None:
    """Change the settings; returns what they were. If max_kw changes, the device's ledger becomes stale."""
    statement = "remove_device_settings" if settings is None else "set_device_settings"
    parameters = {"kind": stream.name, "id": device_id, **asdict(settings or _NONE)}
    await rows_of(connection, _SQL["lock_settings"], parameters)
    before = _settings(await rows_of(connection, _SQL["device_settings"], parameters))
    await connection.execute(_SQL[statement], parameters)
    if (settings or _NONE).max_kw != (before or _NONE).max_kw:
        await connection.execute(_MARK[stream], parameters)
    return before


def _entry(
    stream: Stream, device_id: str, before: DeviceSettings | None, after: DeviceSettings | None, *, who: str
) -> AuditEntry:
    """The entry of the audit."""
    action: Action = "settings-removed" if after is None else "settings-set"
    shown_before, shown_after = (settings and settings.described() for settings in (before, after))
    return AuditEntry(
        who=who, action=action, subject=f"{stream.name} {device_id}", before=shown_before, after=shown_after
    )


def _settings(rows: list[Any]) -> DeviceSettings | None:
    return DeviceSettings(**rows[0]._asdict()) if rows else None
