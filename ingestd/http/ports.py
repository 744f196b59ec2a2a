"""What the routes need of the rest of the house, and the typed keys under which the app holds it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from aiohttp import web

from ingestd.analytics import DeadLetterFilter, FleetEnergy, LiveReading, Mapping, Performance, TimeRange
from ingestd.http.intake import Intake
from ingestd.telemetry import Stream


class Analytics(Protocol):
    """The reads. Every method raises StoreError when the database does not answer."""

    async def ping(self) -> None: ...
    async def live(self, stream: Stream, device_id: str) -> LiveReading | None: ...
    async def performance(self, vehicle_id: str, window: TimeRange) -> Performance | None: ...
    async def fleet(self, window: TimeRange) -> FleetEnergy: ...


class Mappings(Protocol):
    """Which meter feeds which vehicle. `set` raises ConflictError, every method StoreError."""

    async def of_vehicle(self, vehicle_id: str) -> list[Mapping]: ...
    async def set(self, *, vehicle_id: str, meter_id: str, valid_from: datetime | None) -> Mapping: ...
    async def close(self, vehicle_id: str) -> Mapping | None: ...


class DeadLetters(Protocol):
    """What could not become a reading; raises StoreError. A letter has the table's columns as attributes."""

    async def page(self, wanted: DeadLetterFilter, *, limit: int, before: int | None = None) -> list[Any]: ...


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
MAPPINGS: Final[web.AppKey[Mappings]] = web.AppKey("mappings", Mappings)
DEAD_LETTERS: Final[web.AppKey[DeadLetters]] = web.AppKey("dead_letters", DeadLetters)
CONDITION: Final[web.AppKey[Callable[[], Condition]]] = web.AppKey("condition")
EXPOSITION: Final[web.AppKey[Callable[[], bytes]]] = web.AppKey("exposition")
THRESHOLD: Final = web.AppKey("threshold", float)
