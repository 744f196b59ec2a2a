"""The settings of single devices: threshold of efficiency, offline limit, maximum power."""

from dataclasses import asdict
from typing import Any, Final

from ingestd.model.audit import Action, AuditEntry
from ingestd.model.device import DeviceSettings
from ingestd.model.stream import WITH_ENERGY, Stream
from ingestd.store import queries
from ingestd.store.audit import record
from ingestd.store.connection import rows_of
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
        await self._change("settings-set", stream, device_id, settings, who)

    async def remove(self, stream: Stream, device_id: str, *, who: str) -> DeviceSettings | None:
        """Delete the settings of a device; returns what they were."""
        return await self._change("settings-removed", stream, device_id, None, who)

    async def _change(
        self, action: Action, stream: Stream, device_id: str, settings: DeviceSettings | None, who: str
    ) -> DeviceSettings | None:
        """Change the settings; returns what they were. If max_kw changes, the device's ledger becomes stale."""
        statement = "remove_device_settings" if settings is None else "set_device_settings"
        parameters = {"kind": stream.name, "id": device_id, **asdict(settings or _NONE)}
        async with self._pool.transaction() as connection:
            await rows_of(connection, _SQL["lock_settings"], parameters)
            before = _settings(await rows_of(connection, _SQL["device_settings"], parameters))
            await connection.execute(_SQL[statement], parameters)
            if (settings or _NONE).max_kw != (before or _NONE).max_kw:
                await connection.execute(_MARK[stream], parameters)
            if settings != before:
                shown_before, shown_after = (one and one.described() for one in (before, settings))
                subject = f"{stream.name} {device_id}"
                entry = AuditEntry(who=who, action=action, subject=subject, before=shown_before, after=shown_after)
                await record(connection, entry)
        return before


def _settings(rows: list[Any]) -> DeviceSettings | None:
    return DeviceSettings(**rows[0]._asdict()) if rows else None
