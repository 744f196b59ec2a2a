"""What is worth an alert, and when one is raised and cleared. Pure: what was seen goes in, the state comes out.

A condition must hold without a break for the minimum duration before its alert is raised, and be over, beyond a
margin, for as long before it is cleared. Time is that of the daemon's clock, not of the readings: what counts is
how long we have known. Time in which nobody watched proves nothing and does not count.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal, TypeAlias, TypeVar

from ingestd.analytics import VehicleEfficiency
from ingestd.telemetry import STREAMS

State: TypeAlias = Literal["pending", "active", "cleared"]

SILENT: Final = {stream.name: f"{stream.name}-silent" for stream in STREAMS}
"""By stream, as a meter and a vehicle may bear the same id."""
BATTERY: Final = "battery-over-temperature"
EFFICIENCY: Final = "efficiency-below-threshold"
IMPLAUSIBLE: Final = "implausible-ratio"
DEAD_LETTERS: Final = "dead-letter-rate"
CLOCK: Final = "clock-difference"
SESSION_LOST: Final = "broker-session-lost"
FLEET_KINDS: Final = (DEAD_LETTERS, CLOCK, SESSION_LOST)
"""They concern no single device."""
KINDS: Final = (*SILENT.values(), BATTERY, EFFICIENCY, IMPLAUSIBLE, *FLEET_KINDS)

FLEET: Final = "fleet"
"""The subject of such an alert."""

RETIRED: Final = timedelta(days=7)
"""Nothing is expected any more of a device that has been silent for so long."""

BATTERY_FRESH: Final = timedelta(hours=1)
"""An older temperature raises no alert."""
BATTERY_MARGIN: Final = 3.0  # °C

CHARGING_WINDOW: Final = timedelta(hours=24)
EFFICIENCY_MARGIN: Final = 0.02
MOST_PLAUSIBLE: Final = 1.0
"""DC energy over AC energy; more cannot be."""

DEAD_LETTER_WINDOW: Final = timedelta(minutes=5)
DEAD_LETTER_SHARE: Final = 0.01
DEAD_LETTER_LEAST: Final = 100
"""The share is that of so many messages at least, or one bad message among a few would be an alert."""

CLOCK_DIFFERENCE: Final = timedelta(minutes=5)
"""Between our clock and the database's."""

SESSION_LOST_FOR: Final = timedelta(hours=1)
"""A lost session is worth an alert for so long."""

CHUNK: Final = 500
"""So many are looked at in a millisecond or two."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One look at what an alert may be about: the condition holds beyond `bound`, and is over from `release` on.

    Which side of the bound is the bad one is told by where `release` lies: on the other side.
    """

    kind: str
    subject: str  # a device's id, or FLEET
    value: float
    bound: float
    release: float
    detail: str

    @property
    def holds(self) -> bool:
        return self.value > self.bound if self.release < self.bound else self.value < self.bound

    @property
    def over(self) -> bool:
        return self.value <= self.release if self.release < self.bound else self.value >= self.release


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """An alert as it is kept. Value, bound and detail are those of its last change of state."""

    id: int | None = None  # None until it is stored
    kind: str
    subject: str
    state: State
    since: datetime  # from when on the condition held
    raised_at: datetime | None = None
    over_since: datetime | None = None  # of an active one: from when on the condition has been over
    cleared_at: datetime | None = None
    value: float
    bound: float
    detail: str

    def described(self) -> dict[str, object]:
        """As the API, the broker and the webhook show it; times are datetimes."""
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


Change: TypeAlias = tuple[Alert | None, Alert | None]
"""An open alert before and after; None: there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertFilter:
    """Which alerts; None lets everything through."""

    state: State | None = None
    kind: str | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """The moment of an evaluation, and since when there has been one after the other without a break."""

    now: datetime
    since: datetime
    minimum: timedelta

    def long_enough(self, begun: datetime) -> bool:
        return self.now - max(begun, self.since) >= self.minimum


def step(alert: Alert | None, seen: Observation | None, watch: Watch) -> Alert | None:
    """What becomes of the open alert (None: there is none) after one look; None: there is none, or none any more.

    Where nothing could be seen, a pending alert goes and an active one stays.
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
    """What becomes of an open alert when nothing is expected of its device any more."""
    if alert.state == "pending":
        return None
    return replace(alert, state="cleared", cleared_at=now, detail=f"not heard for {RETIRED.days} days: retired")


def _as_seen(alert: Alert, seen: Observation) -> Alert:
    return replace(alert, value=seen.value, bound=seen.bound, detail=seen.detail)


def in_chunks(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """For work on many that is to leave others their turn in between: a whole fleet may be silent at once."""
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]


def silence(kind: str, subject: str, *, heard_at: datetime, bound: float, now: datetime) -> Observation:
    """Seconds since a device was heard. Over at half the bound, so that the device is known to report again."""
    return Observation(
        kind=kind,
        subject=subject,
        value=(now - heard_at).total_seconds(),
        bound=bound,
        release=bound / 2,
        detail=f"last heard at {heard_at:%FT%TZ}",
    )


def battery(subject: str, *, celsius: float, bound: float) -> Observation:
    """The temperature of a vehicle's battery."""
    return Observation(
        kind=BATTERY,
        subject=subject,
        value=celsius,
        bound=bound,
        release=bound - BATTERY_MARGIN,
        detail=f"battery at {celsius:g} °C, limit {bound:g} °C",
    )


def clock(difference: timedelta) -> Observation:
    """How far our clock is ahead of the database's."""
    bound = CLOCK_DIFFERENCE.total_seconds()
    side = "ahead of" if difference > timedelta() else "behind"
    return Observation(
        kind=CLOCK,
        subject=FLEET,
        value=abs(difference).total_seconds(),
        bound=bound,
        release=bound / 2,
        detail=f"the clock of ingestd is {abs(difference)} {side} the database's; nothing is deleted until they agree",
    )


def charging(vehicle: VehicleEfficiency) -> Iterator[Observation]:
    """A vehicle's ratio of the last 24 hours; nothing where there is none."""
    ratio, threshold = vehicle.efficiency_ratio, vehicle.threshold
    if ratio is None:
        return
    detail = f"DC over AC of the last 24 h is {ratio:.3f}"
    yield Observation(
        kind=EFFICIENCY,
        subject=vehicle.vehicle_id,
        value=ratio,
        bound=threshold,
        release=min(threshold + EFFICIENCY_MARGIN, MOST_PLAUSIBLE),
        detail=f"{detail}, threshold {threshold:g}",
    )
    yield Observation(
        kind=IMPLAUSIBLE,
        subject=vehicle.vehicle_id,
        value=ratio,
        bound=MOST_PLAUSIBLE,
        release=MOST_PLAUSIBLE - EFFICIENCY_MARGIN,
        detail=detail,
    )


class DeadLetterShare:
    """The share of dead letters in what came in, from the daemon's own counters."""

    def __init__(self) -> None:
        self._counts: deque[tuple[datetime, float, float]] = deque()

    def look(self, *, now: datetime, received: float, dead_lettered: float) -> Observation:
        """The counters as they are now, against those at the window's start, or at the first look."""
        while len(self._counts) > 1 and self._counts[1][0] <= now - DEAD_LETTER_WINDOW:
            self._counts.popleft()
        self._counts.append((now, received, dead_lettered))
        _, received_before, dead_before = self._counts[0]
        came, died = received - received_before, dead_lettered - dead_before
        return Observation(
            kind=DEAD_LETTERS,
            subject=FLEET,
            value=died / max(came, DEAD_LETTER_LEAST),
            bound=DEAD_LETTER_SHARE,
            release=DEAD_LETTER_SHARE / 2,
            detail=f"{died:.0f} of {came:.0f} messages of the last 5 min became dead letters",
        )


class SessionLosses:
    """When the broker lost our session last, from the daemon's own counter."""

    def __init__(self) -> None:
        self._count = 0
        self._since: datetime | None = None  # the last loss, or the first look

    def look(self, *, now: datetime, lost: int) -> Observation | None:
        """The counter as it is now. None: no loss is known, nor that there was none for long enough."""
        if self._since is None or lost > self._count:
            self._since, self._count = now, lost
        elapsed = now - self._since
        if not lost and elapsed < SESSION_LOST_FOR:
            return None
        bound = SESSION_LOST_FOR.total_seconds()
        return Observation(
            kind=SESSION_LOST,
            subject=FLEET,
            value=elapsed.total_seconds(),
            bound=bound,
            release=bound,
            detail=f"the broker lost our session at {self._since:%FT%TZ}: messages that waited in it are gone"
            if lost
            else "the broker has kept our session",
        )
