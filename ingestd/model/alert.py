"""Which conditions have alerts, and when an alert is raised and cleared. Pure: observations in, states out.

An alert is raised when its condition has held without a break for the minimum duration. It is cleared when the
condition has been over, beyond a margin, for as long. Time is that of the daemon's clock, not of the readings. Time in
which no daemon watched does not count. Efficiencies are those of closed hours, and their time is the end of these
hours, so a second look at the same hours does not count either.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict  # typing's own serves pydantic from Python 3.12 on

from ingestd.model.stream import STREAMS, VEHICLE, Stream

State: TypeAlias = Literal["pending", "active", "cleared"]

SILENT: Final = {stream.name: f"{stream.name}-silent" for stream in STREAMS}
"""A kind for each stream, as a meter and a vehicle may have the same id."""
BATTERY: Final = "battery-over-temperature"
EFFICIENCY: Final = "efficiency-below-threshold"
IMPLAUSIBLE: Final = "implausible-ratio"
DEAD_LETTERS: Final = "dead-letter-rate"
CLOCK: Final = "clock-difference"
SESSION_LOST: Final = "broker-session-lost"
DEVICE_KINDS: Final = (*SILENT.values(), BATTERY, EFFICIENCY, IMPLAUSIBLE)
OF_VEHICLES: Final = (BATTERY, EFFICIENCY, IMPLAUSIBLE)
SUMMARY: Final = {kind: f"{kind}-summary" for kind in DEVICE_KINDS}
"""The alert that stands for many devices; a kind of its own, as a device may have the id "fleet"."""
FLEET_KINDS: Final = (DEAD_LETTERS, CLOCK, SESSION_LOST, *SUMMARY.values())
"""Alerts of these kinds are about no single device."""
KINDS: Final = (*DEVICE_KINDS, *FLEET_KINDS)

FLEET: Final = "fleet"
"""The subject of such an alert."""

TOPIC_ROOT: Final = "ingestd/alerts"
CLEARED_KEPT: Final = timedelta(days=1)
"""The broker keeps the message of a cleared alert for this long (Message Expiry Interval)."""

RETIRED: Final = timedelta(days=7)
"""A device that has been silent for this long is taken as retired, and its alerts end."""

BATTERY_FRESH: Final = timedelta(hours=1)
"""A temperature that is older than this raises no alert."""

MOST_OPEN: Final = 1000
"""At most this many alerts of single devices are open for each kind."""

EFFICIENCY_AGE: Final = timedelta(hours=24)
"""Hours that ended longer ago raise no alert: the ledger is behind."""
HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What was observed of a device or the fleet. Within the margin the condition neither holds nor is over."""

    kind: str
    subject: str  # a device's id, or FLEET
    value: float
    bound: float
    holds: bool
    over: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was found for one kind of alert."""

    seen: Mapping[str, Observation | None]
    """By subject: devices with an open alert, and others for which the condition holds; None: no value is known."""
    others: int = 0
    """The number of other devices without an open alert for which it holds."""


class AlertMessage(TypedDict):
    """An alert as the API, the broker and the webhook show it."""

    id: Annotated[int | None, Field(description="the same for all messages about one alert")]
    kind: str
    deviceId: Annotated[str | None, Field(description="null where the alert is about no single device")]
    state: State
    since: Annotated[datetime, Field(description="the condition has held since")]
    raisedAt: datetime | None
    clearedAt: Annotated[datetime | None, Field(description="null while the alert is active")]
    value: Annotated[float, Field(description="at the last change of state; in seconds, °C, shares of 1, or devices")]
    limit: Annotated[float, Field(description="in the unit of the value")]
    detail: Annotated[str, Field(description="the same in words")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """An alert as it is stored. Value, bound and detail are those of its last change of state."""

    id: int | None = None  # None until it is stored
    kind: str
    subject: str
    state: State
    since: datetime  # the condition has held since
    raised_at: datetime | None = None
    over_since: datetime | None = None  # of an active alert: the condition has been over since
    cleared_at: datetime | None = None
    value: float
    bound: float
    detail: str

    @property
    def topic(self) -> str:
        """Where the broker has it."""
        return f"{TOPIC_ROOT}/{self.kind}/{self.subject}"

    def described(self) -> AlertMessage:
        """The alert as others see it; times are datetimes."""
        return {
            "id": self.id,
            "kind": self.kind,
            "deviceId": None if self.kind in FLEET_KINDS else self.subject,
            "state": self.state,
            "since": self.since,
            "raisedAt": self.raised_at,
            "clearedAt": self.cleared_at,
            "value": self.value,
            "limit": self.bound,
            "detail": self.detail,
        }


def message_schema() -> dict[str, Any]:
    """The JSON Schema of a published alert: of `Alert.described`, which is stored and not pending."""
    schema = TypeAdapter(AlertMessage).json_schema(mode="serialization")
    members: dict[str, Any] = schema["properties"]
    for member in members.values():
        member.pop("title", None)
    del members["id"]["anyOf"]
    members["id"]["type"] = "integer"
    members["kind"]["enum"] = list(KINDS)
    members["state"]["enum"] = ["active", "cleared"]
    schema["title"] = "alert"
    return schema


Change: TypeAlias = tuple[Alert | None, Alert | None]
"""An open alert before and after a step; None: there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertFilter:
    """Which alerts are wanted; None matches everything."""

    state: State | None = None
    kind: str | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """The time of this look, and since when the daemons have looked without a break."""

    now: datetime
    since: datetime
    minimum: timedelta

    def long_enough(self, begun: datetime) -> bool:
        return self.now - max(begun, self.since) >= self.minimum


def step(alert: Alert | None, seen: Observation | None, watch: Watch) -> Alert | None:
    """The open alert (None: there is none) after an observation; None: there is no open alert any more.

    Without an observation, a pending alert ends and an active one stays.
    """
    if alert is None or alert.state == "pending":
        if seen is None or not seen.holds:
            return None
        alert = alert or Alert(
            kind=seen.kind,
            subject=seen.subject,
            state="pending",
            since=watch.now,
            value=seen.value,
            bound=seen.bound,
            detail=seen.detail,
        )
        if watch.long_enough(alert.since):
            return replace(_as_seen(alert, seen), state="active", raised_at=watch.now)
        return alert
    if seen is None or not seen.over:
        return replace(alert, over_since=None)
    over_since = alert.over_since or watch.now
    if watch.long_enough(over_since):
        return replace(_as_seen(alert, seen), state="cleared", over_since=over_since, cleared_at=watch.now)
    return replace(alert, over_since=over_since)


def retire(alert: Alert, now: datetime) -> Alert | None:
    """The open alert of a device that is taken as retired; None if it was pending."""
    if alert.state == "pending":
        return None
    return replace(alert, state="cleared", cleared_at=now, detail=f"not heard for {RETIRED.days} days: retired")


def device_kinds(stream: Stream) -> Sequence[str]:
    """The kinds of alerts that are about single devices of a stream."""
    return (SILENT[stream.name], *(OF_VEHICLES if stream is VEHICLE else ()))


def _as_seen(alert: Alert, seen: Observation) -> Alert:
    return replace(alert, value=seen.value, bound=seen.bound, detail=seen.detail)
