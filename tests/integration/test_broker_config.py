"""What `ingestd broker init` writes, in a real Mosquitto: who may do what, and what is kept for ingestd."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.support.shipped_broker import DEADLINE, READINGS, ShippedBroker

if TYPE_CHECKING:
    from collections.abc import Iterator

DROPPED = "$SYS/broker/publish/messages/dropped"


@pytest.fixture
def broker() -> Iterator[ShippedBroker]:
    with ShippedBroker() as broker:
        yield broker


@pytest.mark.parametrize("user", [None, "ingestd"], ids=["without an account", "with a wrong password"])
def test_a_stranger_is_turned_away(broker: ShippedBroker, user: str | None) -> None:
    done = broker.client("mosquitto_sub", "-t", "ingestd/health", "-E", user=user, password="guessed")  # noqa: S106
    assert done.returncode == 0x87, done.stderr  # MQTT 5: not authorized


@pytest.mark.parametrize(("device", "stream"), [("meter-001", "meters"), ("EV-101", "vehicles")])
def test_a_device_publishes_under_its_own_name_and_nowhere_else(
    broker: ShippedBroker, device: str, stream: str
) -> None:
    broker.open_session(*READINGS, "ingestd/#", user="ingestd")
    other_topics = [
        "meters/other/telemetry",
        "vehicles/other/telemetry",
        f"{stream}/{device}",
        "ingestd/health",
        "ingestd/alerts/a/b",
    ]
    for topic in other_topics:
        broker.publish(topic, "forged", user=device)
    broker.publish(f"{stream}/{device}/telemetry", "own", user=device)
    # The queue is in order: what comes first shows that nothing came before it.
    received = broker.collect(*READINGS, "ingestd/#", user="ingestd", count=1)
    assert received == [f"{stream}/{device}/telemetry own"]


def test_ingestd_reads_both_streams(broker: ShippedBroker) -> None:
    broker.open_session(*READINGS, user="ingestd")
    broker.publish("meters/meter-001/telemetry", "m", user="meter-001")
    broker.publish("vehicles/EV-101/telemetry", "v", user="EV-101")
    received = broker.collect(*READINGS, user="ingestd", count=2)
    assert received == ["meters/meter-001/telemetry m", "vehicles/EV-101/telemetry v"]


def test_a_device_reads_no_readings_not_even_its_own(broker: ShippedBroker) -> None:
    broker.open_session("#", *READINGS, user="meter-001")
    broker.open_session(*READINGS, user="ingestd")
    broker.publish("meters/meter-001/telemetry", "m", user="meter-001")
    broker.publish("vehicles/EV-101/telemetry", "v", user="EV-101")
    assert len(broker.collect(*READINGS, user="ingestd", count=2)) == 2
    # What ingestd has been given would wait here too.
    assert broker.collect("#", *READINGS, user="meter-001", count=1, within=1) == []


def test_ingestd_forges_no_reading_and_has_a_corner_of_its_own(broker: ShippedBroker) -> None:
    broker.open_session(*READINGS, "ingestd/#", user="ingestd")
    broker.publish("meters/meter-001/telemetry", "forged", user="ingestd")
    broker.publish("ingestd/health", "well", user="ingestd")
    assert broker.collect(*READINGS, "ingestd/#", user="ingestd", count=1) == ["ingestd/health well"]


def test_an_alert_is_kept_for_whoever_comes_later(broker: ShippedBroker) -> None:
    topic = "ingestd/alerts/meter-silent/meter-001"
    done = broker.client("mosquitto_pub", "-t", topic, "-m", "active", "-q", "1", "-r", user="ingestd")
    assert done.returncode == 0, done.stderr
    shown = broker.client("mosquitto_sub", "-t", "ingestd/alerts/#", "-v", "-C", "1", "-W", "5", user="ingestd")
    assert shown.stdout == f"{topic} active\n"


def test_a_qos_0_reading_waits_for_an_absent_ingestd(broker: ShippedBroker) -> None:
    broker.open_session(*READINGS, user="ingestd")
    broker.publish("meters/meter-001/telemetry", "once", user="meter-001", qos=0)
    assert broker.collect(*READINGS, user="ingestd", count=1) == ["meters/meter-001/telemetry once"]


def test_more_than_the_contract_reaches_ingestd_and_more_than_the_limit_does_not(broker: ShippedBroker) -> None:
    beyond_contract, beyond_limit = "x" * 8193, "y" * 65537
    broker.open_session(*READINGS, user="ingestd")
    broker.publish("meters/meter-001/telemetry", beyond_limit, user="meter-001")
    broker.publish("meters/meter-001/telemetry", beyond_contract, user="meter-001")
    received = broker.collect(*READINGS, user="ingestd", count=1)
    assert received == [f"meters/meter-001/telemetry {beyond_contract}"]


def test_waiting_readings_outlive_a_restart_of_the_broker() -> None:
    with ShippedBroker() as broker:
        broker.open_session(*READINGS, user="ingestd")
        broker.publish("meters/meter-001/telemetry", "before", user="meter-001")
        broker.stop()
        broker.start()
        broker.publish("meters/meter-001/telemetry", "after", user="meter-001")
        received = broker.collect(*READINGS, user="ingestd", count=2)
    assert received == ["meters/meter-001/telemetry before", "meters/meter-001/telemetry after"]


def test_ingestd_learns_how_many_readings_a_full_queue_has_lost() -> None:
    small = {
        "max_queued_messages 15000000\n": "max_queued_messages 3\n",
        "sys_interval 10\n": "sys_interval 1\n",
    }
    with ShippedBroker(small) as broker:
        broker.open_session(*READINGS, user="ingestd")
        for number in range(5):
            broker.publish("meters/meter-001/telemetry", str(number), user="meter-001")
        deadline = time.monotonic() + DEADLINE
        count = ""
        while count != f"{DROPPED} 2":
            assert time.monotonic() < deadline, f"the last figure was {count!r}"
            # The figure is retained, so each call answers at once with the newest.
            shown = broker.client("mosquitto_sub", "-v", "-t", DROPPED, "-C", "1", "-W", "2", user="ingestd")
            count = shown.stdout.strip()
        received = broker.collect(*READINGS, user="ingestd", count=3)
        unseen = broker.client("mosquitto_sub", "-t", DROPPED, "-C", "1", "-W", "1", user="meter-001")
    assert [line.split()[-1] for line in received] == ["0", "1", "2"]
    assert unseen.stdout == ""
