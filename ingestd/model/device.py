"""A device as lists show it, and what is set for it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import inf
from typing import Literal, TypeAlias

from ingestd.model.efficiency import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveReading:
    """The newest reading of a device, by timestamp. `figures` has the payload's keys."""

    device_id: str
    timestamp: datetime
    received_at: datetime
    figures: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSettings:
    """What is set for a single device; None: as for all others."""

    threshold: float | None = None
    """Of a vehicle's efficiency."""
    offline_after: timedelta | None = None
    """So long without a reading."""
    max_kw: float | None = None
    """The most that can flow through it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One of a list: its newest reading, and for a vehicle what is to be thought of its last 24 hours."""

    newest: LiveReading
    online: bool  # heard as often as it should be
    efficiency_ratio: float | None = None
    status: Status | None = None  # None for a meter


DeviceSort: TypeAlias = Literal["id", "lastSeen", "efficiency"]


SortKey: TypeAlias = str | datetime | float


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePage:
    """Which devices of a list, and in what order; None lets everything through."""

    online: bool | None
    below_threshold: bool  # only vehicles of that status
    sort: DeviceSort
    descending: bool
    after: tuple[SortKey, str] | None  # the place of the last device before the page
    limit: int

    @property
    def without_ratio(self) -> float:
        """What a vehicle without a ratio is sorted by: they come last either way."""
        return -inf if self.descending else inf

    def place_of(self, device: Device) -> tuple[SortKey, str]:
        """By what the device has its place in the order, and its id, which decides between equals."""
        match self.sort:
            case "id":
                return device.newest.device_id, device.newest.device_id
            case "lastSeen":
                return device.newest.received_at, device.newest.device_id
            case "efficiency":
                ratio = device.efficiency_ratio
                return self.without_ratio if ratio is None else ratio, device.newest.device_id
