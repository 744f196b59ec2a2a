"""The broker, and the way to it, fail under load: nothing that was received is lost, no stale PUBACK is sent."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import mqtt5
import pytest

from bench.mqtt import Client
from ingestd.demo.servers import PrivateMosquitto
from ingestd.mqtt.connection import RECEIVE_MAXIMUM
from tests.faults.load import (
    assert_all_stored_once,
    assert_counters_balance,
    load,
    wait_for_connection,
    wait_for_more,
)
from tests.faults.scene import pause
from tests.support.daemon import Daemon
from tests.support.devices import Device
from tests.support.polling import until
from tests.support.proxy import Proxy
from tests.support.readings import count, meter_message

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def lasting_broker() -> Iterator[PrivateMosquitto]:
    """One that keeps sessions and queues over a restart."""
    with PrivateMosquitto(persistence=True) as server:
        yield server


def log_lines(daemon: Daemon, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in daemon.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


def test_a_restarted_broker_that_kept_its_queue_sends_it_again(
    lasting_broker: PrivateMosquitto, database_url: str
) -> None:
    with Daemon(mqtt_url=lasting_broker.url, database_url=database_url, flush_interval=0.5) as daemon:
        daemon.wait_healthy()
        with load(lasting_broker, rate=500) as published:
            for connections in (2, 3):
                wait_for_more(database_url, 50)
                lasting_broker.stop()
                lasting_broker.start()
                wait_for_connection(daemon, connections)
        assert_all_stored_once(published, database_url)
        assert_counters_balance(daemon)
        present = [line["session_present"] for line in log_lines(daemon, "subscribed")]
        assert present == [False, True, True]


def test_a_broker_that_forgot_everything_costs_nothing_of_what_was_received(
    broker: PrivateMosquitto, database_url: str
) -> None:
    """The broker has lost its copies, so the buffer has the only ones.

    Their Packet Identifiers now belong to other messages.
    """
    with Daemon(mqtt_url=broker.url, database_url=database_url, flush_interval=3) as daemon:
        daemon.wait_healthy()
        with Device(broker.url) as device:
            device.publish_many(meter_message("before", NOW - timedelta(seconds=number)) for number in range(500))
        until(lambda: daemon.metric("ingestd_in_flight") == 500)
        broker.kill()
        broker.start()
        wait_for_connection(daemon, 2)
        with Device(broker.url) as device:
            device.publish_many(meter_message("after", NOW - timedelta(seconds=number)) for number in range(500))
        until(lambda: count(database_url, "meter_history") == 1000)
        assert daemon.metric("ingestd_stale_acks_total") >= 500  # the probe's may be among them
        assert_counters_balance(daemon)
        assert [line["session_present"] for line in log_lines(daemon, "subscribed")] == [False, False]


def test_connections_reset_inside_a_publish_lose_and_double_nothing(
    broker: PrivateMosquitto, database_url: str
) -> None:
    with (
        Proxy(broker.url) as proxy,
        Daemon(mqtt_url=proxy.url, database_url=database_url, flush_interval=0.2) as daemon,
    ):
        daemon.wait_healthy()
        with load(broker, rate=1000) as published:
            for connections, size in enumerate((1, 2, 50, 333, 7_777, 70_001), start=2):
                assert proxy.reset_after(size, "to client").wait(10)
                wait_for_connection(daemon, connections)
        assert_all_stored_once(published, database_url)
        assert_counters_balance(daemon)


def test_connections_reset_inside_a_puback_lose_and_double_nothing(broker: PrivateMosquitto, database_url: str) -> None:
    with (
        Proxy(broker.url) as proxy,
        Daemon(mqtt_url=proxy.url, database_url=database_url, flush_interval=0.2) as daemon,
    ):
        daemon.wait_healthy()
        with load(broker, rate=1000) as published:
            for connections, size in enumerate((1, 2, 403, 1001), start=2):
                wait_for_more(database_url, 100)
                assert proxy.reset_after(size, "to server").wait(10)
                wait_for_connection(daemon, connections)
        assert_all_stored_once(published, database_url)
        assert_counters_balance(daemon)
        assert daemon.metric("ingestd_duplicate_total") > 0


def test_a_connection_the_broker_believes_in_is_taken_over(broker: PrivateMosquitto, database_url: str) -> None:
    """A half-open connection: closed for the daemon, open for the broker, which goes on sending."""
    with (
        Proxy(broker.url) as proxy,
        Daemon(mqtt_url=proxy.url, database_url=database_url, flush_interval=0.2) as daemon,
    ):
        daemon.wait_healthy()
        with load(broker, rate=500) as published:
            for connections in (2, 3, 4):
                wait_for_more(database_url, 50)
                proxy.half_open()
                wait_for_connection(daemon, connections)
        assert_all_stored_once(published, database_url)
        assert_counters_balance(daemon)


def test_a_link_of_100_bytes_a_second_loses_nothing(broker: PrivateMosquitto, database_url: str) -> None:
    with (
        Proxy(broker.url) as proxy,
        Daemon(mqtt_url=proxy.url, database_url=database_url, flush_interval=0.2) as daemon,
    ):
        daemon.wait_healthy()
        with load(broker, rate=200) as published:
            wait_for_more(database_url, 50)
            proxy.throttle(100)
            pause(4)
            proxy.throttle(None)
        assert daemon.metric("ingestd_broker_connections_total") == 1
        assert_all_stored_once(published, database_url)
        assert_counters_balance(daemon)


def test_windows_full_of_poison_do_not_stop_the_flow(broker: PrivateMosquitto, database_url: str) -> None:
    """Twice the Receive Maximum of bad messages is queued first, then good readings."""
    windows = 2 * RECEIVE_MAXIMUM
    good = [meter_message("m-1", NOW - timedelta(seconds=number)) for number in range(10)]
    with Daemon(
        mqtt_url=broker.url, database_url=database_url, flush_interval=0.2, dead_letter_max_per_device=windows
    ) as daemon:
        daemon.wait_healthy()
        daemon.terminate()
        with Client(broker.url, "poisoner") as poisoner, Device(broker.url) as device:
            poisoner.publish(poison(windows))
            device.publish_many(good)
        daemon.start()
        until(lambda: count(database_url, "meter_history") == 10, within=60)
        assert count(database_url, "dead_letter") == windows
        assert_counters_balance(daemon)


def poison(messages: int) -> Iterator[tuple[int, bytes]]:
    """Encoded PUBLISH packets in parts of a thousand; much faster than devices are."""
    for start in range(0, messages, 1000):
        packets = [
            mqtt5.PublishPacket(
                "meters/m-1/telemetry", b"volts", qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=number % 65_535 + 1
            ).write()
            for number in range(start, start + 1000)
        ]
        yield len(packets), b"".join(packets)


def test_a_session_that_hears_nothing_is_not_healthy(database_url: str) -> None:
    """The access list lets everybody subscribe, and nobody read."""
    with (
        PrivateMosquitto(config=["acl_file acl"], files={"acl": "topic write #\n"}) as broker,
        Daemon(mqtt_url=broker.url, database_url=database_url) as daemon,
    ):
        daemon.wait_healthy()  # before the first probe has failed
        until(lambda: daemon.request("GET", "/health").status == 503, within=15)
        assert "deaf" in daemon.request("GET", "/health").json()["broker"]


def test_messages_the_broker_drops_are_counted_and_said_loudly(database_url: str) -> None:
    """For anybody: here for a subscriber that stays away, whose queue is full."""
    with (
        PrivateMosquitto(config=["max_queued_messages 100", "sys_interval 1"]) as broker,
        Daemon(mqtt_url=broker.url, database_url=database_url, flush_interval=0.1) as daemon,
        Device(broker.url) as device,
    ):
        with Client(broker.url, "absent") as absent:
            absent.subscribe(["meters/+/telemetry"])
        daemon.wait_healthy()
        device.publish_many(meter_message("m-1", NOW - timedelta(seconds=number)) for number in range(500))
        until(lambda: daemon.metric("ingestd_broker_dropped_messages") == 400)
        device.publish_many(meter_message("m-2", NOW - timedelta(seconds=number)) for number in range(500))
        until(lambda: daemon.metric("ingestd_broker_dropped_messages") == 900)
        lines = log_lines(daemon, "broker_dropped_messages")
        assert lines[-1]["level"] == "error"
        assert sum(line["dropped"] for line in lines) >= 500  # what came before the first look is no growth
        assert count(database_url, "meter_history") == 1000
