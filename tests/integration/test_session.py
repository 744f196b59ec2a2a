# ruff: noqa: SIM300 - expected == actual
"""What the session itself publishes, with a real broker."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import mqtt5
import pytest

from ingestd.demo.servers import PrivateMosquitto
from ingestd.errors import BrokerError, BrokerRefusedError
from ingestd.metrics import Metrics
from tests.support.fake_broker import FakeBroker, Link
from tests.support.polling import eventually
from tests.support.sessions import connected, new_session

READ_ONLY = "topic read meters/+/telemetry\ntopic read vehicles/+/telemetry\ntopic readwrite ingestd/probe/#\n"


async def received(broker: PrivateMosquitto, topic: str) -> str:
    """The first message a newcomer is given, its properties before it."""
    command = ["-p", str(broker.port), "-V", "5", "-t", topic, "-C", "1", "-W", "5", "-F", "%r %q %E %p"]
    process = await asyncio.create_subprocess_exec("mosquitto_sub", *command, stdout=asyncio.subprocess.PIPE)
    shown, _ = await process.communicate()
    return shown.decode().strip()


async def test_what_is_published_is_retained_until_it_expires(broker: PrivateMosquitto) -> None:
    async with connected(broker.url) as session:
        await session.publish("ingestd/alerts/a", b"for ever", expires_after=None)
        await session.publish("ingestd/alerts/b", b"for a day", expires_after=timedelta(days=1))

    assert "1 0  for ever" == await received(broker, "ingestd/alerts/a")
    retained, _, expiry, payload = (await received(broker, "ingestd/alerts/b")).split(" ", 3)
    assert ("1", True, "for a day") == (retained, 86_000 < int(expiry) <= 86_400, payload)


async def test_several_may_publish_at_once(broker: PrivateMosquitto) -> None:
    async with connected(broker.url) as session:
        topics = [f"ingestd/alerts/{number}" for number in range(50)]
        await asyncio.gather(*(session.publish(topic, topic.encode(), expires_after=None) for topic in topics))

        assert session.reason is None
    assert "1 0  ingestd/alerts/49" == await received(broker, "ingestd/alerts/49")


async def test_a_broker_that_does_not_allow_it_says_so() -> None:
    with PrivateMosquitto(config=["acl_file acl"], files={"acl": READ_ONLY}) as broker:
        async with connected(broker.url) as session:
            with pytest.raises(BrokerRefusedError, match="refuses ingestd/alerts/a: not authorized"):
                await session.publish("ingestd/alerts/a", b"x", expires_after=None)

            assert session.is_receiving


async def test_nothing_is_published_without_a_connection_or_while_reading_is_paused(broker: PrivateMosquitto) -> None:
    with pytest.raises(BrokerError, match="not connected yet"):
        await new_session(broker.url, "nobody").publish("ingestd/alerts/a", b"x", expires_after=None)
    async with connected(broker.url) as session:
        assert session.is_receiving
        session.hold("buffer")
        with pytest.raises(BrokerError, match="no PUBACK can be read"):
            await session.publish("ingestd/alerts/a", b"x", expires_after=None)
        assert not session.is_receiving

        session.release("buffer")
        await session.publish("ingestd/alerts/a", b"x", expires_after=None)
        assert session.is_receiving


async def test_it_is_known_when_the_broker_has_forgotten_us(broker: PrivateMosquitto) -> None:
    async with connected(broker.url, "known") as session:
        assert (1, 0) == (session.sessions_begun, session.sessions_lost)
    metrics = Metrics()
    async with connected(broker.url, "known", metrics=metrics) as session:
        assert (0, 0) == (session.sessions_begun, session.sessions_lost)
        assert b"ingestd_broker_sessions_lost_total 0.0" in metrics.exposition()
        port = broker.port
        broker.stop()
        broker.start()
        assert port == broker.port

        await eventually(lambda: session.sessions_lost == 1)
        assert 1 == session.sessions_begun
        assert b"ingestd_broker_sessions_lost_total 1.0" in metrics.exposition()


async def test_a_session_that_was_lost_is_counted_where_the_connection_that_says_so_breaks_off() -> None:
    def say_so_and_go(link: Link, _packet: mqtt5.ConnectPacket) -> None:
        link.send(mqtt5.ConnAckPacket(session_present=False))
        link.close()
        broker.on(mqtt5.ConnectPacket, lambda link, _: link.send(broker.connack))

    async with FakeBroker() as broker, connected(broker.url) as session:
        broker.on(mqtt5.ConnectPacket, say_so_and_go)
        broker.link.close()
        await eventually(lambda: len(broker.links) == 3)

        assert (1, 1) == (session.sessions_begun, session.sessions_lost)
