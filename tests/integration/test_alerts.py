# ruff: noqa: SIM300 - expected == actual
"""Alerts by what is in the database: raised, cleared, kept over restarts, told to everybody until they have heard."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from pydantic_core import to_json

from ingestd.alerting.alerting import Alerting
from ingestd.alerting.channels import BrokerChannel, Channel, WebhookChannel
from ingestd.alerting.watcher import LONGEST_INTERVAL, RARE_INTERVAL, WATCH_LEASE, Rules, Watcher
from ingestd.errors import BrokerError, MessageTooLargeError, TransientStoreError, WebhookError
from ingestd.metrics import Metrics
from ingestd.model.alert import (
    BATTERY,
    DEAD_LETTERS,
    EFFICIENCY,
    IMPLAUSIBLE,
    KINDS,
    MOST_OPEN,
    SESSION_LOST,
    SILENT,
    SUMMARY,
    AlertFilter,
)
from ingestd.model.answers import VehicleEfficiency
from ingestd.model.periods import TimeRange
from ingestd.model.stream import METER, STREAMS, VEHICLE
from ingestd.store import queries
from ingestd.store.alerts import PAGE, Alerts
from ingestd.store.pool import Pool
from tests.support.polling import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from ingestd.model.efficiency import Status

START = datetime(2026, 11, 20, 10, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
RULES = Rules(minimum=5 * MINUTE, battery_celsius=60, offline_after=10 * MINUTE)
METER_SILENT, VEHICLE_SILENT = SILENT["meter"], SILENT["vehicle"]


@dataclass
class FakeEfficiencies:
    """What the analytics say of vehicles: by their ratio, at a threshold of 0.85."""

    ratios: dict[str, float | None] = field(default_factory=dict)
    closed_until: datetime | None = None
    away: bool = False
    windows: list[TimeRange] = field(default_factory=list)

    async def closed_hours(self) -> TimeRange | None:
        return TimeRange(start=self.closed_until - DAY, end=self.closed_until) if self.closed_until else None

    async def efficiencies(self, window: TimeRange) -> list[VehicleEfficiency]:
        self.windows.append(window)
        if self.away:
            raise TransientStoreError("away")
        return [
            VehicleEfficiency(
                vehicle_id=vehicle_id, efficiency_ratio=ratio, ac_kwh=10, dc_kwh=8, status=judged(ratio), threshold=0.85
            )
            for vehicle_id, ratio in self.ratios.items()
        ]


def judged(ratio: float | None) -> Status:
    if ratio is None:
        return "insufficient-data"
    return "implausible" if ratio > 1 else "below-threshold" if ratio < 0.85 else "ok"


@dataclass
class FakeBroker:
    """Keeps what is retained; refuses while it is away."""

    away: bool = False
    is_receiving: bool = True
    sessions_begun: int = 0
    sessions_lost: int = 0
    largest: int = 1000
    published: list[tuple[str, dict[str, Any], timedelta | None]] = field(default_factory=list)

    async def publish(self, topic: str, payload: bytes, *, expires_after: timedelta | None) -> None:
        if self.away:
            raise BrokerError("away")
        if len(payload) > self.largest:
            raise MessageTooLargeError("too large")
        self.published.append((topic, json.loads(payload), expires_after))

    @property
    def states(self) -> list[tuple[str, str]]:
        return [(topic.removeprefix("ingestd/alerts/"), alert["state"]) for topic, alert, _ in self.published]


@dataclass
class FakeWebhook:
    """Keeps what is posted; says no as often as it is told to."""

    refusals: int = 0
    posted: list[list[dict[str, Any]]] = field(default_factory=list)

    async def post(self, body: bytes) -> None:
        if self.refusals:
            self.refusals -= 1
            raise WebhookError("no")
        self.posted.append(json.loads(body)["alerts"])

    @property
    def states(self) -> list[tuple[str, str]]:
        return [(alert["deviceId"], alert["state"]) for alerts in self.posted for alert in alerts]


class Harness:
    """A watcher and channels over a real database, at a time of the test's choosing."""

    def __init__(self, store: Alerts, connection: psycopg.Connection) -> None:
        self.store = store
        self.connection = connection
        self.now = START
        self.metrics = Metrics()
        self.efficiencies = FakeEfficiencies(closed_until=START - 30 * MINUTE)
        self.dead_letters: dict[str, int] = {}
        self.clock_difference: timedelta | None = timedelta()
        self.broker = FakeBroker()
        self.webhook = FakeWebhook()
        self.watcher = self.another_watcher("ingestd")
        interval = RULES.interval
        self.mqtt: Channel = BrokerChannel(holder="ingestd", store=store, interval=interval, broker=self.broker)
        self.web: Channel = WebhookChannel(holder="ingestd", store=store, interval=interval, webhook=self.webhook)

    def another_watcher(
        self, holder: str, *, channels: Sequence[str] = ("mqtt", "webhook"), most_open: int = MOST_OPEN
    ) -> Watcher:
        return Watcher(
            rules=RULES,
            holder=holder,
            store=self.store,
            efficiencies=self.efficiencies,
            clock_difference=lambda: self.clock_difference,
            broker=self.broker,
            dead_letters=lambda: self.dead_letters,
            metrics=self.metrics,
            channels=channels,
            most_open=most_open,
        )

    def report(
        self, device_id: str, *, vehicle: bool = False, at: datetime | None = None, celsius: float = 20.0
    ) -> None:
        """A reading arrives, now unless it is said when."""
        at = at or self.now
        if vehicle:
            row: tuple[object, ...] = (device_id, at, 50.0, 0.4, celsius, at)
            columns = "vehicle_id, ts, soc, kwh_delivered_dc, battery_temp, received_at"
        else:
            row = (device_id, at, 0.5, 230.0, at)
            columns = "meter_id, ts, kwh_consumed_ac, voltage, received_at"
        stream = VEHICLE if vehicle else METER
        self.connection.execute(f"DELETE FROM {stream.live} WHERE {stream.id_column} = %s", (device_id,))  # noqa: S608
        self.connection.execute(
            f"INSERT INTO {stream.live} ({columns}) VALUES ({', '.join(['%s'] * len(row))})",  # noqa: S608
            row,
        )

    def hear_meters(self, first: int, last: int, *, at: datetime | None = None) -> None:
        """A reading of each of them arrives, now unless it is said when."""
        self.connection.execute(
            "INSERT INTO meter_live (meter_id, ts, kwh_consumed_ac, voltage, received_at)"
            " SELECT 'm-' || n, %(at)s, 1, 230, %(at)s FROM generate_series(%(first)s::int, %(last)s::int) AS n"
            " ON CONFLICT (meter_id) DO UPDATE SET ts = excluded.ts, received_at = excluded.received_at",
            {"at": at or self.now, "first": first, "last": last},
        )

    def hear_a_hot_hundred_and_one(self, *, at: datetime) -> None:
        """Vehicles, one more than a channel tells of at once."""
        self.connection.execute(
            "INSERT INTO vehicle_live (vehicle_id, ts, soc, kwh_delivered_dc, battery_temp, received_at)"
            " SELECT 'EV-' || n, %(at)s, 50, 1, 70, %(at)s FROM generate_series(0, 100) AS n",
            {"at": at},
        )

    async def watch_for(self, duration: timedelta, *, every: timedelta = MINUTE) -> None:
        """Look again and again until so much time has passed, the last time at the end of it."""
        end = self.now + duration
        while self.now < end:
            self.now += every
            await self.watcher.look(self.now)

    async def watch_rarely_for(self, duration: timedelta) -> None:
        """Likewise at what changes slowly; an hour is closed as soon as it is over."""
        end = self.now + duration
        while self.now < end:
            self.now += RARE_INTERVAL
            self.efficiencies.closed_until = self.now.replace(minute=0)
            await self.watcher.look_rarely(self.now)

    async def alerts(self, **wanted: Any) -> list[tuple[str, str, str]]:  # noqa: ANN401 - the filter's fields
        """(kind, subject, state) of active and past ones, the oldest first."""
        found = await self.store.page(AlertFilter(**wanted), limit=1000)
        return [(alert.kind, alert.subject, alert.state) for alert in reversed(found)]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql.SQL(query)).fetchall()


@pytest.fixture
async def harness(shared_database_url: str) -> AsyncIterator[Harness]:
    """Empty: an evaluation takes in everything there is, so names of one's own would not do."""
    pool = Pool(shared_database_url)
    await pool.open()
    with psycopg.connect(shared_database_url, autocommit=True) as connection:
        connection.execute(
            "TRUNCATE alert, alert_outbox, alert_watch, meter_live, vehicle_live, device_setting RESTART IDENTITY"
        )
        yield Harness(Alerts(pool), connection)
    await pool.close()


# Silence ---------------------------------------------------------------------------------------------------------


async def test_a_device_that_falls_silent_is_told_of_once_and_again_when_it_is_back(harness: Harness) -> None:
    harness.report("m-1")
    await harness.watch_for(15 * MINUTE)
    assert [] == await harness.alerts()

    await harness.watch_for(MINUTE)
    assert [(METER_SILENT, "m-1", "active")] == await harness.alerts()
    await harness.watch_for(10 * MINUTE)
    (alert,) = await harness.store.page(AlertFilter(), limit=10)
    assert (START + 11 * MINUTE, START + 16 * MINUTE) == (alert.since, alert.raised_at)
    assert (960.0, 600.0, "last heard at 2026-11-20T10:30:00Z") == (alert.value, alert.bound, alert.detail)

    harness.report("m-1")
    await harness.watch_for(3 * MINUTE)
    harness.report("m-1")
    await harness.watch_for(3 * MINUTE)
    assert [(METER_SILENT, "m-1", "cleared")] == await harness.alerts()
    (past,) = await harness.store.page(AlertFilter(), limit=10)
    assert (alert.id, alert.since, alert.raised_at) == (past.id, past.since, past.raised_at)


async def test_a_device_that_is_back_before_the_minimum_duration_leaves_no_trace(harness: Harness) -> None:
    harness.report("m-1")
    await harness.watch_for(13 * MINUTE)
    assert [("pending",)] == harness.rows("SELECT state FROM alert")

    harness.report("m-1")
    await harness.watch_for(MINUTE)

    assert [] == harness.rows("SELECT FROM alert")


@pytest.mark.parametrize(("own", "bound"), [(None, 600.0), ("30 s", 30.0), ("2 h", 7200.0)])
async def test_how_long_is_silent_is_set_for_the_device_or_for_all(
    harness: Harness, own: str | None, bound: float
) -> None:
    harness.report("m-1")
    harness.connection.execute("INSERT INTO device_setting VALUES ('meter', 'm-1', NULL, %s::interval)", [own])
    harness.connection.execute("INSERT INTO device_setting VALUES ('vehicle', 'm-1', NULL, '7 s')")

    async def silent_after(seconds: float) -> list[float]:
        now = START + timedelta(seconds=seconds)
        found = await harness.store.silent(METER, now=now, offline_after=RULES.offline_after, limit=10)
        return [observation.bound for observation in found.seen.values() if observation]

    assert [] == await silent_after(bound)
    assert [bound] == await silent_after(bound + 1)


async def test_a_device_long_gone_is_no_alert(harness: Harness) -> None:
    harness.report("m-gone", at=START - 7 * DAY - HOUR)
    harness.report("m-lately", at=START - 6 * DAY)

    await harness.watch_for(10 * MINUTE)

    assert [(METER_SILENT, "m-lately", "active")] == await harness.alerts()


async def test_an_alert_of_a_device_that_has_gone_for_good_is_cleared(harness: Harness) -> None:
    harness.report("m-1")
    harness.report("EV-1", vehicle=True, celsius=70)
    await harness.watch_for(16 * MINUTE)
    assert 3 == len(await harness.alerts(state="active"))

    harness.now += 7 * DAY - 22 * MINUTE
    await harness.watch_rarely_for(RARE_INTERVAL)
    assert [] == await harness.alerts(state="cleared")
    harness.report("EV-1", vehicle=True, celsius=70)
    await harness.watch_rarely_for(RARE_INTERVAL)

    assert [(METER_SILENT, "m-1", "cleared")] == await harness.alerts(state="cleared")
    (past,) = await harness.store.page(AlertFilter(state="cleared"), limit=10)
    assert "not heard for 7 days: retired" == past.detail


async def test_a_meter_and_a_vehicle_of_the_same_name_are_two(harness: Harness) -> None:
    harness.report("d-1")
    harness.report("d-1", vehicle=True)
    await harness.watch_for(16 * MINUTE)
    harness.report("d-1", vehicle=True)
    await harness.watch_for(5 * MINUTE)

    assert [(METER_SILENT, "d-1", "active"), (VEHICLE_SILENT, "d-1", "active")] == await harness.alerts()
    harness.report("d-1", vehicle=True)
    await harness.watch_for(MINUTE)
    assert [(METER_SILENT, "d-1", "active"), (VEHICLE_SILENT, "d-1", "cleared")] == await harness.alerts()


async def test_silence_means_nothing_while_nothing_can_be_heard(harness: Harness) -> None:
    harness.report("m-1")
    await harness.watch_for(12 * MINUTE)
    assert [("pending",)] == harness.rows("SELECT state FROM alert")

    harness.broker.is_receiving = False
    await harness.watch_for(10 * MINUTE)
    assert [("pending",)] == harness.rows("SELECT state FROM alert")

    harness.broker.is_receiving = True
    await harness.watch_for(5 * MINUTE)
    assert [] == await harness.alerts()
    await harness.watch_for(MINUTE)
    assert [(METER_SILENT, "m-1", "active")] == await harness.alerts()


# Many at once --------------------------------------------------------------------------------------------------------


def states_of_meters(harness: Harness) -> dict[str, int]:
    """How many alerts of silent meters there are in each state."""
    rows = harness.rows("SELECT state, count(*) FROM alert WHERE kind = 'meter-silent' GROUP BY state")
    return dict(rows)


async def test_a_thousand_devices_that_fall_silent_at_once_have_an_alert_each(harness: Harness) -> None:
    harness.hear_meters(1, MOST_OPEN)
    await harness.watch_for(16 * MINUTE)
    assert [("active", MOST_OPEN)] == harness.rows("SELECT state, count(*) FROM alert GROUP BY state")

    harness.hear_meters(1, MOST_OPEN, at=harness.now + 4 * MINUTE)
    await harness.watch_for(6 * MINUTE)

    assert [("cleared", MOST_OPEN)] == harness.rows("SELECT state, count(*) FROM alert GROUP BY state")


async def test_of_5000_silent_devices_1000_have_alerts_and_a_summary_tells_of_all(harness: Harness) -> None:
    harness.hear_meters(1, 5000)
    await harness.watch_for(20 * MINUTE)

    assert {"active": 1000} == states_of_meters(harness)
    (summary,) = await harness.store.page(AlertFilter(kind=SUMMARY[METER_SILENT]), limit=10)
    assert ("active", 5000.0, 1000.0) == (summary.state, summary.value, summary.bound)
    assert (START + 11 * MINUTE, START + 16 * MINUTE) == (summary.since, summary.raised_at)
    assert None is summary.described()["deviceId"]
    for channel in (harness.mqtt, harness.web):
        await deliver_all(harness, channel)
    assert ("meter-silent-summary/fleet", "active") == harness.broker.states[0]
    assert 1001 == len(harness.broker.states) == len(set(harness.broker.states)) == len(harness.webhook.states)

    harness.broker.published.clear()
    harness.hear_meters(1, 5000, at=harness.now + 4 * MINUTE)
    await harness.watch_for(6 * MINUTE)
    await deliver_all(harness, harness.mqtt)

    assert [("cleared", 1001)] == harness.rows("SELECT state, count(*) FROM alert GROUP BY state")
    assert ("meter-silent-summary/fleet", "cleared") == harness.broker.states[0]
    assert 1001 == len(harness.broker.states) == len(set(harness.broker.states))


async def test_devices_that_come_back_do_not_make_room_for_others_until_the_summary_is_cleared(
    harness: Harness,
) -> None:
    harness.watcher = harness.another_watcher("ingestd", most_open=10)
    harness.hear_meters(1, 30)
    await harness.watch_for(16 * MINUTE)
    own = {subject for _, subject, _ in await harness.alerts(kind=METER_SILENT)}
    assert 10 == len(own)

    for subject in sorted(own)[:5]:
        harness.report(subject, at=harness.now + 4 * MINUTE)
    await harness.watch_for(6 * MINUTE)
    assert {"active": 5, "cleared": 5} == states_of_meters(harness)
    assert [(25.0,)] == harness.rows("SELECT value FROM alert WHERE kind = 'meter-silent-summary' AND state = 'active'")

    harness.hear_meters(1, 21, at=harness.now + 4 * MINUTE)
    await harness.watch_for(6 * MINUTE)
    assert [(SUMMARY[METER_SILENT], "fleet", "cleared")] == await harness.alerts(kind=SUMMARY[METER_SILENT])
    harness.hear_meters(1, 21)
    await harness.watch_for(6 * MINUTE)

    active = {subject for _, subject, _ in await harness.alerts(kind=METER_SILENT, state="active")}
    assert {f"m-{number}" for number in range(22, 31)} == active


async def test_retired_devices_are_not_counted(harness: Harness) -> None:
    harness.watcher = harness.another_watcher("ingestd", most_open=10)
    harness.hear_meters(1, 50, at=START - 8 * DAY)
    harness.hear_meters(51, 62, at=START - DAY)

    await harness.watch_for(6 * MINUTE)

    assert [(12.0,)] == harness.rows("SELECT value FROM alert WHERE kind = 'meter-silent-summary'")


async def test_a_device_named_fleet_has_an_alert_of_its_own_beside_the_summary(harness: Harness) -> None:
    harness.watcher = harness.another_watcher("ingestd", most_open=2)
    harness.report("fleet")
    harness.hear_meters(1, 2, at=START + MINUTE)

    await harness.watch_for(20 * MINUTE)

    assert [(METER_SILENT, "fleet", "active")] == await harness.alerts(kind=METER_SILENT, subject="fleet")
    assert [(SUMMARY[METER_SILENT], "fleet", "active")] == await harness.alerts(kind=SUMMARY[METER_SILENT])


async def test_many_hot_batteries_are_summed_up(harness: Harness) -> None:
    harness.watcher = harness.another_watcher("ingestd", most_open=10)
    harness.hear_a_hot_hundred_and_one(at=START)
    await harness.watch_for(6 * MINUTE)

    assert 11 == len(await harness.alerts())
    assert [(101.0,)] == harness.rows("SELECT value FROM alert WHERE kind = 'battery-over-temperature-summary'")
    harness.connection.execute("UPDATE vehicle_live SET battery_temp = 20")
    await harness.watch_for(6 * MINUTE)
    assert [] == await harness.alerts(state="active")


async def test_many_poor_efficiencies_are_summed_up(harness: Harness) -> None:
    harness.watcher = harness.another_watcher("ingestd", most_open=10)
    harness.efficiencies.ratios = {f"EV-{number}": 0.8 for number in range(25)}
    harness.connection.execute(
        "INSERT INTO vehicle_live (vehicle_id, ts, soc, kwh_delivered_dc, battery_temp, received_at)"
        " SELECT 'EV-' || n, %(at)s, 50, 1, 20, %(at)s FROM generate_series(0, 24) AS n",
        {"at": START},
    )
    await harness.watch_rarely_for(HOUR)
    assert 11 == len(await harness.alerts(state="active"))
    assert [(25.0,)] == harness.rows("SELECT value FROM alert WHERE kind = 'efficiency-below-threshold-summary'")

    harness.efficiencies.ratios = dict.fromkeys(harness.efficiencies.ratios, 0.9)
    await harness.watch_rarely_for(2 * HOUR)

    assert [] == await harness.alerts(state="active")
    assert 11 == len(await harness.alerts(state="cleared"))


# Batteries -----------------------------------------------------------------------------------------------------------


async def test_a_hot_battery_is_told_of_until_it_is_cool_by_a_margin(harness: Harness) -> None:
    harness.report("EV-1", vehicle=True, celsius=61)
    harness.report("EV-2", vehicle=True, celsius=60)
    await harness.watch_for(6 * MINUTE)
    assert [(BATTERY, "EV-1", "active")] == await harness.alerts(kind=BATTERY)

    harness.report("EV-1", vehicle=True, celsius=58)
    await harness.watch_for(10 * MINUTE)
    assert [(BATTERY, "EV-1", "active")] == await harness.alerts(kind=BATTERY)

    harness.report("EV-1", vehicle=True, celsius=57)
    await harness.watch_for(6 * MINUTE)
    assert [(BATTERY, "EV-1", "cleared")] == await harness.alerts(kind=BATTERY)


async def test_an_old_temperature_neither_raises_nor_clears(harness: Harness) -> None:
    harness.report("EV-old", vehicle=True, celsius=70, at=START - HOUR)
    harness.report("EV-1", vehicle=True, celsius=70)
    await harness.watch_for(6 * MINUTE)
    assert [(BATTERY, "EV-1", "active")] == await harness.alerts(kind=BATTERY)

    harness.report("EV-1", vehicle=True, celsius=20, at=harness.now - HOUR)
    await harness.watch_for(10 * MINUTE)

    assert [(BATTERY, "EV-1", "active")] == await harness.alerts(kind=BATTERY)


# Efficiencies ----------------------------------------------------------------------------------------------------


async def test_a_poor_and_an_implausible_ratio_are_told_of_after_two_closed_hours(harness: Harness) -> None:
    harness.efficiencies.ratios = {"EV-good": 0.9, "EV-poor": 0.8, "EV-odd": 1.2, "EV-idle": None}
    for vehicle_id in harness.efficiencies.ratios:
        harness.report(vehicle_id, vehicle=True)

    await harness.watch_rarely_for(25 * MINUTE)
    assert [] == await harness.alerts()
    await harness.watch_rarely_for(RARE_INTERVAL)

    assert [(EFFICIENCY, "EV-poor", "active"), (IMPLAUSIBLE, "EV-odd", "active")] == await harness.alerts()
    ten, eleven = START - 30 * MINUTE, START + 30 * MINUTE
    assert [TimeRange(start=end - DAY, end=end) for end in (ten, eleven)] == harness.efficiencies.windows
    (_, poor) = await harness.store.page(AlertFilter(), limit=10)
    assert (ten, eleven) == (poor.since, poor.raised_at)
    assert "DC over AC of the last 24 closed hours is 0.800, limit 0.85" == poor.detail


async def test_an_efficiency_alert_is_cleared_after_two_closed_hours(harness: Harness) -> None:
    for vehicle_id in ("EV-poor", "EV-odd"):
        harness.report(vehicle_id, vehicle=True)
    harness.efficiencies.ratios = {"EV-poor": 0.8, "EV-odd": 1.2}
    await harness.watch_rarely_for(HOUR)

    harness.efficiencies.ratios = {"EV-poor": 0.88, "EV-odd": 0.95}
    await harness.watch_rarely_for(HOUR)
    assert [] == await harness.alerts(state="cleared")
    await harness.watch_rarely_for(HOUR)

    assert [(EFFICIENCY, "EV-poor", "cleared"), (IMPLAUSIBLE, "EV-odd", "cleared")] == await harness.alerts()


async def test_a_status_of_one_closed_hour_leaves_no_trace(harness: Harness) -> None:
    harness.report("EV-1", vehicle=True)
    harness.efficiencies.ratios = {"EV-1": 0.8}
    await harness.watch_rarely_for(25 * MINUTE)
    assert [("pending",)] == harness.rows("SELECT state FROM alert")

    harness.efficiencies.ratios = {"EV-1": 0.86}
    await harness.watch_rarely_for(HOUR)

    assert [] == harness.rows("SELECT FROM alert")


async def test_another_daemon_that_looks_at_the_same_hours_proves_nothing(harness: Harness) -> None:
    harness.report("EV-1", vehicle=True)
    harness.efficiencies.ratios = {"EV-1": 0.8}
    await harness.watch_rarely_for(RARE_INTERVAL)

    harness.watcher = harness.another_watcher("ingestd")
    await harness.watch_rarely_for(20 * MINUTE)
    assert [("pending",)] == harness.rows("SELECT state FROM alert")
    assert 2 == len(harness.efficiencies.windows)
    harness.now += HOUR
    await harness.watch_rarely_for(RARE_INTERVAL)

    assert [(EFFICIENCY, "EV-1", "active")] == await harness.alerts()


@pytest.mark.parametrize("closed_until", [None, START - DAY - 30 * MINUTE])
async def test_efficiencies_are_not_looked_at_before_hours_of_late_are_closed(
    harness: Harness, closed_until: datetime | None
) -> None:
    harness.efficiencies.closed_until = closed_until

    await harness.watcher.look_rarely(START)

    assert [] == harness.efficiencies.windows


async def test_hours_that_could_not_be_read_are_read_again(harness: Harness) -> None:
    harness.efficiencies.closed_until = START - 30 * MINUTE
    harness.efficiencies.away = True
    with pytest.raises(TransientStoreError):
        await harness.watcher.look_rarely(START)

    harness.efficiencies.away = False
    await harness.watcher.look_rarely(START)

    assert 2 == len(harness.efficiencies.windows)


async def test_a_vehicle_without_a_ratio_keeps_its_alert_and_loses_what_was_not_one_yet(harness: Harness) -> None:
    harness.report("EV-1", vehicle=True)
    harness.report("EV-2", vehicle=True)
    harness.efficiencies.ratios = {"EV-1": 0.8}
    await harness.watch_rarely_for(HOUR)
    harness.efficiencies.ratios = {"EV-1": 0.9, "EV-2": 0.8}
    await harness.watch_rarely_for(HOUR)
    assert [("active", True), ("pending", False)] == harness.rows("SELECT state, over_since IS NOT NULL FROM alert")

    harness.efficiencies.ratios = {"EV-1": None}
    await harness.watch_rarely_for(2 * HOUR)

    assert [("EV-1", "active", None)] == harness.rows("SELECT subject, state, over_since FROM alert")


# Dead letters ----------------------------------------------------------------------------------------------------


async def test_many_dead_letters_are_told_of_until_they_are_few(harness: Harness) -> None:
    async def take_in(messages: int, dead: int) -> None:
        for _ in range(10):
            harness.metrics.received("meter", "mqtt", messages)
            harness.metrics.dead_lettered("meter", "mqtt", "schema", dead)
            harness.dead_letters = {"meter m-1": dead - 2, "no device": 2}
            await harness.watch_for(MINUTE)

    await take_in(1000, 5)
    assert [] == await harness.alerts()
    await take_in(1000, 30)
    assert [(DEAD_LETTERS, "fleet", "active")] == await harness.alerts()
    (alert,) = await harness.store.page(AlertFilter(), limit=10)
    assert None is alert.described()["deviceId"]
    assert alert.detail.endswith("became dead letters; most are of meter m-1: 140, 93%"), alert.detail
    await take_in(1000, 4)
    assert [(DEAD_LETTERS, "fleet", "cleared")] == await harness.alerts()


async def test_a_session_that_the_broker_lost_is_told_of_for_an_hour(harness: Harness) -> None:
    await harness.watch_for(HOUR)
    assert [] == await harness.alerts()

    harness.broker.sessions_lost += 1
    await harness.watch_for(6 * MINUTE)
    assert [(SESSION_LOST, "fleet", "active")] == await harness.alerts()
    (alert,) = await harness.store.page(AlertFilter(), limit=10)
    assert None is alert.described()["deviceId"]
    assert "the broker lost our session at 2026-11-20T11:31:00Z: messages that waited in it are gone" == alert.detail
    await harness.watch_for(58 * MINUTE)
    assert [(SESSION_LOST, "fleet", "active")] == await harness.alerts()
    await harness.watch_for(3 * MINUTE)
    assert [(SESSION_LOST, "fleet", "cleared")] == await harness.alerts()


async def test_a_restart_does_not_make_a_lost_session_forgotten_before_its_time(harness: Harness) -> None:
    harness.broker.sessions_lost = 1
    await harness.watch_for(6 * MINUTE)

    harness.broker.sessions_lost = 0
    harness.watcher = harness.another_watcher("ingestd")
    await harness.watch_for(HOUR)
    assert [(SESSION_LOST, "fleet", "active")] == await harness.alerts()
    await harness.watch_for(7 * MINUTE)
    assert [(SESSION_LOST, "fleet", "cleared")] == await harness.alerts()


# Who watches, and for how long -----------------------------------------------------------------------------------


async def test_a_restart_keeps_what_is_pending_and_what_is_active(harness: Harness) -> None:
    harness.report("m-1")
    await harness.watch_for(12 * MINUTE)

    harness.watcher = harness.another_watcher("ingestd")
    await harness.watch_for(4 * MINUTE)
    before = await harness.store.page(AlertFilter(), limit=10)
    assert START + 16 * MINUTE == before[0].raised_at

    harness.watcher = harness.another_watcher("ingestd")
    await harness.watch_for(10 * MINUTE)

    assert before == await harness.store.page(AlertFilter(), limit=10)


async def test_the_time_in_which_no_daemon_ran_does_not_count(harness: Harness) -> None:
    harness.report("m-1")
    await harness.watch_for(12 * MINUTE)

    harness.now += HOUR
    await harness.watch_for(5 * MINUTE)
    assert [] == await harness.alerts()
    await harness.watch_for(MINUTE)

    assert [(METER_SILENT, "m-1", "active")] == await harness.alerts()


async def test_of_several_daemons_one_watches_and_another_takes_over(harness: Harness) -> None:
    first, second = harness.watcher, harness.another_watcher("another")
    for watcher in (first, second):
        await watcher.look(harness.now)
    holders = "SELECT DISTINCT holder FROM alert_watch"
    assert [("ingestd",)] == harness.rows(holders)

    harness.watcher = second
    await harness.watch_for(WATCH_LEASE * LONGEST_INTERVAL, every=LONGEST_INTERVAL)
    assert [("ingestd",)] == harness.rows(holders)
    await harness.watch_for(LONGEST_INTERVAL, every=LONGEST_INTERVAL)
    assert [("another",)] == harness.rows(holders)
    await second.look_rarely(harness.now)
    await first.look_rarely(harness.now)

    assert 1 == len(harness.efficiencies.windows)


async def test_everybody_shows_how_many_are_active(harness: Harness) -> None:
    harness.report("m-1")
    harness.report("m-2")
    await harness.watch_for(16 * MINUTE)

    exposition = harness.metrics.exposition().decode()

    assert {f'ingestd_alerts_active{{kind="{kind}"}} {2.0 if kind == METER_SILENT else 0.0}' for kind in KINDS} == {
        line for line in exposition.splitlines() if line.startswith("ingestd_alerts_active{")
    }


async def test_past_alerts_are_kept_for_90_days(harness: Harness) -> None:
    harness.connection.execute(
        "INSERT INTO alert (kind, subject, state, since, raised_at, cleared_at, value, bound, detail)"
        " SELECT 'meter-silent', 'm', 'cleared', at, at, at, 1, 1, '' FROM unnest(%s) AS at",
        ([START - 91 * DAY] * (PAGE + 1) + [START - 89 * DAY],),
    )

    await harness.watcher.look_rarely(START)

    assert [(START - 89 * DAY,)] == harness.rows("SELECT cleared_at FROM alert")


# Telling ---------------------------------------------------------------------------------------------------------


async def deliver_all(harness: Harness, channel: Channel) -> None:
    while await channel.deliver_some(harness.now):
        pass


async def raise_and_clear(harness: Harness) -> None:
    """Batteries: EV-1's was hot, EV-2's is."""
    harness.report("EV-1", vehicle=True, celsius=70)
    await harness.watch_for(6 * MINUTE)
    harness.report("EV-1", vehicle=True, celsius=20)
    harness.report("EV-2", vehicle=True, celsius=70)
    await harness.watch_for(6 * MINUTE)


async def test_each_change_is_told_once_and_what_was_cleared_expires(harness: Harness) -> None:
    harness.report("EV-1", vehicle=True, celsius=70)
    await harness.watch_for(6 * MINUTE)
    for channel in (harness.mqtt, harness.web):
        await deliver_all(harness, channel)
        await deliver_all(harness, channel)
    ((topic, payload, expiry),) = harness.broker.published
    assert ("ingestd/alerts/battery-over-temperature/EV-1", None) == (topic, expiry)
    assert {
        "id": 1,
        "kind": "battery-over-temperature",
        "deviceId": "EV-1",
        "state": "active",
        "since": "2026-11-20T10:31:00Z",
        "raisedAt": "2026-11-20T10:36:00Z",
        "clearedAt": None,
        "value": 70.0,
        "limit": 60.0,
        "detail": "battery at 70 °C, limit 60 °C",
    } == payload
    assert [[payload]] == harness.webhook.posted

    harness.report("EV-1", vehicle=True, celsius=20)
    await harness.watch_for(6 * MINUTE)
    for channel in (harness.mqtt, harness.web):
        await deliver_all(harness, channel)

    assert ("battery-over-temperature/EV-1", "cleared") == harness.broker.states[1]
    assert DAY == harness.broker.published[1][2]
    assert [("EV-1", "active"), ("EV-1", "cleared")] == harness.webhook.states
    assert [] == harness.rows("SELECT FROM alert_outbox")


async def test_whoever_was_away_is_told_of_the_newest_state_of_each_in_order(harness: Harness) -> None:
    harness.broker.away = True
    harness.webhook.refusals = 1
    await raise_and_clear(harness)
    with pytest.raises(BrokerError):
        await deliver_all(harness, harness.mqtt)
    with pytest.raises(WebhookError):
        await deliver_all(harness, harness.web)

    harness.broker.away = False
    await deliver_all(harness, harness.mqtt)
    await deliver_all(harness, harness.web)

    assert [(f"{BATTERY}/EV-1", "cleared"), (f"{BATTERY}/EV-2", "active")] == harness.broker.states
    assert [("EV-1", "cleared"), ("EV-2", "active")] == harness.webhook.states


async def test_what_changes_while_it_is_told_is_told_again(harness: Harness) -> None:
    harness.report("EV-1", vehicle=True, celsius=70)
    await harness.watch_for(6 * MINUTE)
    told = await harness.store.undelivered("mqtt", limit=10)
    harness.report("EV-1", vehicle=True, celsius=20)
    await harness.watch_for(6 * MINUTE)

    await harness.store.delivered("mqtt", told)

    assert ["cleared"] == [alert.state for alert in await harness.store.undelivered("mqtt", limit=10)]


async def test_what_changes_at_the_very_moment_it_is_told_is_told_again(
    harness: Harness, shared_database_url: str
) -> None:
    harness.report("EV-1", vehicle=True, celsius=70)
    await harness.watch_for(6 * MINUTE)
    (alert,) = await harness.store.undelivered("mqtt", limit=10)
    changes = to_json(
        [{**asdict(alert), "state": "cleared", "cleared_at": START, "gone": False, "state_changed": True}]
    )
    with psycopg.connect(shared_database_url) as clearing:
        clearing.execute(
            queries.load("alerts.sql")["save_alerts"], {"changes": changes.decode(), "channels": ["mqtt", "webhook"]}
        )
        telling = asyncio.create_task(harness.store.delivered("mqtt", [alert]))
        waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        await eventually(lambda: harness.rows(waiting))
        clearing.commit()
    await telling

    assert ["cleared"] == [alert.state for alert in await harness.store.undelivered("mqtt", limit=10)]


async def test_a_webhook_that_is_set_later_is_not_told_of_the_past(harness: Harness) -> None:
    harness.watcher = harness.another_watcher("ingestd", channels=["mqtt"])
    await raise_and_clear(harness)
    harness.watcher = harness.another_watcher("ingestd")
    harness.report("EV-2", vehicle=True, celsius=20)
    await harness.watch_for(6 * MINUTE)

    await deliver_all(harness, harness.web)

    assert [("EV-2", "cleared")] == harness.webhook.states


async def test_a_broker_that_has_lost_its_memory_is_told_again_what_is_active(harness: Harness) -> None:
    await raise_and_clear(harness)
    await deliver_all(harness, harness.mqtt)
    harness.broker.published.clear()

    harness.broker.sessions_begun += 1
    await deliver_all(harness, harness.mqtt)
    await deliver_all(harness, harness.mqtt)

    assert [(f"{BATTERY}/EV-2", "active")] == harness.broker.states


async def test_an_alert_that_is_too_large_for_the_broker_holds_up_no_other(harness: Harness) -> None:
    await raise_and_clear(harness)
    harness.broker.largest = 10
    await deliver_all(harness, harness.mqtt)
    assert [] == await harness.store.undelivered("mqtt", limit=10)

    harness.broker.largest = 1000
    harness.report("EV-3", vehicle=True, celsius=70)
    await harness.watch_for(6 * MINUTE)
    await deliver_all(harness, harness.mqtt)

    assert [(f"{BATTERY}/EV-3", "active")] == harness.broker.states


async def test_a_storm_is_told_in_parts(harness: Harness) -> None:
    harness.hear_a_hot_hundred_and_one(at=START)
    await harness.watch_for(6 * MINUTE)

    await deliver_all(harness, harness.mqtt)
    await deliver_all(harness, harness.web)

    assert 101 == len(set(harness.broker.states))
    assert [100, 1] == [len(alerts) for alerts in harness.webhook.posted]


async def test_of_several_daemons_one_tells(harness: Harness) -> None:
    await raise_and_clear(harness)
    another = WebhookChannel(holder="another", store=harness.store, interval=MINUTE, webhook=harness.webhook)
    await deliver_all(harness, harness.web)
    harness.connection.execute("UPDATE alert_outbox SET channel = 'webhook'")
    harness.webhook.posted.clear()

    await deliver_all(harness, another)
    assert [] == harness.webhook.posted
    harness.now += 2 * MINUTE
    await deliver_all(harness, another)

    assert [("EV-1", "cleared"), ("EV-2", "active")] == harness.webhook.states


async def test_alerts_go_on_by_themselves_through_every_outage(harness: Harness) -> None:
    """The whole of it, in real time with a short minimum duration; the webhook refuses at first."""
    harness.webhook.refusals = 1
    harness.hear_a_hot_hundred_and_one(at=datetime.now(UTC))
    harness.efficiencies.closed_until = datetime.now(UTC)
    store = Stumbling(harness.store)
    alerting = Alerting(
        rules=replace(RULES, minimum=timedelta(seconds=0.2)),
        holder="ingestd",
        store=store,
        efficiencies=harness.efficiencies,
        clock_difference=lambda: harness.clock_difference,
        broker=harness.broker,
        webhook=harness.webhook,
        dead_letters=dict,
        metrics=harness.metrics,
    )

    running = asyncio.create_task(alerting.run())
    try:
        await eventually(lambda: len(harness.webhook.states) == len(harness.broker.states) == 101)
    finally:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    assert {(f"EV-{number}", "active") for number in range(101)} == set(harness.webhook.states)
    assert store.stumbled
    assert 1 == len(harness.efficiencies.windows)


class Stumbling(Alerts):
    """The store, whose database is away at first."""

    def __init__(self, store: Alerts) -> None:
        super().__init__(store._pool)  # noqa: SLF001 - the same pool
        self.stumbled = False

    async def active(self) -> dict[str, int]:
        if not self.stumbled:
            self.stumbled = True
            raise TransientStoreError("away")
        return await super().active()


# What it costs ---------------------------------------------------------------------------------------------------


def plans(connection: psycopg.Connection, statement: sql.SQL | sql.Composed) -> Iterator[str]:
    """The tables that a statement reads."""
    parameters = {
        **dict.fromkeys(("now", "until"), START),
        **dict.fromkeys(("offline_after", "retired", "fresh", "lease"), MINUTE),
        **dict.fromkeys(("kind", "channel", "task", "holder", "after"), "x"),
        **{name: ["x"] for name in ("kinds", "subjects", "channels", "states")},
        **dict.fromkeys(("limit", "bound"), 10),
        **dict.fromkeys(("before", "state", "subject")),
        "ids": [1],
        "changes": "[]",
    }
    ((plan,),) = connection.execute(sql.SQL("EXPLAIN (FORMAT JSON) ") + statement, parameters).fetchall()

    def walk(node: dict[str, Any]) -> Iterator[str]:
        if "Relation Name" in node:
            yield node["Relation Name"]
        for child in node.get("Plans", ()):
            yield from walk(child)

    yield from walk(plan[0]["Plan"])


def test_alerts_never_read_history(shared_database_url: str) -> None:
    with psycopg.connect(shared_database_url, autocommit=True) as connection:
        tables = {
            table
            for statement in queries.load("alerts.sql").values()
            for stream in STREAMS
            for table in plans(connection, queries.for_stream(statement, stream))
        }

    assert {"meter_live", "vehicle_live", "device_setting", "alert", "alert_outbox", "alert_watch"} == tables
