# ruff: noqa: SIM300 - expected == actual
"""The limits of devices and of dead letters, on a real daemon: by MQTT, by HTTP, over a restart, and in a replay."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from itertools import count as counting
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from ingestd.store.dead_letters import DeadLetters
from ingestd.store.pool import Pool
from tests.faults.load import assert_counters_balance
from tests.support.api import assert_problem
from tests.support.daemon import Daemon
from tests.support.devices import Device
from tests.support.polling import until
from tests.support.readings import count, meter_message, vehicle_message

if TYPE_CHECKING:
    from ingestd.demo.servers import PrivateMosquitto

SIZE = 8192
_milliseconds = counting()


def reading(meter: str) -> bytes:
    """No two of them at the same time."""
    return meter_message(meter, datetime.now(UTC) + timedelta(milliseconds=next(_milliseconds)))[1]


def post(daemon: Daemon, *meters: str) -> Any:  # noqa: ANN401 - JSON
    answer = daemon.request("POST", "/v1/telemetry", body=b"[" + b",".join(map(reading, meters)) + b"]")
    assert 201 == answer.status
    return answer.json()


def letters(database_url: str) -> list[tuple[str, str, str]]:
    with psycopg.connect(database_url) as connection:
        return connection.execute("SELECT source, reason, topic FROM dead_letter ORDER BY topic").fetchall()


def test_beyond_the_limit_other_devices_are_refused_until_one_is_forgotten(
    broker: PrivateMosquitto, database_url: str
) -> None:
    limits: dict[str, str | float] = {"max_devices": 3, "flush_interval": 0.1, "offline_after": "1s"}
    with Daemon(mqtt_url=broker.url, database_url=database_url, **limits) as daemon, Device(broker.url) as device:
        daemon.wait_healthy()
        now = datetime.now(UTC)
        device.publish_many([meter_message("m-1", now), meter_message("m-2", now), vehicle_message("m-1", now)])
        until(lambda: count(database_url, "vehicle_live") == 1)

        device.publish_many([meter_message("m-3", now), meter_message("m-2", now + timedelta(seconds=1))])
        until(lambda: count(database_url, "dead_letter") == 1)
        until(lambda: count(database_url, "meter_history") == 3)
        answer = post(daemon, "m-4", "m-1")
        assert {"accepted": 1, "duplicates": 0} == {name: answer[name] for name in ("accepted", "duplicates")}
        detail = "3 devices are known, and no more are allowed"
        assert [{"index": 0, "reason": "unknown-device", "detail": detail}] == answer["rejected"]
        alone = daemon.request("POST", "/v1/telemetry", body=reading("m-5"))
        assert detail == assert_problem(alone, 422, reason="unknown-device")

        refused = [("mqtt", "m-3"), ("http", "m-4"), ("http", "m-5")]
        assert [(source, "unknown-device", f"meters/{name}/telemetry") for source, name in refused] == letters(
            database_url
        )
        listed = daemon.request("GET", "/v1/dead-letters?reason=unknown-device").json()["deadLetters"]
        assert 3 == len(listed)
        assert 3 == daemon.metric("ingestd_dead_lettered_total", reason="unknown-device")
        assert_counters_balance(daemon)

        until(lambda: daemon.request("DELETE", "/v1/devices/meter/m-2").status == 200)
        until(lambda: post(daemon, "m-9")["accepted"] == 1, within=15)  # the live tables are read every 10 s at most
        assert [{"index": 0, "reason": "unknown-device", "detail": detail}] == post(daemon, "m-2")["rejected"]

        daemon.command("dead-letters", "purge", "--yes", "--device", "m-9")
        replay = ("dead-letters", "replay", "--reason", "unknown-device")
        assert "0 stored, 0 were there already, 4 still bad\n" == daemon.command(*replay)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "INGESTD_MAX_DEVICES", "5")
        with Daemon(mqtt_url=broker.url, database_url=database_url, max_devices=5) as daemon:
            assert "2 stored, 0 were there already, 2 still bad\n" == daemon.command(*replay)


def test_devices_that_have_reported_go_on_after_a_restart_with_a_lower_limit(
    broker: PrivateMosquitto, database_url: str
) -> None:
    with Daemon(mqtt_url=broker.url, database_url=database_url, flush_interval=0.1) as daemon:
        daemon.wait_healthy()
        post(daemon, *(f"m-{number}" for number in range(10)))
        daemon.terminate()
        daemon.start(max_devices=5)
        daemon.wait_healthy()

        answer = post(daemon, *(f"m-{number}" for number in range(12)))

        assert 10 == answer["accepted"]
        assert [10, 11] == [rejected["index"] for rejected in answer["rejected"]]


def test_of_a_device_so_many_dead_letters_are_stored_as_are_allowed_also_over_a_restart(
    broker: PrivateMosquitto, database_url: str
) -> None:
    limits = {"dead_letter_max_per_device": 3, "flush_interval": 0.1}
    bad = [("meters/mad/telemetry", b"volts: many")] * 10
    with Daemon(mqtt_url=broker.url, database_url=database_url, **limits) as daemon, Device(broker.url) as device:
        daemon.wait_healthy()
        assert 10 == len(device.publish_many(bad))
        until(lambda: daemon.metric("ingestd_dead_lettered_total", reason="not-json") == 10)
        assert 3 == count(database_url, "dead_letter")
        suppressed = {"stream": "meter", "source": "mqtt", "reason": "not-json"}
        assert 7 == daemon.metric("ingestd_dead_letters_suppressed_total", **suppressed)
        assert 1 == daemon.log.read_text().count("dead_letters_suppressed")
        post(daemon, "good")
        rejected = daemon.request("POST", "/v1/telemetry", body={"meterId": "mad", "voltage": "many"})
        assert_problem(rejected, 422, reason="schema")  # the sender is told, though it is not stored
        assert_counters_balance(daemon)

        daemon.kill()
        daemon.start()
        daemon.wait_healthy()
        device.publish_many([*bad, ("meters/other/telemetry", b"?")])
        until(lambda: daemon.metric("ingestd_dead_lettered_total") == 11)
        assert ["mad", "mad", "mad", "other"] == [topic.split("/")[1] for _, _, topic in letters(database_url)]


def test_all_dead_letters_together_have_no_more_bytes_than_are_allowed(
    broker: PrivateMosquitto, database_url: str
) -> None:
    limits = {"dead_letter_max_bytes": 10 * SIZE, "flush_interval": 0.1}
    with Daemon(mqtt_url=broker.url, database_url=database_url, **limits) as daemon, Device(broker.url) as device:
        daemon.wait_healthy()
        for expected in (10, 10):
            device.publish_many([(f"meters/m-{number}/telemetry", os.urandom(SIZE)) for number in range(30)])
            until(lambda: daemon.metric("ingestd_dead_lettered_total") == 30)
            assert count(database_url, "dead_letter") in range(expected - 1, expected + 1)
            daemon.kill()
            daemon.start()
            daemon.wait_healthy()
        daemon.kill()
        daemon.command("dead-letters", "purge", "--yes")
        daemon.start()
        daemon.wait_healthy()
        device.publish("meters/m-1/telemetry", b"?")
        until(lambda: count(database_url, "dead_letter") == 1)


async def test_the_size_of_dead_letters_is_that_of_what_is_there(database_url: str) -> None:
    pool = Pool(database_url)
    await pool.open()
    try:
        dead_letters = DeadLetters(pool)
        assert 0 == await dead_letters.size()
        with psycopg.connect(database_url) as connection:
            connection.cursor().executemany(
                "INSERT INTO dead_letter (received_at, source, stream, topic, payload, reason, detail)"
                " VALUES (now(), 'mqtt', 'meter', %s, %s, %s, 'why')",
                [
                    (f"meters/{device}/telemetry", os.urandom(SIZE), reason)
                    for device, reason, number in [("a", "schema", 50), ("a", "database", 9), ("b\x1b", "schema", 41)]
                    for _ in range(number)
                ],
            )
            connection.commit()
            (on_disk,) = connection.execute("SELECT pg_total_relation_size('dead_letter')").fetchone() or (0,)
        size = await dead_letters.size()
        assert 100 * SIZE < size < on_disk < 1.3 * size
        assert [("meter", "a", 50), ("meter", None, 41)] == await dead_letters.of_last_hour()
        with psycopg.connect(database_url) as connection:
            connection.execute("UPDATE dead_letter SET stored_at = now() - interval '61 min' WHERE topic ~ 'a'")
            connection.execute("DELETE FROM dead_letter WHERE topic ~ 'b'")
        assert [] == await dead_letters.of_last_hour()
        assert size * 0.58 < await dead_letters.size() < size * 0.6
    finally:
        await pool.close()
