"""Which conditions have alerts, and when an alert is raised and cleared. Pure: observations in, states out.

An alert is raised when its condition has held without a break for the minimum duration. It is cleared when the
condition has been over, beyond a margin, for as long. Time is that of the daemon's clock, not of the readings. Time in
which no daemon watched does not count. Efficiencies are those of closed hours, and their time is the end of these
hours, so a second look at the same hours does not count either.
"""

from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict  # typing's own serves pydantic from Python 3.12 on

from ingestd.model.answers import VehicleEfficiency
from ingestd.model.efficiency import Status
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
BATTERY_MARGIN: Final = 3.0  # °C

MOST_OPEN: Final = 1000
"""At most this many alerts of single devices are open for each kind."""
SUMMARY_RELEASE: Final = 0.9
"""The summary of a kind is over when this part of that bound is reached."""

EFFICIENCY_AGE: Final = timedelta(hours=24)
"""Hours that ended longer ago raise no alert: the ledger is behind."""
HOUR: Final = timedelta(hours=1)
STATUS: Final[Mapping[str, Status]] = {EFFICIENCY: "below-threshold", IMPLAUSIBLE: "implausible"}
"""By kind: the status of a vehicle for which its condition holds."""
EFFICIENCY_MARGIN: Final = 0.02
MAX_RATIO: Final = 1.0
"""DC energy divided by AC energy cannot be more."""

DEAD_LETTER_WINDOW: Final = timedelta(minutes=5)
DEAD_LETTER_SHARE: Final = 0.01
DEAD_LETTER_MIN_MESSAGES: Final = 100
"""With fewer messages than this, the rate is calculated as if there were this many: else one bad message among a few
would raise an alert."""

CLOCK_DIFFERENCE: Final = timedelta(minutes=5)
"""Between our clock and the database's."""

SESSION_LOST_FOR: Final = timedelta(hours=1)
"""The alert of a lost session lasts this long."""

CHUNK: Final = 500
"""Items in one step, of a millisecond or two."""

_T = TypeVar("_T")


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


def in_chunks(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """The items in parts: between them the event loop can run other tasks. A whole fleet may be silent at once."""
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]


def silence(kind: str, subject: str, *, heard_at: datetime, bound: float, now: datetime) -> Observation:
    """Seconds since a device reported. The condition is over at half the bound: then the device reports again."""
    seconds = (now - heard_at).total_seconds()
    return Observation(
        kind=kind,
        subject=subject,
        value=seconds,
        bound=bound,
        holds=seconds > bound,
        over=seconds <= bound / 2,
        detail=f"last heard at {heard_at:%FT%TZ}",
    )


def battery(subject: str, *, celsius: float, bound: float) -> Observation:
    """The temperature of a vehicle's battery."""
    return Observation(
        kind=BATTERY,
        subject=subject,
        value=celsius,
        bound=bound,
        holds=celsius > bound,
        over=celsius <= bound - BATTERY_MARGIN,
        detail=f"battery at {celsius:g} °C, limit {bound:g} °C",
    )


def clock(difference: timedelta) -> Observation:
    """How far our clock is ahead of the database's."""
    size = abs(difference)
    side = "ahead of" if difference > timedelta() else "behind"
    return Observation(
        kind=CLOCK,
        subject=FLEET,
        value=size.total_seconds(),
        bound=CLOCK_DIFFERENCE.total_seconds(),
        holds=size > CLOCK_DIFFERENCE,
        over=size <= CLOCK_DIFFERENCE / 2,
        detail=f"the clock of ingestd is {size} {side} the database's; nothing is deleted until they agree",
    )


def charging(kind: str, vehicles: Sequence[VehicleEfficiency], *, with_alert: Collection[str], limit: int) -> Found:
    """For a kind of STATUS: the vehicles with an open alert, then others, up to `limit` alerts in all."""
    known = [vehicle for vehicle in vehicles if vehicle.vehicle_id in with_alert]
    new = [vehicle for vehicle in vehicles if vehicle.status == STATUS[kind] and vehicle.vehicle_id not in with_alert]
    room = max(limit - len(with_alert), 0)
    return Found(
        seen={vehicle.vehicle_id: efficiency(kind, vehicle) for vehicle in (*known, *new[:room])},
        others=len(new[room:]),
    )


def efficiency(kind: str, vehicle: VehicleEfficiency) -> Observation | None:
    """A vehicle's ratio of the last 24 closed hours, for a kind of STATUS; None if it has no ratio."""
    ratio, threshold = vehicle.efficiency_ratio, vehicle.threshold
    if ratio is None:
        return None
    if kind == EFFICIENCY:
        bound = threshold
        beyond_margin = ratio >= min(threshold + EFFICIENCY_MARGIN, MAX_RATIO)
    else:
        bound = MAX_RATIO
        beyond_margin = ratio <= MAX_RATIO - EFFICIENCY_MARGIN
    holds = vehicle.status == STATUS[kind]
    return Observation(
        kind=kind,
        subject=vehicle.vehicle_id,
        value=ratio,
        bound=bound,
        holds=holds,
        over=beyond_margin and not holds,
        detail=f"DC over AC of the last 24 closed hours is {ratio:.3f}, limit {bound:g}",
    )


def summary(kind: str, *, devices: int, limit: int) -> Observation:
    """The number of devices for which the condition of a kind holds."""
    return Observation(
        kind=SUMMARY[kind],
        subject=FLEET,
        value=devices,
        bound=limit,
        holds=devices > limit,
        over=devices <= limit * SUMMARY_RELEASE,
        detail=f"{kind}: {devices} devices; at most {limit} have an alert of their own",
    )


class DeadLetterShare:
    """The part of the received messages that became dead letters, by the daemon's own counters."""

    def __init__(self) -> None:
        self._counts: deque[tuple[datetime, float, float]] = deque()
        self._by_sender: deque[Mapping[str, int]] = deque()  # for each of these, since the one before

    def look(
        self, *, now: datetime, received: float, dead_lettered: float, by_sender: Mapping[str, int]
    ) -> Observation:
        """Compare the counters with those at the start of the window, or at the first look.

        `by_sender`: dead letters since the last look, by device; those of the worst devices are enough.
        """
        while len(self._counts) > 1 and self._counts[1][0] <= now - DEAD_LETTER_WINDOW:
            self._counts.popleft()
            self._by_sender.popleft()
        self._counts.append((now, received, dead_lettered))
        self._by_sender.append(by_sender)
        _, received_before, dead_before = self._counts[0]
        came, died = received - received_before, dead_lettered - dead_before
        share = died / max(came, DEAD_LETTER_MIN_MESSAGES)
        return Observation(
            kind=DEAD_LETTERS,
            subject=FLEET,
            value=share,
            bound=DEAD_LETTER_SHARE,
            holds=share > DEAD_LETTER_SHARE,
            over=share <= DEAD_LETTER_SHARE / 2,
            detail=f"{died:.0f} of {came:.0f} messages of the last 5 min became dead letters{self._worst(died)}",
        )

    def _worst(self, died: float) -> str:
        """Who sent most of the dead letters of the window, and which share of them."""
        letters: Counter[str] = Counter()
        for since_last_look in islice(self._by_sender, 1, None):
            letters.update(since_last_look)
        if not letters or not died:
            return ""
        ((sender, number),) = letters.most_common(1)
        return f"; most are of {sender}: {number}, {min(1.0, number / died):.0%}"


class SessionLosses:
    """When the broker last lost our session, by the daemon's own counter."""

    def __init__(self) -> None:
        self._count = 0
        self._since: datetime | None = None  # the last loss, or the first look

    def look(self, *, now: datetime, lost: int) -> Observation | None:
        """Compare the counter with the last look. None: no loss is known, but too little time has passed to say so."""
        if self._since is None or lost > self._count:
            self._since, self._count = now, lost
        elapsed = now - self._since
        if not lost and elapsed < SESSION_LOST_FOR:
            return None
        return Observation(
            kind=SESSION_LOST,
            subject=FLEET,
            value=elapsed.total_seconds(),
            bound=SESSION_LOST_FOR.total_seconds(),
            holds=elapsed < SESSION_LOST_FOR,
            over=elapsed >= SESSION_LOST_FOR,
            detail=f"the broker lost our session at {self._since:%FT%TZ}: messages that waited in it are gone"
            if lost
            else "the broker has kept our session",
        )
