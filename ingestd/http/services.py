"""What the routes ask of the daemon: one object, which the composition root makes."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol, TypeVar

from aiohttp import web

from ingestd.http.intake import Intake
from ingestd.model.alert import Alert, AlertFilter
from ingestd.model.answers import Answer, ChargingSession, FleetEnergy, FleetSeries, Performance, Point, Total
from ingestd.model.dead_letter import DeadLetterFilter
from ingestd.model.device import Device, DevicePage, DeviceSettings, LiveReading
from ingestd.model.mapping import Mapping
from ingestd.model.periods import Bucket, Period, TimeRange
from ingestd.model.stream import Stream

_Filter_contra = TypeVar("_Filter_contra", contravariant=True)
_Item_co = TypeVar("_Item_co", covariant=True)


class Pages(Protocol[_Filter_contra, _Item_co]):
    """At most `limit` items that pass the filter, the newest first, with ids below `before`."""

    async def __call__(self, wanted: _Filter_contra, *, limit: int, before: int | None) -> Sequence[_Item_co]: ...


class DevicePages(Protocol):
    """One page of the devices of a stream; `anew` takes nothing that was made for another request."""

    async def __call__(self, stream: Stream, wanted: DevicePage, *, anew: bool) -> list[Device]: ...


class SettingsOfDevices(Protocol):
    """What is set for single devices; None where nothing is."""

    async def get(self, stream: Stream, device_id: str) -> DeviceSettings | None: ...
    async def set(self, stream: Stream, device_id: str, settings: DeviceSettings) -> None: ...
    async def remove(self, stream: Stream, device_id: str) -> DeviceSettings | None: ...


class Mappings(Protocol):
    """Which meter feeds which vehicle. `set` raises EmptySegmentError and MappingConflictError."""

    async def of_vehicle(self, vehicle_id: str) -> list[Mapping]: ...
    async def set(
        self, *, vehicle_id: str, meter_id: str, valid_from: datetime | None, valid_to: datetime | None, replace: bool
    ) -> Mapping: ...
    async def close(self, vehicle_id: str) -> Mapping | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """The state of the daemon at this moment."""

    is_stopping: bool
    is_standby: bool  # another daemon of this client id is active
    database_reason: str | None  # why the database takes no writes; None where it does
    broker_reason: str | None  # why no telemetry arrives; None where it can
    last_commit_age: float | None  # seconds; None before the first commit
    buffered_messages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Whatever asks the database raises StoreError. Where a device is unknown, the answer is None."""

    intake: Intake
    performance: Callable[[str, TimeRange], Awaitable[Performance | None]]
    live: Callable[[Stream, str], Awaitable[LiveReading | None]]
    series: Callable[[Stream, str, TimeRange, Sequence[Bucket]], Awaitable[Answer[Point] | None]]
    totals: Callable[[Stream, str, TimeRange, Sequence[Period]], Awaitable[Answer[Total] | None]]
    sessions: Callable[[str, TimeRange], Awaitable[Answer[ChargingSession] | None]]
    fleet_energy: Callable[[TimeRange], Awaitable[FleetEnergy]]
    fleet_series: Callable[[TimeRange, Sequence[Bucket]], Awaitable[FleetSeries]]
    """Of buckets that make up the window. Raises TooManyReadingsError where they are too short."""
    devices: DevicePages
    device_settings: SettingsOfDevices
    mappings: Mappings
    export: Callable[[Stream, TimeRange, str | None], AsyncGenerator[bytes]]
    """History as CSV, in chunks; no chunk where the device is unknown. Raises StoreError at any of them."""
    dead_letters: Pages[DeadLetterFilter, Any]
    """Rows of the table, whose columns are their attributes."""
    alerts: Pages[AlertFilter, Alert]
    condition: Callable[[], Condition]
    ping: Callable[[], Awaitable[None]]
    """Returns once the database answers; raises StoreError where it does not within seconds."""
    exposition: Callable[[], bytes]
    """The metrics, as Prometheus reads them."""


SERVICES: Final = web.AppKey("services", Services)
