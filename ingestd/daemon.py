"""The composition root: who is wired to whom, in which order things start and stop.

Start: migrate, store, HTTP, flusher, broker; ready. Nothing is read before it can be stored.
Stop:  unready, stop reading, last flush with its acknowledgements, DISCONNECT, HTTP, store. Inputs stop
first and outputs last, so that what was taken in leaves by the ordinary way.
"""

import asyncio
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import structlog

from ingestd.alerting.alerting import Alerting
from ingestd.alerting.watcher import Rules
from ingestd.alerting.webhook import Webhook
from ingestd.config import Settings
from ingestd.errors import StoreError
from ingestd.http.intake import Intake
from ingestd.http.ports import Condition
from ingestd.http.server import HttpServer
from ingestd.metrics import Metrics
from ingestd.model.decode import Window
from ingestd.model.efficiency import EfficiencyPolicy
from ingestd.model.register import Rule
from ingestd.model.sessions import SessionRule
from ingestd.model.stream import METER, VEHICLE, WITH_ENERGY, Stream
from ingestd.mqtt.address import BrokerAddress
from ingestd.mqtt.connection import RECEIVE_MAXIMUM
from ingestd.mqtt.extras import Extra
from ingestd.mqtt.session import Session
from ingestd.pipeline.buffer import Buffer
from ingestd.pipeline.flusher import Flusher
from ingestd.process import notify_systemd, stop_signals, tune_garbage_collection
from ingestd.store.alerts import Alerts
from ingestd.store.analytics import Analytics
from ingestd.store.clocks import Clocks
from ingestd.store.closing import Closing
from ingestd.store.database import Reads
from ingestd.store.dead_letters import DeadLetters
from ingestd.store.device_settings import DeviceSettingsTable
from ingestd.store.devices import Devices
from ingestd.store.exports import Exports
from ingestd.store.fleet import Fleet
from ingestd.store.leadership import Leadership
from ingestd.store.mappings import Mappings
from ingestd.store.migrations import migrate
from ingestd.store.partitions import Partitions
from ingestd.store.retention import Retention
from ingestd.store.series import Series
from ingestd.store.writer import Writer

log = structlog.get_logger(__name__)

DRAIN_SECONDS: Final = 7.5
"""How long the last flush may take; what is not acknowledged by then comes again at the next start."""
EXIT_SECONDS: Final = DRAIN_SECONDS + 2.0
"""After this the process ends, whatever hangs; below systemd's and Docker's ten seconds."""
HEALTH_SECONDS: Final = 2.0
"""A database that takes longer to answer at all is not healthy."""
HOUSEKEEPING_SECONDS: Final = 3600.0
HOUSEKEEPING_RETRY_SECONDS: Final = 60.0
SUMMARY_SECONDS: Final = 60.0
CLOSING_SECONDS: Final = 5.0
"""How often it is looked whether a quarter can be closed, or is stale."""
BACKLOG: Final = timedelta(minutes=15)
"""Readings that come in later than this after they were taken are a backlog. The ledger lets them in first."""
PUT_OFF_SECONDS: Final = 120.0
"""But for no longer than this."""
_MICROSECOND: Final = timedelta(microseconds=1)


class Daemon:
    """One ingestd: built from settings, run once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.ready = asyncio.Event()
        self.http_port = settings.http_port
        self._dsn = settings.database_url.get_secret_value()
        self._metrics = Metrics()
        self._buffer = Buffer(
            metrics=self._metrics,
            max_messages=settings.buffer_max_messages,
            # The broker sends no more than its window; waiting for more than half of it would only stall.
            flush_at=min(settings.flush_max_messages, settings.buffer_max_messages, RECEIVE_MAXIMUM // 2),
            interval=settings.flush_interval.total_seconds(),
        )
        self._writer = Writer(self._dsn)
        self._partitions = Partitions(self._dsn)
        self._reads = Reads(self._dsn)
        # Connections of their own: requests that take all of the pool neither stop the alerts nor look like an outage.
        self._health = Reads(self._dsn, application_name="ingestd-health", connections=1, seconds=HEALTH_SECONDS)
        self._background = Reads(self._dsn, application_name="ingestd-background", connections=2)
        self._flusher = Flusher(buffer=self._buffer, store=self._writer, metrics=self._metrics)
        window = Window(max_age=settings.max_age, max_skew=settings.max_skew)
        self._session = Session(
            address=BrokerAddress.of(settings),
            window=window,
            deliver=self._buffer.put,
            metrics=self._metrics,
            read_delay=self._buffer.read_delay,
            extras=_extras(settings),
        )
        self._buffer.on_pressure(self._on_pressure)
        self._leadership = Leadership(self._dsn, client_id=settings.mqtt_client_id)
        self._stopping = False
        self._clocks = Clocks(self._background)
        self._retention = Retention(
            clocks=self._clocks,
            partitions=self._partitions,
            dead_letters=DeadLetters(self._background),
            history=settings.retention,
            ledger=settings.rollup_retention,
            dead_letters_kept=settings.dead_letter_retention,
        )
        self._closing = Closing(self._dsn, rules=_rules(settings), flush_interval=settings.flush_interval)
        policy = _policy(settings)
        self._alerting = self._make_alerting(policy)
        self._http = self._make_http(window, policy)
        self._metrics.expose_in_flight(self._buffer.in_flight)
        self._metrics.expose_clock_difference(lambda: self._clocks.difference)
        self._metrics.expose_ledger(lambda: self._closing.made_until, lambda: self._closing.stale_devices)

    def _make_alerting(self, policy: EfficiencyPolicy) -> Alerting:
        settings = self._settings
        webhook = settings.alert_webhook_url
        return Alerting(
            rules=Rules(
                minimum=settings.alert_min_duration,
                battery_celsius=settings.alert_battery_temp,
                offline_after=settings.offline_after,
            ),
            holder=settings.mqtt_client_id,
            store=Alerts(self._background),
            efficiencies=self._fleet(self._background, policy),
            clock_difference=lambda: self._clocks.difference,
            broker=self._session,
            webhook=Webhook(webhook.get_secret_value()) if webhook else None,
            metrics=self._metrics,
        )

    def _make_http(self, window: Window, policy: EfficiencyPolicy) -> HttpServer:
        fleet = self._fleet(self._reads, policy)
        return HttpServer(
            host=self._settings.http_host,
            port=self._settings.http_port,
            intake=Intake(
                window=window,
                admit=self._buffer.admit,
                put=partial(self._buffer.put, urgent=True),
                trouble=self._intake_trouble,
            ),
            analytics=self._analytics(self._reads, policy),
            fleet=fleet,
            series=Series(
                self._reads,
                rules=_rules(self._settings),
                session=SessionRule(
                    min_kw=self._settings.session_min_kw, pause=self._settings.session_pause // _MICROSECOND
                ),
                history=self._settings.retention,
            ),
            devices=Devices(self._reads, efficiencies=fleet.efficiencies, offline_after=self._settings.offline_after),
            device_settings=DeviceSettingsTable(self._reads),
            mappings=Mappings(self._reads),
            exports=Exports(self._dsn),
            dead_letters=DeadLetters(self._reads),
            alerts=Alerts(self._reads),
            condition=self._condition,
            ping=self._health.ping,
            exposition=self._metrics.exposition,
        )

    def _analytics(self, reads: Reads, policy: EfficiencyPolicy) -> Analytics:
        return Analytics(reads, rules=_rules(self._settings), policy=policy, history=self._settings.retention)

    def _fleet(self, reads: Reads, policy: EfficiencyPolicy) -> Fleet:
        return Fleet(reads, rules=_rules(self._settings), policy=policy)

    async def run(self, *, stop: asyncio.Event, migrate_first: bool = True) -> None:
        """Serve until `stop` is set. Raises IngestdError where it cannot start, or what a task died of."""
        if migrate_first:
            await migrate(self._dsn)
        async with AsyncExitStack() as resources:
            resources.push_async_callback(self._writer.close)
            await self._writer.open()
            await self._partitions.make_ahead()
            async with asyncio.TaskGroup() as opening:  # at once, as a host may be silent for a while
                for reads in (self._reads, self._health, self._background):
                    resources.push_async_callback(reads.close)
                    opening.create_task(reads.open())
            resources.push_async_callback(self._leadership.close)
            resources.push_async_callback(self._closing.close)
            resources.push_async_callback(self._http.stop)
            self.http_port = await self._http.start()
            log.info("listening", host=self._settings.http_host, port=self.http_port)
            async with asyncio.TaskGroup() as tasks:
                flushing = tasks.create_task(self._flusher.run(), name="flusher")
                background = [
                    tasks.create_task(self._keep_house(), name="housekeeping"),
                    tasks.create_task(self._summarize(), name="summary"),
                    tasks.create_task(self._close_quarters(), name="ledger"),
                ]
                leading = tasks.create_task(self._lead(tasks), name="leadership")
                background.append(leading)
                await stop.wait()
                notify_systemd("STOPPING=1")
                await self._drain(flushing)
                for task in background:
                    task.cancel()
                await self._session.close()
        log.info("stopped")

    async def _lead(self, tasks: asyncio.TaskGroup) -> None:
        """Read from the broker only while no other daemon of this client id does.

        Raises BrokerError where the broker cannot be reached at the very start.
        """
        await self._leadership.acquire()
        await self._session.open()
        listening = tasks.create_task(self._session.run(), name="mqtt-session")
        notify_systemd("READY=1")
        log.info("ready")
        self.ready.set()
        alerting: asyncio.Task[None] | None = None
        try:
            while True:
                alerting = tasks.create_task(self._alerting.run(), name="alerting")
                reason = await self._leadership.lost()
                self._session.hold("standby")  # before anything else
                alerting.cancel()
                log.warning("no longer certain to be the active one; reading stopped", reason=reason)
                await self._leadership.acquire()
                self._session.release("standby")
        finally:
            listening.cancel()
            if alerting is not None:
                alerting.cancel()

    def _on_pressure(self, on: bool) -> None:  # noqa: FBT001 - the buffer's callback has one argument
        if on:
            self._session.hold("buffer")
        else:
            self._session.release("buffer")

    async def _drain(self, flushing: asyncio.Task[None]) -> None:
        """Take nothing more in, and let what is there leave by the ordinary way."""
        log.info("stopping", buffered=self._buffer.messages)
        self._stopping = True
        self._session.hold("stopping")
        self._buffer.close()
        _, late = await asyncio.wait({flushing}, timeout=DRAIN_SECONDS)
        if late:
            log.error("not all could be stored in time; it comes again", messages=self._buffer.messages)
            flushing.cancel()

    def _intake_trouble(self) -> str | None:
        return "standing by for another ingestd" if self._leadership.is_standby else self._flusher.reason

    def _condition(self) -> Condition:
        committed = self._flusher.last_commit_at
        return Condition(
            stopping=self._stopping,
            standby=self._leadership.is_standby,
            store_trouble=self._flusher.reason,
            broker_trouble=self._session.reason,
            last_commit_age=None if committed is None else time.monotonic() - committed,
            buffered_messages=self._buffer.messages,
        )

    async def _summarize(self) -> None:
        """One line a minute: enough to see from the log alone that readings flow."""
        before = self._metrics.totals()
        while True:
            await asyncio.sleep(SUMMARY_SECONDS)
            now = self._metrics.totals()
            log.info(
                "last minute",
                **{name: int(now[name] - before[name]) for name in now},
                buffered=self._buffer.messages,
            )
            before = now

    async def _close_quarters(self) -> None:
        """Keep the ledger up with the readings. Whoever stands by does it too: daemons divide the shares among them."""
        done_at = time.monotonic()
        while True:
            # First of all, so that a backlog that waits in the broker shows itself.
            await asyncio.sleep(CLOSING_SECONDS)
            if self._is_backlog_coming_in() and time.monotonic() - done_at < PUT_OFF_SECONDS:
                continue
            try:
                if await self._clocks.agree():
                    await self._closing.catch_up(arriving=self._flusher.arriving)
            except StoreError as error:
                log.warning("the ledger is behind; tried again soon", reason=str(error))
            done_at = time.monotonic()

    def _is_backlog_coming_in(self) -> bool:
        arriving, committed = self._flusher.arriving, self._flusher.last_commit_at
        if arriving is None or committed is None or time.monotonic() - committed > CLOSING_SECONDS:
            return False
        return datetime.now(UTC) - arriving > BACKLOG

    async def _keep_house(self) -> None:
        """Make partitions ahead of time and let go what is past its retention, for as long as the daemon runs."""
        while True:
            pause = HOUSEKEEPING_SECONDS
            for chore in (self._partitions.make_ahead, self._retention.apply):
                try:
                    await chore()
                except StoreError as error:
                    pause = HOUSEKEEPING_RETRY_SECONDS
                    log.warning("housekeeping failed; tried again soon", reason=str(error))
            await asyncio.sleep(pause)


def _extras(settings: Settings) -> list[Extra]:
    chosen: dict[Extra, bool] = {"probe": settings.mqtt_probe, "$SYS": settings.mqtt_sys}
    return [extra for extra, wanted in chosen.items() if wanted]


def _policy(settings: Settings) -> EfficiencyPolicy:
    return EfficiencyPolicy(
        threshold=settings.efficiency_threshold,
        min_kwh=settings.efficiency_min_kwh,
        min_share=settings.efficiency_min_share,
        session_min_kw=settings.session_min_kw,
    )


def _rules(settings: Settings) -> dict[Stream, Rule]:
    max_gap = settings.max_gap // _MICROSECOND
    of_setting: dict[Stream, float] = {METER: settings.meter_max_kw, VEHICLE: settings.vehicle_max_kw}
    return {stream: Rule(max_kw=of_setting.get(stream, stream.max_kw), max_gap=max_gap) for stream in WITH_ENERGY}


async def serve(settings: Settings, *, migrate_first: bool = True) -> None:
    """A daemon from the settings, until SIGTERM or SIGINT. Raises IngestdError."""
    tune_garbage_collection()
    async with stop_signals(within=EXIT_SECONDS) as stop:
        await Daemon(settings).run(stop=stop, migrate_first=migrate_first)
