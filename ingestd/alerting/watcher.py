"""Raises and clears alerts by the rules of `ingestd.model.alert`."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from ingestd.alerting.open_alerts import OpenAlerts
from ingestd.alerting.ports import AlertStore, Broker, Efficiencies
from ingestd.errors import StoreError
from ingestd.metrics import Metrics
from ingestd.model.alert import (
    BATTERY,
    CLOCK,
    DEAD_LETTERS,
    EFFICIENCY,
    EFFICIENCY_AGE,
    FLEET,
    HOUR,
    MOST_OPEN,
    SESSION_LOST,
    SILENT,
    SUMMARY,
    Alert,
    Change,
    Observation,
    State,
    Watch,
    device_kinds,
    retire,
    step,
)
from ingestd.model.observations import (
    CLOCK_DIFFERENCE,
    STATUS,
    DeadLetterShare,
    SessionLosses,
    charging,
    clock,
    in_chunks,
)
from ingestd.model.stream import STREAMS

log = structlog.get_logger(__name__)

LONGEST_INTERVAL: Final = timedelta(seconds=15)
RARE_INTERVAL: Final = timedelta(minutes=5)
"""The time between two calls of `look_rarely`."""
WATCH_LEASE: Final = 4
"""The lease of a watch, in intervals. After a longer pause the watch begins anew, and another daemon may take it
over."""
PAST_KEPT: Final = timedelta(days=90)
NAMED: Final = 5
"""A log line names at most this many subjects, and the number of all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The settings of alerts."""

    minimum: timedelta  # how long a condition must hold, or be over
    battery_celsius: float
    offline_after: timedelta
    """After this time without a reading a device is silent, unless it has a setting of its own."""

    @property
    def interval(self) -> timedelta:
        """The time between two looks. There are several in the minimum duration."""
        return min(LONGEST_INTERVAL, self.minimum / 4)


class Watcher:
    """Looks for conditions, and raises and clears alerts. Of several daemons on one database, one watches at a time."""

    def __init__(
        self,
        *,
        rules: Rules,
        holder: str,
        store: AlertStore,
        efficiencies: Efficiencies,
        clock_difference: Callable[[], timedelta | None],
        broker: Broker,
        dead_letters: Callable[[], Mapping[str, int]],
        metrics: Metrics,
        channels: Sequence[str],
        most_open: int = MOST_OPEN,
    ) -> None:
        """`holder` tells this daemon from others.

        `clock_difference`: how far our clock is ahead of the database's; None if unknown. `dead_letters`: their number
        by device since it was last called. Of each kind, at most `most_open` alerts of single devices are open.
        """
        self._rules = rules
        self._holder = holder
        self._store = store
        self._efficiencies = efficiencies
        self._clock_difference = clock_difference
        self._broker = broker
        self._take_dead_letters = dead_letters
        self._metrics = metrics
        self._channels = channels
        self._most_open = most_open
        self._judged_until: datetime | None = None  # the end of the closed hours that were looked at last
        self._dead_letters = DeadLetterShare()
        self._losses = SessionLosses()

    async def run(self) -> None:
        """Look again and again."""
        started = datetime.now(UTC)  # the first look compares with this moment
        self._dead_letter_share(started)
        self._session_losses(started)
        loop = asyncio.get_running_loop()
        rare_due = loop.time()
        while True:
            await asyncio.sleep(self._rules.interval.total_seconds())
            try:
                await self.look(datetime.now(UTC))
                if loop.time() >= rare_due:
                    rare_due = loop.time() + RARE_INTERVAL.total_seconds()
                    await self.look_rarely(datetime.now(UTC))
            except StoreError as error:
                log.warning("alert_evaluation_failed", reason=str(error))

    async def look(self, now: datetime) -> None:
        """Look at silence, batteries, dead letters, clocks and the session. Raises StoreError."""
        share = self._dead_letter_share(now)  # also if another daemon watches now: this one may take over later
        loss = self._session_losses(now)
        for stream in STREAMS:
            kind = SILENT[stream.name]
            if self._broker.is_receiving and (watch := await self._watch(kind, now)):
                open_alerts = await self._open(kind)
                silent = await self._store.silent(
                    stream, now=now, offline_after=self._rules.offline_after, limit=open_alerts.limit
                )
                await self._save(open_alerts.changes(silent, watch))
        if watch := await self._watch(BATTERY, now):
            open_alerts = await self._open(BATTERY)
            hot = await self._store.hot(bound=self._rules.battery_celsius, now=now, limit=open_alerts.limit)
            await self._save(open_alerts.changes(hot, watch))
        if watch := await self._watch(DEAD_LETTERS, now):
            await self._update(DEAD_LETTERS, share, watch)
        difference = self._clock_difference()
        if difference is not None and (watch := await self._watch(CLOCK, now)):
            await self._update(CLOCK, clock(difference), watch)
        if watch := await self._watch(SESSION_LOST, now):
            await self._update(SESSION_LOST, loss, watch)
        self._metrics.alerts_active(await self._store.active())

    async def look_rarely(self, now: datetime) -> None:
        """Look at efficiencies. Retire silent devices and delete old alerts. Raises StoreError."""
        if await self._watch(EFFICIENCY, now, RARE_INTERVAL):
            await self._look_at_efficiencies(now)
        # A wrong clock would retire every device, and delete every alert.
        difference = self._clock_difference()
        if difference is None or abs(difference) > CLOCK_DIFFERENCE:
            return
        if await self._watch("retirement", now, RARE_INTERVAL):
            await self._retire(now)
            await self._store.purge(until=now - PAST_KEPT)

    def _dead_letter_share(self, now: datetime) -> Observation:
        totals = self._metrics.totals()
        return self._dead_letters.look(
            now=now,
            received=totals["received"],
            dead_lettered=totals["dead_lettered"],
            by_sender=self._take_dead_letters(),
        )

    def _session_losses(self, now: datetime) -> Observation | None:
        return self._losses.look(now=now, lost=self._broker.sessions_lost)

    async def _watch(self, task: str, now: datetime, interval: timedelta | None = None) -> Watch | None:
        """Take or renew the watch; None if another daemon has it."""
        lease = WATCH_LEASE * (interval or self._rules.interval)
        since = await self._store.take_watch(task, holder=self._holder, now=now, lease=lease)
        return Watch(now=now, since=since, minimum=self._rules.minimum) if since else None

    async def _look_at_efficiencies(self, now: datetime) -> None:
        hours = await self._efficiencies.closed_hours()
        if hours is None or hours.end == self._judged_until or hours.end < now - EFFICIENCY_AGE:
            return
        # Two looks at hours with different ends are enough. The database has all hours, whichever daemon watched.
        watch = Watch(now=hours.end, since=hours.start, minimum=HOUR)
        vehicles = await self._efficiencies.efficiencies(hours)
        for kind in STATUS:
            open_alerts = await self._open(kind)
            found = charging(kind, vehicles, with_alert=open_alerts.alerts, limit=open_alerts.limit)
            await self._save(open_alerts.changes(found, watch))
        self._judged_until = hours.end

    async def _retire(self, now: datetime) -> None:
        for stream in STREAMS:
            alerts = await self._store.retired(stream, device_kinds(stream), now=now)
            await self._save([(alert, retire(alert, now)) for alert in alerts])

    async def _open(self, kind: str) -> OpenAlerts:
        return OpenAlerts(
            kind=kind,
            alerts=await self._store.open(kind),
            summary=(await self._store.open(SUMMARY[kind])).get(FLEET),
            most=self._most_open,
        )

    async def _update(self, kind: str, seen: Observation | None, watch: Watch) -> None:
        """Update the alert of a kind that is about no single device."""
        before = (await self._store.open(kind)).get(FLEET)
        after = step(before, seen, watch)
        if before != after:
            await self._save([(before, after)])

    async def _save(self, changes: Sequence[Change]) -> None:
        for some in in_chunks(changes):
            await self._store.save(some, channels=self._channels)
        if raised := _entered("active", changes):
            log.warning("alerts_raised", kinds=_kinds(raised), count=len(raised), subjects=_subjects(raised))
        if cleared := _entered("cleared", changes):
            log.info("alerts_cleared", kinds=_kinds(cleared), count=len(cleared), subjects=_subjects(cleared))


def _entered(state: State, changes: Sequence[Change]) -> list[Alert]:
    """The alerts that have this state now, and did not have it before."""
    return [
        after for before, after in changes if after and after.state == state and not (before and before.state == state)
    ]


def _kinds(alerts: Sequence[Alert]) -> list[str]:
    return sorted({alert.kind for alert in alerts})


def _subjects(alerts: Sequence[Alert]) -> list[str]:
    return [alert.subject for alert in alerts[:NAMED]]
