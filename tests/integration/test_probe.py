# ruff: noqa: SIM300 - expected == actual
"""Sessions that look connected and are not: how soon that is known, and what is done about it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import mqtt5

from ingestd.mqtt.timing import DEFAULT, Timing
from tests.support.fake_broker import FakeBroker, Link, acknowledge, acknowledge_and_echo, grant, ignore
from tests.support.polling import eventually
from tests.support.readings import meter_message
from tests.support.sessions import connected

QUICK = Timing(
    pause_first=0.02, stable=0.3, takeover_shown=0.1, probe_interval=0.1, probe_within=0.08, deaf=0.6, answer=0.1
)
"""A hundredth of what it is in the field."""
FILTERS = ["meters/+/telemetry", "vehicles/+/telemetry"]


def subscribed(link: Link) -> list[list[str]]:
    return [[wanted.pattern for wanted in packet.topic_filters] for packet in link.of(mqtt5.SubscribePacket)]


def test_a_probe_that_fails_shows_within_20_seconds_whenever_the_path_died() -> None:
    longest_wait = max(DEFAULT.probe_interval, DEFAULT.answer)  # the latter for the SUBACK of $SYS
    assert longest_wait + DEFAULT.probe_within < 20


async def test_a_broker_that_answers_pings_and_acknowledges_nothing_is_not_healthy() -> None:
    async with FakeBroker() as broker:
        broker.on(mqtt5.PublishPacket, ignore)
        async with connected(broker.url, timing=QUICK) as session:
            await eventually(lambda: session.reason is not None)

            assert "subscribed, but deaf: the broker does not acknowledge what we publish" == session.reason
            assert not session.is_receiving


async def test_a_broker_that_acknowledges_and_delivers_nothing_is_not_healthy() -> None:
    async with FakeBroker() as broker:
        broker.on(mqtt5.PublishPacket, acknowledge)
        async with connected(broker.url, timing=QUICK) as session:
            await eventually(lambda: session.reason is not None)

            assert "subscribed, but deaf: what is published to us does not arrive (access list?)" == session.reason


async def test_a_path_that_dies_is_known_by_the_probe_however_long_the_servers_keep_alive() -> None:
    async with FakeBroker() as broker:
        broker.connack = mqtt5.ConnAckPacket(session_present=True, server_keep_alive=600)
        async with connected(broker.url, timing=QUICK) as session:
            await eventually(lambda: len(broker.link.of(mqtt5.PublishPacket)) == 2)
            assert session.reason is None
            for kind in (mqtt5.PublishPacket, mqtt5.SubscribePacket, mqtt5.PingReqPacket):
                broker.on(kind, ignore)

            await eventually(lambda: session.reason is not None)
            assert "subscribed, but deaf: the broker does not acknowledge what we publish" == session.reason
            await eventually(lambda: len(broker.links) > 1)


async def test_a_path_that_dies_at_the_subscription_to_sys_is_known_by_the_probe() -> None:
    def die(link: Link, packet: mqtt5.SubscribePacket) -> None:
        if packet.topic_filters[0].pattern.startswith("$SYS"):
            broker.on(mqtt5.PublishPacket, ignore)
        else:
            grant(link, packet)

    async with FakeBroker() as broker:
        broker.on(mqtt5.SubscribePacket, die)
        async with connected(broker.url, timing=QUICK) as session:
            await eventually(lambda: "does not acknowledge" in (session.reason or ""))


async def test_a_deaf_session_is_subscribed_anew_and_is_well_again() -> None:
    async with FakeBroker() as broker:
        broker.on(mqtt5.PublishPacket, acknowledge)

        def grant_again(link: Link, packet: mqtt5.SubscribePacket) -> None:
            grant(link, packet)
            if subscribed(link).count(FILTERS) == 2:
                broker.on(mqtt5.PublishPacket, acknowledge_and_echo)

        broker.on(mqtt5.SubscribePacket, grant_again)
        async with connected(broker.url, timing=QUICK) as session:
            await eventually(lambda: session.reason is not None)
            await eventually(lambda: session.reason is None)

            assert 1 == len(broker.links)
            assert 2 == sum("probe" in topics[0] for topics in subscribed(broker.link))


async def test_a_session_that_stays_deaf_is_connected_anew_after_a_growing_pause() -> None:
    async with FakeBroker() as broker:
        broker.on(mqtt5.PublishPacket, acknowledge)
        async with connected(broker.url, timing=QUICK) as session:
            await eventually(lambda: len(broker.links) == 3)

            assert [2, 2] == [subscribed(link).count(FILTERS) for link in broker.links[:2]]
            broker.on(mqtt5.PublishPacket, acknowledge_and_echo)
            await eventually(lambda: session.reason is None)


def acknowledge_and_send_a_reading(link: Link, packet: mqtt5.PublishPacket) -> None:
    acknowledge(link, packet)
    send_a_reading(link)


def send_a_reading(link: Link) -> None:
    topic, payload = meter_message("m-1", datetime.now(UTC))
    link.send(mqtt5.PublishPacket(topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=1))


async def test_a_probe_behind_a_backlog_is_no_sign_of_deafness() -> None:
    async with FakeBroker() as broker:
        broker.on(mqtt5.PublishPacket, acknowledge_and_send_a_reading)
        async with connected(broker.url, timing=QUICK) as session:
            await eventually(lambda: len(broker.link.of(mqtt5.PublishPacket)) == 4)

            assert session.reason is None
            assert 1 == len(broker.links)


async def test_a_session_that_hears_readings_again_is_well_although_the_probe_does_not_come_back() -> None:
    async with FakeBroker() as broker:
        broker.on(mqtt5.PublishPacket, acknowledge)
        async with connected(broker.url, timing=QUICK) as session:
            await eventually(lambda: session.reason is not None)
            broker.on(mqtt5.PublishPacket, acknowledge_and_send_a_reading)

            await eventually(lambda: session.reason is None)


async def test_a_session_that_hears_readings_is_not_connected_anew_for_want_of_a_puback() -> None:
    async with FakeBroker() as broker:
        broker.on(mqtt5.PublishPacket, lambda link, _: send_a_reading(link))
        async with connected(broker.url, timing=QUICK) as session:
            await eventually(lambda: "does not acknowledge" in (session.reason or ""))
            await asyncio.sleep(2 * QUICK.deaf)

            assert 1 == len(broker.links)
            assert "does not acknowledge" in (session.reason or "")


async def test_a_probe_that_fails_while_reading_is_paused_says_nothing() -> None:
    async with FakeBroker() as broker, connected(broker.url, timing=QUICK) as session:
        broker.on(mqtt5.PublishPacket, ignore)
        for _ in range(10):
            session.hold("buffer")
            await asyncio.sleep(0.02)
            session.release("buffer")
            await asyncio.sleep(0.02)

        assert session.reason is None


async def test_a_deaf_session_is_left_alone_while_reading_is_paused() -> None:
    async with FakeBroker() as broker:
        broker.on(mqtt5.PublishPacket, acknowledge)
        async with connected(broker.url, timing=QUICK) as session:
            await eventually(lambda: session.reason is not None)
            session.hold("standby")
            await asyncio.sleep(2 * QUICK.deaf)

            assert 1 == subscribed(broker.link).count(FILTERS)
            assert "subscribed, but deaf: what is published to us does not arrive (access list?)" == session.reason


async def test_a_probe_that_the_broker_refuses_says_nothing() -> None:
    def refuse(link: Link, packet: mqtt5.PublishPacket) -> None:
        assert packet.packet_id is not None
        link.send(mqtt5.PubAckPacket(packet.packet_id, reason_code=mqtt5.PubAckReasonCode.NOT_AUTHORIZED))

    async with FakeBroker() as broker:
        broker.on(mqtt5.PublishPacket, refuse)
        async with connected(broker.url, timing=QUICK) as session:
            await eventually(lambda: len(broker.link.of(mqtt5.PublishPacket)) == 3)

            assert session.reason is None
