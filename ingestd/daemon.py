"""The composition root: which object is given which, and the order of start and stop.

Start: migrate, database, HTTP, flusher, broker; then ready. Nothing is read before it can be stored.
Stop: unready, stop reading, last flush with its acknowledgements, DISCONNECT, HTTP, database. Inputs stop first and
outputs last, so that what was received is stored and acknowledged as always.
"""

import asyncio
import faulthandler
import sys
import time
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

import structlog

from ingestd.alerting.alerting import Alerting
from ingestd.alerting.channels import channel_names
from ingestd.alerting.watcher import Rules
from ingestd.alerting.webhook import Webhook
from ingestd.config import Settings
from ingestd.databases import Databases
from ingestd.holding import Holding
from ingestd.http.authorization import Authorization
from ingestd.http.browsers import Allowed
from ingestd.http.intake import Intake
from ingestd.http.server import HttpServer
from ingestd.http.services import Condition, Services
from ingestd.last_errors import LAST_ERRORS
from ingestd.meanings import extras, policy, session_rule
from ingestd.metrics import Metrics
from ingestd.model.decode import Window
from ingestd.mqtt.address import BrokerAddress
from ingestd.mqtt.sessions import Sessions
from ingestd.pipeline.storing import Storing
from ingestd.pipeline.summary import log_summaries
from ingestd.pipeline.watchdog import feed_watchdog
from ingestd.process import notify_systemd, stop_signals, tune_garbage_collection, watchdog_seconds
from ingestd.reloading import Reloading
from ingestd.store.alerts import Alerts
from ingestd.store.audit import Audit
from ingestd.store.changes import Changes
from ingestd.store.closing_loop import close_quarters
from ingestd.store.dead_letters import DeadLetters
from ingestd.store.device_settings import DeviceSettingsTable
from ingestd.store.devices import Devices
from ingestd.store.fleet import Fleet
from ingestd.store.forgetting import Forgetting
from ingestd.store.housekeeping import run_housekeeping
from ingestd.store.letter_replay import LetterReplay
from ingestd.store.letter_sizes import measure_letters
from ingestd.store.mappings import Mappings
from ingestd.store.migrations import migrate
from ingestd.store.performance import Performances
from ingestd.store.series import Series
from ingestd.store.sessions_under_way import FleetSessions
from ingestd.tokens import TokensFile

log = structlog.get_logger(__name__)

DRAIN_SECONDS: Final = 7.5
"""How long the last flush may take. What is not acknowledged by then is sent again at the next start."""
EXIT_SECONDS: Final = DRAIN_SECONDS + 2.0
"""After this the process ends in any case; below the ten seconds of systemd and Docker."""


class Daemon:
    """One ingestd: made from settings, run once."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigError."""
        self._tokens = TokensFile(settings.tokens_file) if settings.tokens_file else None
        self._authorization = Authorization(self._tokens.read() if self._tokens else None)
        self._tls = settings.http_tls()
        self.ready = asyncio.Event()
        self.http_port = settings.http_port
        self._settings = settings
        self._window = Window(max_age=settings.max_age, max_skew=settings.max_skew)
        self._stopping = False
        self._metrics = Metrics()
        self._databases = Databases(settings)
        self._storing = Storing.of(settings, store=self._databases.writer, metrics=self._metrics)
        self._sessions = self._make_sessions()
        self._storing.buffer.on_pressure(self._on_pressure)
        self._alerting = self._make_alerting(
            Fleet(self._databases.snapshots(self._databases.background), policy=policy(settings))
        )
        self._holding = Holding(
            locks=self._databases.locks,
            sessions=self._sessions,
            alerting=self._alerting.run,
            on_ready=self._on_ready,
            on_lost=self._databases.cut,
        )
        self._http = self._make_http()
        self.reloading = self._make_reloading()
        self._metrics.expose_in_flight(self._storing.buffer.in_flight)
        self._metrics.expose_condition(
            is_ready=lambda: self._condition().is_ready, is_backlog=lambda: self._storing.flusher.is_backlog
        )
        self._metrics.expose_sessions(self._holding.states)
        self._expose_databases()

    def _expose_databases(self) -> None:
        clocks, closing, archiving = self._databases.clocks, self._databases.closing, self._databases.archiving
        self._metrics.expose_clock_difference(lambda: clocks.difference)
        if (replica := self._databases.replica) is not None:
            self._metrics.expose_replica(is_away=lambda: replica.away is not None, lag=lambda: replica.lag)
        self._metrics.expose_archive(lambda: archiving is not None and archiving.reason is not None)
        self._metrics.expose_ledger(lambda: closing.made_until, lambda: closing.stale_devices)

    def _make_sessions(self) -> Sessions:
        """From the sessions, messages go to the buffer, the flusher and the writer."""
        settings = self._settings
        return Sessions(
            settings.session_ids,
            address=BrokerAddress.of(settings),
            window=self._window,
            deliver=self._storing.buffer.put,
            metrics=self._metrics,
            read_delay=self._storing.buffer.read_delay,
            extras=extras(settings),
        )

    def _make_alerting(self, fleet: Fleet) -> Alerting:
        settings = self._settings
        webhook = settings.alert_webhook_url
        return Alerting(
            rules=Rules(
                minimum=settings.alert_min_duration,
                battery_celsius=settings.alert_battery_temp,
                offline_after=settings.offline_after,
            ),
            holder=settings.mqtt_client_id,
            store=Alerts(self._databases.background),
            efficiencies=fleet,
            clock_difference=lambda: self._databases.clocks.difference,
            broker=self._sessions,
            webhook=Webhook(webhook.get_secret_value()) if webhook else None,
            dead_letters=self._storing.letters.take_counts,
            metrics=self._metrics,
        )

    def _make_http(self) -> HttpServer:
        settings = self._settings
        return HttpServer(
            host=settings.http_host,
            port=settings.http_port,
            allowed=Allowed.of(
                host=settings.http_host, hosts=settings.http_hosts or (), origins=settings.http_origins or ()
            ),
            services=self._make_services(),
            authorization=self._authorization,
            tls=self._tls,
        )

    def _make_reloading(self) -> Reloading:
        readers = {
            "tokens": None if self._tokens is None else partial(self._authorization.read_again, self._tokens),
            "certificate": None if self._tls is None else self._tls.read_again,
        }
        return Reloading(
            audit=Audit(self._databases.background),
            daemon=self._settings.mqtt_client_id,
            files={name: read for name, read in readers.items() if read is not None},
            is_ready=lambda: self.ready.is_set() and not self._stopping,
        )

    def _make_services(self) -> Services:
        settings, databases = self._settings, self._databases
        pool, reads = databases.pool, databases.reads
        snapshots = databases.snapshots(reads)
        fleet = Fleet(snapshots, policy=policy(settings))
        series = Series(snapshots, session=session_rule(settings))
        exports = databases.exports()
        devices = Devices(reads, efficiencies=fleet.efficiencies, offline_after=settings.offline_after)
        return Services(
            intake=Intake(
                window=self._window,
                admit=self._storing.buffer.admit,
                put=partial(self._storing.buffer.put, urgent=True),
                reason=self._intake_reason,
            ),
            performance=Performances(snapshots, policy=policy(settings)).of_vehicle,
            live=devices.newest,
            changes=Changes(reads).look,
            series=series.of_device,
            totals=series.totals,
            sessions=series.sessions,
            sessions_under_way=FleetSessions(snapshots, rule=session_rule(settings)).under_way,
            fleet_energy=fleet.energy,
            fleet_series=fleet.series,
            devices=devices.page,
            device_settings=DeviceSettingsTable(pool),
            forget=Forgetting(
                pool,
                offline_after=settings.offline_after,
                channels=channel_names(has_webhook=settings.alert_webhook_url is not None),
            ).forget,
            mappings=Mappings(pool),
            export=exports.csv,
            archive_end=exports.archive_end,
            dead_letters=DeadLetters(reads).page,
            replay=LetterReplay(pool, dsn=databases.dsn, window=self._window, max_devices=settings.max_devices),
            alerts=Alerts(pool).page,
            audit=Audit(pool).page,
            condition=self._condition,
            last_errors=LAST_ERRORS.newest_first,
            ping=databases.health.ping,
            exposition=self._metrics.exposition,
            requests=self._metrics.requests,
        )

    async def run(self, *, stop: asyncio.Event, migrate_first: bool = True) -> None:
        """Run until `stop` is set. Raises IngestdError if it cannot start, or if a task fails."""
        if migrate_first:
            await migrate(self._settings.owner_dsn, shard_count=self._settings.citus_shard_count)
        async with AsyncExitStack() as resources:
            await self._open(resources)
            async with asyncio.TaskGroup() as tasks:
                flushing = tasks.create_task(self._storing.flusher.run(), name="flusher")
                background = [
                    tasks.create_task(
                        run_housekeeping(self._databases.partitions, self._databases.retention), name="housekeeping"
                    ),
                    tasks.create_task(log_summaries(self._metrics, self._storing.buffer), name="summary"),
                    tasks.create_task(
                        measure_letters(DeadLetters(self._databases.background), self._storing.letters), name="letters"
                    ),
                    tasks.create_task(self._close_quarters(), name="ledger"),
                    tasks.create_task(self._holding.run(), name="holding"),
                    tasks.create_task(self._http.watch(), name="http-connections"),
                    tasks.create_task(self.reloading.run(), name="reloading"),
                    tasks.create_task(self._feed_watchdog(), name="watchdog"),
                ]
                if self._databases.replica is not None:
                    background.append(tasks.create_task(self._databases.replica.run(), name="replica"))
                await stop.wait()
                notify_systemd("STOPPING=1")
                await self._drain(flushing)
                for task in background:
                    task.cancel()
                await self._sessions.close()
                await self._databases.locks.close()  # now, so that other daemons go on with the sessions at once
        log.info("stopped")

    async def _open(self, resources: AsyncExitStack) -> None:
        """Database, then HTTP. Closed in the opposite order. Raises IngestdError."""
        await self._databases.open(resources)
        self._storing.devices.replace(await self._databases.writer.live_devices())
        resources.push_async_callback(self._http.stop)
        self.http_port = await self._http.start()
        log.info("http_listening", host=self._settings.http_host, port=self.http_port)

    def _on_ready(self) -> None:
        notify_systemd("READY=1")
        log.info("ready")
        self.ready.set()

    async def _drain(self, flushing: asyncio.Task[None]) -> None:
        """Stop reading, then store and acknowledge what is in the buffer."""
        log.info("stopping", buffered=self._storing.buffer.messages)
        self._stopping = True
        self._sessions.hold("stopping")
        self._storing.buffer.close()
        _, late = await asyncio.wait({flushing}, timeout=DRAIN_SECONDS)
        if late:
            log.error("drain_timed_out", buffered=self._storing.buffer.messages)
            flushing.cancel()

    async def _close_quarters(self) -> None:
        await close_quarters(
            self._databases.closing,
            self._databases.clocks,
            arriving=lambda: self._storing.flusher.arriving,
            is_backlog=lambda: self._storing.flusher.is_backlog,
        )

    async def _feed_watchdog(self) -> None:
        await feed_watchdog(
            seconds=watchdog_seconds(),
            stuck=lambda: self._storing.flusher.stuck,
            feed=partial(notify_systemd, "WATCHDOG=1"),
        )

    def _on_pressure(self, on: bool) -> None:  # noqa: FBT001 - the buffer's callback has one argument
        if on:
            self._sessions.hold("buffer")
        else:
            self._sessions.release("buffer")

    def _intake_reason(self) -> str | None:
        """Why no reading can be stored now; None if it can."""
        return "standing by for another ingestd" if self._holding.is_standby else self._storing.flusher.reason

    def _condition(self) -> Condition:
        committed, replica, archiving = (
            self._storing.flusher.last_commit_at,
            self._databases.replica,
            self._databases.archiving,
        )
        lag = None if replica is None else replica.lag
        return Condition(
            is_stopping=self._stopping,
            is_standby=self._holding.is_standby,
            database_reason=self._storing.flusher.reason,
            broker_reason=self._holding.reason,
            archive=None if archiving is None else archiving.reason or "ready",
            last_commit_age=None if committed is None else time.monotonic() - committed,
            received_messages=int(self._metrics.totals()["received"]),
            buffered_messages=self._storing.buffer.messages,
            has_replica=replica is not None,
            replica_reason=None if replica is None else replica.reason,
            replica_lag=None if lag is None else lag.total_seconds(),
            sessions=self._holding.states(),
        )


async def serve(settings: Settings, *, migrate_first: bool = True) -> None:
    """A daemon from the settings, until SIGTERM or SIGINT. SIGHUP reads files again. Raises IngestdError."""
    tune_garbage_collection()
    if sys.__stderr__ is not None:
        faulthandler.enable(sys.__stderr__)  # at SIGABRT of the watchdog, the log says where the event loop was
    daemon = Daemon(settings)
    async with stop_signals(within=EXIT_SECONDS, on_hangup=daemon.reloading.on_hangup) as stop:
        await daemon.run(stop=stop, migrate_first=migrate_first)
