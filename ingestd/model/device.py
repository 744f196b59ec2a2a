"""A device as lists show it, and its settings."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import inf
from typing import Literal, TypeAlias

from ingestd.model.efficiency import Status
from ingestd.model.stream import Stream
from ingestd.setting_types import format_duration


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveReading:
    """The newest reading of a device, by timestamp. `figures` has the payload's keys."""

    device_id: str
    timestamp: datetime
    received_at: datetime
    figures: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """Devices of a stream whose newest reading is another one than before."""

    stream: Stream
    readings: Sequence[LiveReading] = ()
    gone: Collection[str] = ()
    """Ids of devices that were forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSettings:
    """The settings of a single device; None: the setting for all holds."""

    threshold: float | None = None
    """The lowest efficiency of a vehicle that is ok."""
    offline_after: timedelta | None = None
    """The device is offline when it has sent no reading for this long."""
    max_kw: float | None = None
    """The maximum power of the device."""

    def described(self) -> dict[str, object]:
        """The settings as the API and the audit show them."""
        after = self.offline_after
        return {
            "offlineAfter": None if after is None else format_duration(after),
            "maxKw": self.max_kw,
            "threshold": self.threshold,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What was removed of a device that was forgotten."""

    last_seen: datetime | None  # of its live row
    settings: DeviceSettings | None
    alerts: int

    def described(self) -> dict[str, object]:
        """The same as the audit shows it; times are datetimes."""
        settings = self.settings and self.settings.described()
        return {"lastSeen": self.last_seen, "settings": settings, "alerts": self.alerts}


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device in a list: its newest reading, and for a vehicle the efficiency of its last 24 hours."""

    newest: LiveReading
    online: bool  # its newest reading is not older than its limit
    efficiency_ratio: float | None = None
    status: Status | None = None  # None for a meter


DeviceSort: TypeAlias = Literal["id", "lastSeen", "efficiency"]


SortKey: TypeAlias = str | datetime | float


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePage:
    """Which devices of a list, and in which order; None matches everything."""

    online: bool | None
    below_threshold: bool  # only vehicles of that status
    sort: DeviceSort
    descending: bool
    after: tuple[SortKey, str] | None  # the sort key and id of the last device of the page before
    limit: int

    @property
    def without_ratio(self) -> float:
        """The sort key of a vehicle without a ratio: it comes last in either direction."""
        return -inf if self.descending else inf

    def place_of(self, device: Device) -> tuple[SortKey, str]:
        """The sort key of the device, and its id, which orders devices with equal keys."""
        match self.sort:
            case "id":
                return device.newest.device_id, device.newest.device_id
            case "lastSeen":
                return device.newest.received_at, device.newest.device_id
            case "efficiency":
                ratio = device.efficiency_ratio
                return self.without_ratio if ratio is None else ratio, device.newest.device_id
