# ruff: noqa: SIM300 - expected == actual
"""Forgetting devices: what goes and what stays, by the API and by the command; beside readings that arrive."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.rows import tuple_row

from ingestd.errors import StillReportsError
from ingestd.model.device import DeviceSettings, Forgotten
from ingestd.model.stream import METER, VEHICLE
from ingestd.pipeline.delivery import Batch
from ingestd.store.device_settings import DeviceSettingsTable
from ingestd.store.forgetting import Forgetting
from ingestd.store.pool import Pool
from ingestd.store.writer import Writer
from tests.fakes import FakeOrigin
from tests.support.api import assert_problem
from tests.support.commands import finished
from tests.support.daemon import Daemon
from tests.support.deliveries import delivery_of
from tests.support.polling import until
from tests.support.readings import count, meter_message, vehicle_message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from ingestd.demo.servers import PrivateMosquitto

NOW = datetime.now(UTC).replace(microsecond=0)
LIMIT = timedelta(minutes=10)
LONG_AGO = NOW - timedelta(hours=2)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    pool = Pool(database_url)
    await pool.open()
    try:
        yield pool
    finally:
        await pool.close()


@pytest.fixture
def forgetting(pool: Pool) -> Forgetting:
    return Forgetting(pool, offline_after=LIMIT, channels=["mqtt", "webhook"])


def execute(url: str, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, row_factory=tuple_row) as connection:
        cursor = connection.execute(statement.encode(), parameters)
        return cursor.fetchall() if cursor.description else []


def add_meter(url: str, identity: str, *, heard_at: datetime) -> None:
    execute(
        url,
        "INSERT INTO meter_live (meter_id, ts, received_at, kwh_consumed_ac, voltage) VALUES (%s, %s, %s, 1, 230)",
        identity,
        heard_at,
        heard_at,
    )


def add_alert(url: str, kind: str, subject: str, state: str, *, told: bool = True) -> int:
    ((number,),) = execute(
        url,
        "INSERT INTO alert (kind, subject, state, since, raised_at, cleared_at, value, bound, detail)"
        " VALUES (%s, %s, %s, now(), now(), now(), 1, 1, '') RETURNING id",
        kind,
        subject,
        state,
    )
    if not told:
        execute(url, "INSERT INTO alert_outbox (channel, alert_id, state) VALUES ('mqtt', %s, %s)", number, state)
    return int(number)


async def test_a_device_is_forgotten_with_its_settings_and_alerts_and_others_are_not(
    forgetting: Forgetting, pool: Pool, database_url: str
) -> None:
    for identity in ("m-1", "m-2"):
        add_meter(database_url, identity, heard_at=LONG_AGO)
        for state in ("active", "cleared"):
            add_alert(database_url, "meter-silent", identity, state)
    same_name = add_alert(database_url, "vehicle-silent", "m-1", "active")
    settings = DeviceSettings(max_kw=22)
    await DeviceSettingsTable(pool).set(METER, "m-1", settings, who="test")
    execute(database_url, "DELETE FROM meter_stale")

    assert Forgotten(last_seen=LONG_AGO, settings=settings, alerts=2) == await forgetting.forget(
        METER, "m-1", who="test"
    )

    assert [("m-2",)] == execute(database_url, "SELECT meter_id FROM meter_live")
    assert 0 == count(database_url, "device_setting")
    assert [("m-1", "-infinity")] == execute(database_url, "SELECT meter_id, start::text FROM meter_stale")
    assert [("m-1", "cleared", "the device was forgotten")] == execute(
        database_url,
        "SELECT subject, state, detail FROM alert WHERE kind = 'meter-silent' AND subject <> 'm-2'",
    )
    assert [("mqtt", "cleared"), ("webhook", "cleared")] == execute(
        database_url, "SELECT channel, state FROM alert_outbox ORDER BY channel"
    )
    assert [("active",)] == execute(database_url, "SELECT state FROM alert WHERE id = %s", same_name)


async def test_what_a_channel_is_still_to_deliver_is_delivered(forgetting: Forgetting, database_url: str) -> None:
    """Else the broker would keep an alert that nobody ends."""
    add_alert(database_url, "battery-over-temperature", "EV-1", "cleared", told=False)
    add_alert(database_url, "efficiency-below-threshold", "EV-1", "active", told=False)
    add_alert(database_url, "vehicle-silent", "EV-1", "pending")

    assert Forgotten(last_seen=None, settings=None, alerts=2) == await forgetting.forget(VEHICLE, "EV-1", who="test")

    assert [
        ("mqtt", "battery-over-temperature", "cleared"),
        ("mqtt", "efficiency-below-threshold", "cleared"),
        ("webhook", "efficiency-below-threshold", "cleared"),
    ] == execute(
        database_url,
        "SELECT channel, kind, outbox.state FROM alert_outbox AS outbox JOIN alert ON id = alert_id ORDER BY 2, 1",
    )


async def test_of_a_device_of_which_nothing_is_known_nothing_is_forgotten(forgetting: Forgetting) -> None:
    assert None is await forgetting.forget(VEHICLE, "nobody", who="test")


@pytest.mark.parametrize(
    ("own", "age", "is_forgotten"),
    [
        (None, timedelta(minutes=9), False),
        (None, timedelta(minutes=11), True),
        (timedelta(minutes=30), timedelta(minutes=29), False),
        (timedelta(minutes=1), timedelta(minutes=2), True),
    ],
)
async def test_a_device_that_was_heard_within_its_limit_is_not_forgotten(
    forgetting: Forgetting, pool: Pool, database_url: str, own: timedelta | None, age: timedelta, *, is_forgotten: bool
) -> None:
    add_meter(database_url, "m-1", heard_at=datetime.now(UTC) - age)
    settings = DeviceSettings(offline_after=own)
    await DeviceSettingsTable(pool).set(METER, "m-1", settings, who="test")
    if is_forgotten:
        assert await forgetting.forget(METER, "m-1", who="test")
        return

    with pytest.raises(StillReportsError, match="meter m-1 still reports: it was last heard at "):
        await forgetting.forget(METER, "m-1", who="test")

    assert settings == await DeviceSettingsTable(pool).get(METER, "m-1")
    assert 1 == count(database_url, "meter_live")


async def test_readings_that_arrive_while_their_devices_are_forgotten_are_all_stored(
    forgetting: Forgetting, database_url: str
) -> None:
    """Old ones, so that the devices may be forgotten at any moment; by both ways of the writer."""
    writer = Writer(database_url)
    await writer.open()
    rounds, devices, received_at = (
        60,
        20,
        int((LONG_AGO - datetime(2000, 1, 1, tzinfo=UTC)).total_seconds()) * 1_000_000,
    )
    done = asyncio.Event()

    async def forget() -> int:
        number = 0
        while not done.is_set():
            for device in range(devices):
                number += await forgetting.forget(METER, f"m-{device}", who="test") is not None
        return number

    async def write() -> None:
        for number in range(rounds):
            rows = [(f"m-{device}", received_at + number, 1.0, 230.0, None, received_at) for device in range(devices)]
            again = rows if number % 2 else []  # repeated: staged
            for some in filter(None, (rows, again)):
                await writer.write(Batch.of([delivery_of(FakeOrigin(), meters=some)]))
        done.set()

    try:
        forgotten, _ = await asyncio.gather(forget(), write())
    finally:
        await writer.close()

    assert forgotten > devices
    assert rounds * devices == count(database_url, "meter_history")
    for device in range(devices):
        await forgetting.forget(METER, f"m-{device}", who="test")
    assert 0 == count(database_url, "meter_live")


def test_the_api_and_the_command_forget_devices_and_history_stays(
    broker: PrivateMosquitto, database_url: str, tmp_path: Path
) -> None:
    with Daemon(mqtt_url=broker.url, database_url=database_url, flush_interval=0.1, offline_after="2s") as daemon:
        daemon.wait_healthy()
        at = datetime.now(UTC)
        readings = [meter_message(f"m-{number}", at)[1] for number in range(4)] + [vehicle_message("EV-1", at)[1]]
        posted = daemon.request("POST", "/v1/telemetry", body=b"[" + b",".join(readings) + b"]")
        assert 5 == posted.json()["accepted"]
        daemon.request("PUT", "/v1/devices/vehicle/EV-1/settings", body={"maxKw": 22, "threshold": 0.9})
        daemon.request("PUT", "/v1/devices/meter/m-0/settings", body={"offlineAfter": "1h"})

        problem = daemon.request("DELETE", "/v1/devices/vehicle/EV-1")
        assert_problem(problem, 409)
        assert "still reports" in problem.json()["detail"]
        answer = until(lambda: (found := daemon.request("DELETE", "/v1/devices/vehicle/EV-1")).status == 200 and found)
        assert isinstance(answer, type(problem))
        seen = answer.json().pop("lastSeen")
        assert abs(datetime.fromisoformat(seen) - at) < timedelta(seconds=30)
        settings = {"offlineAfter": None, "maxKw": 22.0, "threshold": 0.9}
        assert {"vehicleId": "EV-1", "lastSeen": seen, "settings": settings, "alerts": 0} == answer.json()
        assert_problem(daemon.request("DELETE", "/v1/devices/vehicle/EV-1"), 404)
        assert_problem(daemon.request("DELETE", "/v1/devices/vehicle/EV%201"), 400, parameter="id")
        assert_problem(daemon.request("DELETE", "/v1/devices/vehicle/EV-1?force=true"), 400, parameter="force")
        assert_problem(daemon.request("GET", "/v1/analytics/vehicle/EV-1/live"), 404)
        assert 1 == daemon.request("GET", "/v1/analytics/performance/EV-1").json()["samples"]["vehicle"]

        words = ("devices", "forget", "meter", "m-1", "m-0", "nobody", "m-2")
        command = finished(tmp_path, *words, database_url=database_url, offline_after="2s")
        assert 1 == command.returncode
        lines = command.stdout.splitlines()
        assert [f"meter {name}: last seen {seen[:19]}Z, no settings, 0 alerts" for name in ("m-1", "m-2")] == lines
        assert command.stderr.splitlines() == [
            f"ingestd: meter m-0 still reports: it was last heard at {seen[:19]}Z",
            "ingestd: of meter nobody there is nothing to forget",
        ]
        listed = daemon.request("GET", "/v1/meters").json()["meters"]
        assert ["m-0", "m-3"] == [meter["meterId"] for meter in listed]
        assert 4 == count(database_url, "meter_history")

        again = daemon.request("POST", "/v1/telemetry", body=meter_message("m-1", datetime.now(UTC))[1])
        assert 1 == again.json()["accepted"]
        assert 3 == count(database_url, "meter_live")


def test_a_wrong_id_is_refused_by_the_command(tmp_path: Path) -> None:
    command = finished(tmp_path, "devices", "forget", "meter", "a b")
    assert 2 == command.returncode
    assert "1 to 64 of" in command.stderr
