"""What an older client of our client id left behind: a subscription of QoS 2, and messages that wait for it."""

from __future__ import annotations

import socket
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import mqtt5
import pytest

from bench.mqtt import Client
from ingestd.demo.servers import PrivateMosquitto
from tests.faults.load import assert_counters_balance
from tests.support.daemon import Daemon
from tests.support.devices import Device
from tests.support.polling import until
from tests.support.proxy import PUBREC, Proxy
from tests.support.readings import count, meter_message

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = datetime.now(UTC).replace(microsecond=0)
MESSAGES = 25


@pytest.fixture
def broker() -> Iterator[PrivateMosquitto]:
    """As it is shipped by its makers: at most 20 messages are under way."""
    with PrivateMosquitto(config=["max_inflight_messages 20", "log_type all"]) as server:
        yield server


def leave_a_session(broker: PrivateMosquitto, *, qos: list[int]) -> None:
    """Subscribe as ingestd with QoS 2 and go away; then readings are published, the first with the first QoS."""
    with Client(broker.url, "ingestd") as old:
        old.subscribe(["meters/+/telemetry"], qos=mqtt5.QoS.EXACTLY_ONCE)
    with Device(broker.url) as device:
        for number, level in enumerate(qos):
            topic, payload = meter_message("m-1", NOW - timedelta(seconds=number))
            assert device.publish(topic, payload, qos=level) == 0


def assert_all_stored_once(daemon: Daemon, database_url: str, messages: int) -> None:
    until(lambda: count(database_url, "meter_history") == messages)
    assert_counters_balance(daemon)
    assert count(database_url, "dead_letter") == 0


def wait_for_pubcomp(broker: PrivateMosquitto, messages: int) -> None:
    until(lambda: broker.log.read_text().count("Received PUBCOMP from ingestd") == messages)


def assert_nothing_is_left(broker: PrivateMosquitto) -> None:
    """Whoever comes with our client id now is sent nothing."""
    data = b""
    with socket.create_connection(("127.0.0.1", broker.port)) as connection:
        connection.sendall(mqtt5.ConnectPacket("ingestd", session_expiry_interval=600, receive_max=65_000).write())
        connection.settimeout(0.5)
        with suppress(TimeoutError):
            while more := connection.recv(65_536):
                data += more
    connack, size = mqtt5.read(memoryview(data))
    assert isinstance(connack, mqtt5.ConnAckPacket)
    assert connack.session_present
    assert data[size:] == b""


@pytest.mark.parametrize("qos", [[2] * MESSAGES, [1, 2] * MESSAGES], ids=["QoS 2", "QoS 1 and 2"])
def test_messages_of_an_old_qos_2_subscription_are_stored_once(
    broker: PrivateMosquitto, database_url: str, qos: list[int]
) -> None:
    leave_a_session(broker, qos=qos)
    with Daemon(mqtt_url=broker.url, database_url=database_url, flush_interval=0.1) as daemon:
        daemon.wait_healthy()
        assert_all_stored_once(daemon, database_url, len(qos))
        assert daemon.metric("ingestd_duplicate_total") == 0
        assert daemon.metric("ingestd_broker_connections_total") == 1
        wait_for_pubcomp(broker, qos.count(2))
        daemon.terminate()
    assert_nothing_is_left(broker)


def test_a_kill_between_pubrec_and_pubrel_stores_nothing_twice(broker: PrivateMosquitto, database_url: str) -> None:
    leave_a_session(broker, qos=[2] * MESSAGES)
    with (
        Proxy(broker.url) as proxy,
        Daemon(mqtt_url=proxy.url, database_url=database_url, flush_interval=0.1) as daemon,
    ):
        answer_lost = proxy.cut_next(PUBREC)
        daemon.wait_healthy()
        assert answer_lost.wait(10)
        daemon.kill()
        assert count(database_url, "meter_history") > 0
        daemon.start()
        daemon.wait_healthy()
        assert_all_stored_once(daemon, database_url, MESSAGES)
        wait_for_pubcomp(broker, MESSAGES)
        daemon.terminate()
    assert_nothing_is_left(broker)


def test_a_kill_before_pubrec_stores_nothing_twice(broker: PrivateMosquitto, database_url: str) -> None:
    leave_a_session(broker, qos=[2] * MESSAGES)
    with Daemon(
        mqtt_url=broker.url, database_url=database_url, flush_interval=0.1, failpoints="after-commit=kill"
    ) as daemon:
        until(lambda: daemon.exit_code is not None)
        daemon.start(failpoints="")
        daemon.wait_healthy()
        assert_all_stored_once(daemon, database_url, MESSAGES)
        wait_for_pubcomp(broker, MESSAGES)
        daemon.terminate()
    assert_nothing_is_left(broker)
