"""What the routes need: one object, which daemon.py makes."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol, TypeVar

from aiohttp import web

from ingestd.http.intake import Intake
from ingestd.last_errors import LoggedError
from ingestd.metrics import Requests
from ingestd.model.alert import Alert, AlertFilter
from ingestd.model.answers import (
    Answer,
    ChargingSession,
    FleetEnergy,
    FleetSeries,
    Performance,
    Point,
    SessionsUnderWay,
    Total,
)
from ingestd.model.audit import AuditFilter
from ingestd.model.claims import SessionState
from ingestd.model.dead_letter import DeadLetterFilter, Replayed
from ingestd.model.device import Changed, Device, DevicePage, DeviceSettings, Forgotten, LiveReading
from ingestd.model.mapping import Mapping
from ingestd.model.periods import Bucket, Period, TimeRange
from ingestd.model.stream import Stream

_Filter_contra = TypeVar("_Filter_contra", contravariant=True)
_Item_co = TypeVar("_Item_co", covariant=True)


class Pages(Protocol[_Filter_contra, _Item_co]):
    """At most `limit` items that pass the filter, the newest first, with ids below `before`."""

    async def __call__(self, wanted: _Filter_contra, *, limit: int, before: int | None) -> Sequence[_Item_co]: ...


class DevicePages(Protocol):
    """One page of the devices of a stream. `anew`: do not use what was made for another request."""

    async def __call__(self, stream: Stream, wanted: DevicePage, *, anew: bool) -> list[Device]: ...


class UnderWay(Protocol):
    """The charging sessions that are under way: at most `limit` vehicles are looked at, with ids behind `after`."""

    async def __call__(self, *, limit: int, after: str | None) -> SessionsUnderWay: ...


class SettingsOfDevices(Protocol):
    """Settings of single devices; None if a device has none. `who` is for the audit."""

    async def get(self, stream: Stream, device_id: str) -> DeviceSettings | None: ...
    async def set(self, stream: Stream, device_id: str, settings: DeviceSettings, *, who: str) -> None: ...
    async def remove(self, stream: Stream, device_id: str, *, who: str) -> DeviceSettings | None: ...


class ForgettingOfDevices(Protocol):
    """Forgets a device; None if nothing is known of it. Raises StillReportsError. `who` is for the audit."""

    async def __call__(self, stream: Stream, device_id: str, *, who: str) -> Forgotten | None: ...


class ReplayOfLetters(Protocol):
    """Decodes dead letters again: one (None if there is none of this id), or a page. `who` is for the audit."""

    async def one(self, letter_id: int, *, who: str) -> Replayed | None: ...
    async def page(self, wanted: DeadLetterFilter, *, limit: int, before: int | None, who: str) -> Replayed: ...


class Mappings(Protocol):
    """Which meter feeds which vehicle. `who` is for the audit.

    `set` raises EmptySegmentError and MappingConflictError.
    """

    async def of_vehicle(self, vehicle_id: str) -> list[Mapping]: ...
    async def set(
        self,
        *,
        vehicle_id: str,
        meter_id: str,
        valid_from: datetime | None,
        valid_to: datetime | None,
        replace: bool,
        who: str,
    ) -> Mapping: ...
    async def close(self, vehicle_id: str, *, who: str) -> Mapping | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """The state of the daemon now."""

    is_stopping: bool
    is_standby: bool  # other daemons of this client id hold all sessions
    database_reason: str | None  # why the database takes no writes; None where it does
    broker_reason: str | None  # why no telemetry arrives; None where it can
    archive: str | None  # None where there is none, else why days cannot be archived, or "ready"
    last_commit_age: float | None  # seconds; None before the first commit
    received_messages: int  # since the daemon started
    buffered_messages: int
    has_replica: bool
    replica_reason: str | None  # why the replica for reading does not answer, or is far behind
    replica_lag: float | None  # seconds; None where it is not known, or there is no replica
    sessions: Sequence[SessionState]

    @property
    def is_ready(self) -> bool:
        """Whether readings can flow, as far as the daemon knows without asking the database."""
        return not (self.is_stopping or self.is_standby or self.database_reason or self.broker_reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What reads the database raises StoreError. For an unknown device the result is None."""

    intake: Intake
    performance: Callable[[str, TimeRange], Awaitable[Performance | None]]
    live: Callable[[Stream, str], Awaitable[LiveReading | None]]
    changes: Callable[[], AsyncGenerator[Changed]]
    """What has changed since it was asked last; at first, all devices. Each step may raise StoreError."""
    series: Callable[[Stream, str, TimeRange, Sequence[Bucket]], Awaitable[Answer[Point] | None]]
    totals: Callable[[Stream, str, TimeRange, Sequence[Period]], Awaitable[Answer[Total] | None]]
    sessions: Callable[[str, TimeRange], Awaitable[Answer[ChargingSession] | None]]
    sessions_under_way: UnderWay
    fleet_energy: Callable[[TimeRange], Awaitable[FleetEnergy]]
    fleet_series: Callable[[TimeRange, Sequence[Bucket]], Awaitable[FleetSeries]]
    """Energy by buckets that divide the window. Raises TooManyReadingsError if the buckets are too short."""
    devices: DevicePages
    device_settings: SettingsOfDevices
    forget: ForgettingOfDevices
    mappings: Mappings
    export: Callable[[Stream, TimeRange, str | None], AsyncGenerator[bytes]]
    """History as CSV, in chunks; none for an unknown device. Each chunk may raise StoreError and ArchiveError."""
    archive_end: Callable[[Stream, TimeRange], Awaitable[datetime | None]]
    """Up to when readings of the window are in the archive; None if none are. Raises ArchiveError."""
    dead_letters: Pages[DeadLetterFilter, Any]
    """Rows of the table, whose columns are their attributes."""
    replay: ReplayOfLetters
    alerts: Pages[AlertFilter, Alert]
    audit: Pages[AuditFilter, Any]
    """Rows of the table, whose columns are their attributes."""
    condition: Callable[[], Condition]
    last_errors: Callable[[], Sequence[LoggedError]]
    """The last warnings and errors of the log, the newest first."""
    ping: Callable[[], Awaitable[None]]
    """Returns when the database answers. Raises StoreError if it does not within 2 s."""
    exposition: Callable[[], bytes]
    """The metrics, as Prometheus reads them."""
    requests: Requests


SERVICES: Final = web.AppKey("services", Services)
