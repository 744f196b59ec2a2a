"""What is observed of devices and of the fleet, as the conditions of alerts need it. Pure."""

from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Final, TypeVar

from ingestd.model.alert import (
    BATTERY,
    CLOCK,
    DEAD_LETTERS,
    EFFICIENCY,
    FLEET,
    IMPLAUSIBLE,
    SESSION_LOST,
    SUMMARY,
    Found,
    Observation,
)
from ingestd.model.answers import VehicleEfficiency
from ingestd.model.efficiency import Status

BATTERY_MARGIN: Final = 3.0  # °C
SUMMARY_RELEASE: Final = 0.9
"""The summary of a kind is over when this part of that bound is reached."""
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
