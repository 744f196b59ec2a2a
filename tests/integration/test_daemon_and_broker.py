# ruff: noqa: SIM300 - expected == actual
"""The daemon as a process with brokers that are not as they should be: one line each, and what signals do."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import mqtt5
import pytest

from tests.support.daemon import Daemon
from tests.support.fake_broker import FakeBroker, cut, ignore
from tests.support.polling import eventually, until

if TYPE_CHECKING:
    from ingestd.demo.servers import PrivateMosquitto


async def ended(daemon: Daemon) -> str:
    """The last line it wrote, when it has ended with status 1."""
    await eventually(lambda: daemon.exit_code is not None)
    assert 1 == daemon.exit_code
    log = daemon.log_tail()
    assert "Traceback" not in log
    return log.splitlines()[-1]


async def test_a_broker_that_speaks_mqtt_3_1_1_only_ends_the_start_with_one_line(database_url: str) -> None:
    async with FakeBroker() as broker:
        broker.on(mqtt5.ConnectPacket, lambda link, _: link.send_bytes(b"\x20\x02\x00\x01"))
        with Daemon(mqtt_url=broker.url, database_url=database_url) as daemon:
            told = "no MQTT 5 broker: it speaks MQTT 3.1.1 only, and ingestd needs MQTT 5"
            assert f"ingestd: 127.0.0.1:{broker.port}: {told}" == await ended(daemon)


async def test_a_broker_that_closes_at_connect_ends_the_start_with_one_line(database_url: str) -> None:
    async with FakeBroker() as broker:
        broker.on(mqtt5.ConnectPacket, cut)
        with Daemon(mqtt_url=broker.url, database_url=database_url) as daemon:
            assert (await ended(daemon)).endswith("at CONNECT: does it speak MQTT 5, or TLS (mqtts://)?")


async def test_a_broker_that_acknowledges_nothing_shows_within_20_seconds(database_url: str) -> None:
    """With the times of the field, where it counts most: the first probe is not answered."""
    async with FakeBroker() as broker:
        broker.connack = mqtt5.ConnAckPacket(session_present=True, server_keep_alive=600)
        broker.on(mqtt5.PublishPacket, ignore)
        with Daemon(mqtt_url=broker.url, database_url=database_url) as daemon:
            await eventually(lambda: broker.links and broker.link.of(mqtt5.PublishPacket), within=20)

            def broker_reason() -> str:
                return str(daemon.request("GET", "/health").json()["broker"])

            await eventually(lambda: "does not acknowledge" in broker_reason(), within=20)
            assert 503 == daemon.request("GET", "/health").status


@pytest.mark.parametrize("setting", ["mqtt_probe", "mqtt_sys"])
async def test_the_settings_leave_out_the_probe_or_sys(database_url: str, setting: str) -> None:
    async with FakeBroker() as broker:
        with Daemon(mqtt_url=broker.url, database_url=database_url, **{setting: "false"}) as daemon:
            asked = {"mqtt_probe": "$SYS/broker/publish/messages/dropped", "mqtt_sys": "ingestd/probe/ingestd"}
            await eventually(lambda: broker.links and asked[setting] in broker.link.topics, within=20)
            await eventually(lambda: daemon.request("GET", "/health").status == 200)

            assert 3 == len(broker.link.topics)


def test_sighup_ends_nothing(broker: PrivateMosquitto, database_url: str) -> None:
    with Daemon(mqtt_url=broker.url, database_url=database_url) as daemon:
        daemon.wait_healthy()
        os.kill(daemon.pid, signal.SIGHUP)
        until(lambda: daemon.request("GET", "/v1/audit?action=reloaded").json()["audit"])
        daemon.wait_healthy()

        assert 0 == daemon.terminate()
