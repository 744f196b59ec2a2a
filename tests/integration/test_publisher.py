# ruff: noqa: SIM300 - expected == actual
"""What `replay`, `simulate` and the demo publish with: nothing is taken for published that the broker did not take."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import mqtt5
import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from ingestd.config import Settings
from ingestd.demo.process import LOOPBACK
from ingestd.demo.servers import PrivateMosquitto
from ingestd.errors import BrokerError, BrokerRefusedError
from ingestd.mqtt.publisher import connected
from tests.support.fake_broker import FakeBroker, Link
from tests.support.polling import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

MESSAGES = [(f"meters/m-{number}/telemetry", b"%d" % number) for number in range(5_000)]


@contextmanager
def subscribed(broker: PrivateMosquitto) -> Iterator[list[tuple[str, bytes]]]:
    """All that is published meanwhile."""
    arrived: list[tuple[str, bytes]] = []
    granted = threading.Event()
    client = Client(CallbackAPIVersion.VERSION2)
    client.on_subscribe = lambda *_: granted.set()
    client.on_message = lambda _client, _userdata, message: arrived.append((message.topic, bytes(message.payload)))
    client.connect(LOOPBACK, broker.port)
    client.loop_start()
    try:
        client.subscribe("#", qos=1)
        assert granted.wait(10)
        yield arrived
    finally:
        client.disconnect()
        client.loop_stop()


def to(url: str) -> Settings:
    return Settings(mqtt_url=url)


@pytest.mark.parametrize("config", [[], ["max_inflight_messages 7"]], ids=["no limit", "seven at a time"])
async def test_every_message_arrives_in_order(config: list[str]) -> None:
    steps: list[int] = []
    with PrivateMosquitto(config=config) as broker, subscribed(broker) as arrived:
        async with connected(to(broker.url), client_id="test") as publisher:
            assert len(MESSAGES) == await publisher.publish(iter(MESSAGES), progress=steps.append)
        await eventually(lambda: len(MESSAGES) == len(arrived))

    assert MESSAGES == arrived
    assert len(MESSAGES) == sum(steps)


async def test_more_messages_go_out_than_there_are_packet_ids(broker: PrivateMosquitto) -> None:
    async with connected(to(broker.url), client_id="test") as publisher:
        assert 70_000 == await publisher.publish(("t", b"") for _ in range(70_000))
        assert 0 == await publisher.publish([])


async def test_a_rate_is_kept(broker: PrivateMosquitto) -> None:
    async with connected(to(broker.url), client_id="test") as publisher:
        started = time.monotonic()
        await publisher.publish(MESSAGES[:51], rate=100.0)

    assert 0.5 <= time.monotonic() - started


async def test_messages_that_the_broker_refuses_are_counted() -> None:
    acl = {"acl": "topic write meters/m-1/telemetry\n"}
    # With no limit at all, Mosquitto 2.0.11 ends the connection in place of refusing the message.
    with PrivateMosquitto(config=["acl_file acl", "max_queued_messages 1000"], files=acl) as broker:
        async with connected(to(broker.url), client_id="test") as publisher:
            with pytest.raises(BrokerError, match=r"^the broker refused 9 of 10 messages: not authorized$"):
                await publisher.publish(MESSAGES[:10])


async def test_an_account_that_the_broker_refuses_is_told() -> None:
    with (
        PrivateMosquitto(config=["allow_anonymous false"]) as broker,
        pytest.raises(BrokerRefusedError, match="refuses the connection: not authorized"),
    ):
        async with connected(to(broker.url), client_id="test"):
            pass


async def test_nobody_there_is_told(broker: PrivateMosquitto) -> None:
    url = broker.url
    broker.kill()

    with pytest.raises(BrokerError, match=f"cannot reach {url.removeprefix('mqtt://')}: "):
        async with connected(to(url), client_id="test"):
            pass


async def test_a_broker_that_dies_ends_it(broker: PrivateMosquitto) -> None:
    async with connected(to(broker.url), client_id="test") as publisher:
        await publisher.publish(MESSAGES[:10])
        broker.kill()
        with pytest.raises(BrokerError, match="publishing stopped after "):
            await publisher.publish(MESSAGES[:10])


async def test_a_broker_that_disconnects_says_why() -> None:
    def leave(link: Link, _packet: mqtt5.PublishPacket) -> None:
        reason = mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.QUOTA_EXCEEDED)
        link.send_bytes(reason.write() + b"\xf0\x00")

    async with FakeBroker() as broker, connected(to(broker.url), client_id="test") as publisher:
        broker.on(mqtt5.PublishPacket, leave)
        with pytest.raises(BrokerError, match="publishing stopped after 1 messages: "):
            await publisher.publish([("t", b"")])


@pytest.mark.parametrize("answer", [b"\x20\xff\xff\xff\xff\xff", mqtt5.SubAckPacket(1, []).write()])
async def test_a_broker_that_speaks_nonsense_ends_it(answer: bytes) -> None:
    async with FakeBroker() as broker:
        broker.on(mqtt5.ConnectPacket, lambda link, _: link.send_bytes(answer))
        with pytest.raises(BrokerError):
            async with connected(to(broker.url), client_id="test"):
                pass


async def test_pings_go_out_as_often_as_the_broker_wants() -> None:
    async with FakeBroker() as broker:
        broker.connack = mqtt5.ConnAckPacket(server_keep_alive=1)
        async with connected(to(broker.url), client_id="test"):
            await eventually(lambda: len(broker.link.of(mqtt5.PingReqPacket)) == 3)
