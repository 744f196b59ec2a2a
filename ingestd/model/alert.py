"""What is worth an alert, and when one is raised and cleared. Pure: what was seen goes in, the state comes out.

A condition must hold without a break for the minimum duration before its alert is raised, and be over, beyond a
margin, for as long before it is cleared. Time is that of the daemon's clock, not of the readings: what counts is
how long we have known. Time in which nobody watched proves nothing and does not count. Efficiencies are those of
closed hours, and their time is the end of these hours: another look at the same hours proves nothing either.
"""

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal, TypeAlias, TypeVar

from ingestd.model.answers import VehicleEfficiency
from ingestd.model.efficiency import Status
from ingestd.model.stream import STREAMS

State: TypeAlias = Literal["pending", "active", "cleared"]

SILENT: Final = {stream.name: f"{stream.name}-silent" for stream in STREAMS}
"""By stream, as a meter and a vehicle may bear the same id."""
BATTERY: Final = "battery-over-temperature"
EFFICIENCY: Final = "efficiency-below-threshold"
IMPLAUSIBLE: Final = "implausible-ratio"
DEAD_LETTERS: Final = "dead-letter-rate"
CLOCK: Final = "clock-difference"
SESSION_LOST: Final = "broker-session-lost"
DEVICE_KINDS: Final = (*SILENT.values(), BATTERY, EFFICIENCY, IMPLAUSIBLE)
SUMMARY: Final = {kind: f"{kind}-summary" for kind in DEVICE_KINDS}
"""The alert that stands for many devices; a kind of its own, as a device may have the id "fleet"."""
FLEET_KINDS: Final = (DEAD_LETTERS, CLOCK, SESSION_LOST, *SUMMARY.values())
"""They concern no single device."""
KINDS: Final = (*DEVICE_KINDS, *FLEET_KINDS)

FLEET: Final = "fleet"
"""The subject of such an alert."""

RETIRED: Final = timedelta(days=7)
"""Nothing is expected any more of a device that has been silent for so long."""

BATTERY_FRESH: Final = timedelta(hours=1)
"""An older temperature raises no alert."""
BATTERY_MARGIN: Final = 3.0  # °C

MOST_OPEN: Final = 1000
"""Of one kind no more alerts of single devices are open."""
SUMMARY_RELEASE: Final = 0.9
"""The share of that bound at which its summary is over."""

EFFICIENCY_AGE: Final = timedelta(hours=24)
"""Hours that ended longer ago tell nothing of now: the database catches up."""
HOUR: Final = timedelta(hours=1)
STATUS: Final[Mapping[str, Status]] = {EFFICIENCY: "below-threshold", IMPLAUSIBLE: "implausible"}
"""Of a vehicle for which the condition of the kind holds."""
EFFICIENCY_MARGIN: Final = 0.02
MAX_RATIO: Final = 1.0
"""DC energy over AC energy; more cannot be."""

DEAD_LETTER_WINDOW: Final = timedelta(minutes=5)
DEAD_LETTER_SHARE: Final = 0.01
DEAD_LETTER_MIN_MESSAGES: Final = 100
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
    """One look at what an alert may be about. Within the margin the condition neither holds nor is over."""

    kind: str
    subject: str  # a device's id, or FLEET
    value: float
    bound: float
    holds: bool
    over: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one look at a kind has found."""

    seen: Mapping[str, Observation | None]
    """By subject: devices with an open alert, and others for which the condition holds; None: it is not known."""
    others: int = 0
    """Devices for which it holds, too, without an open alert, that are not in `seen`: there would be too many."""


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
    """The moment that is evaluated, and since when this was done without a break."""

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
    """For a kind of STATUS: the vehicles with an open alert, and others while there are not `limit` alerts yet."""
    known = [vehicle for vehicle in vehicles if vehicle.vehicle_id in with_alert]
    new = [vehicle for vehicle in vehicles if vehicle.status == STATUS[kind] and vehicle.vehicle_id not in with_alert]
    room = max(limit - len(with_alert), 0)
    return Found(
        seen={vehicle.vehicle_id: efficiency(kind, vehicle) for vehicle in (*known, *new[:room])},
        others=len(new[room:]),
    )


def efficiency(kind: str, vehicle: VehicleEfficiency) -> Observation | None:
    """A vehicle's ratio of the last 24 closed hours, for a kind of STATUS; None where there is none."""
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
    """How many devices the condition of a kind holds for."""
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
        share = died / max(came, DEAD_LETTER_MIN_MESSAGES)
        return Observation(
            kind=DEAD_LETTERS,
            subject=FLEET,
            value=share,
            bound=DEAD_LETTER_SHARE,
            holds=share > DEAD_LETTER_SHARE,
            over=share <= DEAD_LETTER_SHARE / 2,
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
