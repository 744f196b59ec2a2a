"""What the routes need of the rest of the house, and the typed keys under which the app holds it."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from aiohttp import web

from ingestd.http.intake import Intake
from ingestd.model.alert import Alert, AlertFilter
from ingestd.model.answers import Answer, ChargingSession, FleetEnergy, FleetSeries, Performance, Point, Total
from ingestd.model.dead_letter import DeadLetterFilter
from ingestd.model.device import Device, DevicePage, DeviceSettings, LiveReading
from ingestd.model.mapping import Mapping
from ingestd.model.periods import Period, Stretch, TimeRange
from ingestd.model.stream import Stream


class Analytics(Protocol):
    """What is asked of one device. Every method raises StoreError when the database does not answer."""

    async def live(self, stream: Stream, device_id: str) -> LiveReading | None: ...
    async def performance(self, vehicle_id: str, window: TimeRange) -> Performance | None: ...


class Fleet(Protocol):
    """What is asked of all devices; raises StoreError."""

    async def energy(self, window: TimeRange) -> FleetEnergy: ...
    async def series(self, window: TimeRange, buckets: Sequence[Stretch]) -> FleetSeries:
        """Of each of the buckets, which make up the window. Raises TooManyReadingsError where they are too short."""
        ...


class Series(Protocol):
    """Energy of one device over time; None where the device is unknown. Raises StoreError."""

    async def of_device(
        self, stream: Stream, device_id: str, window: TimeRange, buckets: Sequence[Stretch]
    ) -> Answer[Point] | None: ...
    async def totals(
        self, stream: Stream, device_id: str, window: TimeRange, periods: Sequence[Period]
    ) -> Answer[Total] | None: ...
    async def sessions(self, vehicle_id: str, window: TimeRange) -> Answer[ChargingSession] | None: ...


class Devices(Protocol):
    """Lists of devices; raises StoreError."""

    async def page(self, stream: Stream, wanted: DevicePage, *, anew: bool = False) -> list[Device]:
        """`anew` takes nothing that was made for others."""
        ...


class DeviceSettingsTable(Protocol):
    """What is set for single devices; None where nothing is. Raises StoreError."""

    async def get(self, stream: Stream, device_id: str) -> DeviceSettings | None: ...
    async def set(self, stream: Stream, device_id: str, settings: DeviceSettings) -> None: ...
    async def remove(self, stream: Stream, device_id: str) -> DeviceSettings | None: ...


class Mappings(Protocol):
    """Which meter feeds which vehicle. `set` raises EmptySegmentError, MappingConflictError; all raise StoreError."""

    async def of_vehicle(self, vehicle_id: str) -> list[Mapping]: ...
    async def set(
        self, *, vehicle_id: str, meter_id: str, valid_from: datetime | None, valid_to: datetime | None, replace: bool
    ) -> Mapping: ...
    async def close(self, vehicle_id: str) -> Mapping | None: ...


class Exports(Protocol):
    """History as CSV, in chunks; none where the device is unknown. Raises StoreError at any of them."""

    def csv(self, stream: Stream, window: TimeRange, device_id: str | None) -> AsyncGenerator[bytes]: ...


class DeadLetters(Protocol):
    """What could not become a reading; raises StoreError. A letter has the table's columns as attributes."""

    async def page(self, wanted: DeadLetterFilter, *, limit: int, before: int | None = None) -> list[Any]: ...


class Alerts(Protocol):
    """Alerts, active and past; raises StoreError."""

    async def page(self, wanted: AlertFilter, *, limit: int, before: int | None = None) -> list[Alert]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """How the daemon is at this moment; a trouble is a reason in words, None when all is well."""

    stopping: bool
    standby: bool  # another daemon of this client id is active
    store_trouble: str | None
    broker_trouble: str | None
    last_commit_age: float | None  # seconds; None before the first commit
    buffered_messages: int


INTAKE: Final = web.AppKey("intake", Intake)
ANALYTICS: Final[web.AppKey[Analytics]] = web.AppKey("analytics", Analytics)
FLEET: Final[web.AppKey[Fleet]] = web.AppKey("fleet", Fleet)
SERIES: Final[web.AppKey[Series]] = web.AppKey("series", Series)
DEVICES: Final[web.AppKey[Devices]] = web.AppKey("devices", Devices)
DEVICE_SETTINGS: Final[web.AppKey[DeviceSettingsTable]] = web.AppKey("device_settings", DeviceSettingsTable)
MAPPINGS: Final[web.AppKey[Mappings]] = web.AppKey("mappings", Mappings)
EXPORTS: Final[web.AppKey[Exports]] = web.AppKey("exports", Exports)
DEAD_LETTERS: Final[web.AppKey[DeadLetters]] = web.AppKey("dead_letters", DeadLetters)
ALERTS: Final[web.AppKey[Alerts]] = web.AppKey("alerts", Alerts)
CONDITION: Final[web.AppKey[Callable[[], Condition]]] = web.AppKey("condition")
PING: Final[web.AppKey[Callable[[], Awaitable[None]]]] = web.AppKey("ping")
"""Raises StoreError unless the database answers within a few seconds."""
EXPOSITION: Final[web.AppKey[Callable[[], bytes]]] = web.AppKey("exposition")
