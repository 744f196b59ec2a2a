# ruff: noqa: SIM300 - expected == actual
"""What the broker says it cannot do is not asked of it; what we cannot do without is one clear error."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import mqtt5
import pytest

from ingestd.demo.servers import PrivateMosquitto
from ingestd.errors import BrokerError, BrokerRefusedError, MessageTooLargeError
from ingestd.metrics import Metrics
from ingestd.mqtt.dropped import DROPPED_TOPIC
from ingestd.mqtt.timing import Timing
from tests.support.devices import Device
from tests.support.fake_broker import FakeBroker, Link, acknowledge_and_echo, cut, grant, ignore
from tests.support.polling import eventually
from tests.support.readings import meter_message
from tests.support.sessions import connected, new_session

QUICK = Timing(
    pause_first=0.02, pause_longest=0.1, stable=0.5, takeover_shown=0.5, soon=0.2, probe_interval=0.1, probe_within=0.5
)
TOPIC = "ingestd/alerts/x"


def granted(**limits: Any) -> mqtt5.ConnAckPacket:  # noqa: ANN401 - of many types
    return mqtt5.ConnAckPacket(session_present=True, **limits)


def published(link: Link, topic: str) -> list[mqtt5.PublishPacket]:
    return [packet for packet in link.of(mqtt5.PublishPacket) if packet.topic == topic]


# What we cannot do without -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"max_qos": mqtt5.QoS.AT_MOST_ONCE}, "the broker has no QoS 1"),
        (
            {"wildcard_subscription_available": False},
            "no wildcard subscriptions, such as",
        ),
        ({"shared_subscription_available": False}, "no shared subscriptions: unset INGESTD_MQTT_SHARED_GROUP"),
    ],
    ids=["QoS 1", "wildcards", "shared subscriptions"],
)
async def test_a_broker_without_it_is_one_clear_error(limits: dict[str, Any], reason: str) -> None:
    async with FakeBroker() as broker:
        broker.connack = granted(**limits)

        with pytest.raises(BrokerRefusedError, match=reason):
            await new_session(broker.url, shared_group="g").open()

        assert [] == broker.link.of(mqtt5.SubscribePacket)


async def test_what_we_do_not_need_may_be_missing() -> None:
    async with FakeBroker() as broker:
        broker.connack = granted(
            max_qos=mqtt5.QoS.AT_LEAST_ONCE, shared_subscription_available=False, subscription_id_available=False
        )
        async with connected(broker.url) as session:
            assert session.reason is None


@pytest.mark.parametrize("answer", [b"\x20\x02\x00\x01", b"\x20\x02\x00\x05"], ids=["level refused", "not authorized"])
async def test_a_broker_that_speaks_mqtt_3_1_1_only_is_one_clear_error(answer: bytes) -> None:
    async with FakeBroker() as broker:
        broker.on(mqtt5.ConnectPacket, lambda link, _: link.send_bytes(answer))

        with pytest.raises(BrokerError, match=r"^127.0.0.1:\d+: no MQTT 5 broker: it speaks MQTT 3\.1\.1 only"):
            await new_session(broker.url).open()


async def test_a_short_suback_is_one_clear_error() -> None:
    def answer_one(link: Link, packet: mqtt5.SubscribePacket) -> None:
        code = mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE
        link.send(mqtt5.SubAckPacket(packet.packet_id, [code]))

    async with FakeBroker() as broker:
        broker.on(mqtt5.SubscribePacket, answer_one)

        with pytest.raises(BrokerError, match="a SUBSCRIBE of 2 topics with 1 reason codes"):
            await new_session(broker.url).open()


async def test_an_empty_suback_to_the_probe_leaves_the_session_alone() -> None:
    def answer_none(link: Link, packet: mqtt5.SubscribePacket) -> None:
        if len(packet.topic_filters) > 1:
            grant(link, packet)
        else:
            link.send(mqtt5.SubAckPacket(packet.packet_id, []))

    async with FakeBroker() as broker:
        broker.on(mqtt5.SubscribePacket, answer_none)
        async with connected(broker.url, timing=QUICK) as session:
            await eventually(lambda: len(broker.link.of(mqtt5.SubscribePacket)) == 4)

            assert (None, 1) == (session.reason, len(broker.links))


# Limits ------------------------------------------------------------------------------------------------------------


async def test_alerts_go_out_unretained_where_the_broker_retains_nothing() -> None:
    async with FakeBroker() as broker:
        broker.connack = granted(retain_available=False)
        async with connected(broker.url) as session:
            await session.publish(TOPIC, b"x", expires_after=None)

            assert [False] == [packet.retain for packet in published(broker.link, TOPIC)]


async def test_a_message_larger_than_the_broker_takes_is_not_sent() -> None:
    async with FakeBroker() as broker:
        broker.connack = granted(max_packet_size=100)
        async with connected(broker.url) as session:
            with pytest.raises(MessageTooLargeError, match="and the broker takes 100 at most"):
                await session.publish(TOPIC, b"x" * 100, expires_after=None)
            await session.publish(TOPIC, b"x" * 70, expires_after=None)

            assert [70] == [len(packet.payload) for packet in published(broker.link, TOPIC)]


async def test_no_more_is_published_at_once_than_the_broker_allows() -> None:
    async with FakeBroker() as broker:
        broker.connack = granted(receive_max=1)
        broker.on(mqtt5.PublishPacket, ignore)
        async with connected(broker.url, extras=(), timing=Timing(answer=5)) as session:
            publishing = [asyncio.create_task(session.publish(TOPIC, b"x", expires_after=None)) for _ in range(2)]
            for count in (1, 2):
                await eventually(lambda: len(published(broker.link, TOPIC)) == count)  # noqa: B023 - at once
                assert count - 1 == sum(task.done() for task in publishing)
                packet_id = published(broker.link, TOPIC)[-1].packet_id
                assert packet_id is not None
                broker.link.send(mqtt5.PubAckPacket(packet_id))
                await eventually(lambda: sum(task.done() for task in publishing) == count)  # noqa: B023


async def test_an_alert_that_is_not_acknowledged_fails_after_a_while_so_that_it_is_tried_again() -> None:
    async with FakeBroker() as broker:
        broker.on(mqtt5.PublishPacket, ignore)
        async with connected(broker.url, timing=Timing(answer=0.1)) as session:
            with pytest.raises(BrokerError, match=r"did not answer within 0\.1 s"):
                await session.publish(TOPIC, b"x", expires_after=None)


async def test_pings_go_by_the_servers_keep_alive() -> None:
    async with FakeBroker() as broker:
        broker.connack = granted(server_keep_alive=1)
        async with connected(broker.url):
            await eventually(lambda: len(broker.link.of(mqtt5.PingReqPacket)) == 2, within=5)


async def test_a_client_id_that_the_broker_gives_us_is_ours_from_then_on() -> None:
    async with FakeBroker() as broker:
        broker.connack = granted(assigned_client_id="another")
        async with connected(broker.url, "ours", timing=QUICK):
            broker.link.close()
            await eventually(lambda: len(broker.links) == 2 and broker.link.received)

    assert ["ours", "another"] == [link.of(mqtt5.ConnectPacket)[0].client_id for link in broker.links]


async def test_we_state_how_large_a_packet_may_be() -> None:
    async with FakeBroker() as broker, connected(broker.url):
        assert 128 * 1024 == broker.link.of(mqtt5.ConnectPacket)[0].max_packet_size


async def test_what_is_larger_is_dropped_by_mosquitto_and_holds_up_nobody(broker: PrivateMosquitto) -> None:
    metrics = Metrics()
    now = datetime.now(UTC)
    async with connected(broker.url, "ours", metrics=metrics) as session:
        await session.close()
    with Device(broker.url) as device:
        device.publish("meters/m-1/telemetry", b"x" * 100_000)
        device.publish("meters/m-1/telemetry", b"x" * 200_000)
        device.publish(*meter_message("m-1", now - timedelta(seconds=1)))
    received: list[int] = []
    session = new_session(broker.url, "ours", on_delivery=lambda delivery: received.append(len(delivery)))
    await session.open()
    await eventually(lambda: sum(received) == 2)
    await session.close()


async def test_the_limits_of_a_real_mosquitto_are_kept() -> None:
    limits = ["retain_available false", "max_packet_size 300", "max_keepalive 10", "max_qos 1"]
    with PrivateMosquitto(config=limits) as broker:
        async with connected(broker.url, "ours", timing=QUICK) as session:
            await session.publish(TOPIC, b"x", expires_after=None)
            with pytest.raises(MessageTooLargeError):
                await session.publish(TOPIC, b"x" * 300, expires_after=None)
            await asyncio.sleep(3 * QUICK.probe_interval)

            assert session.is_receiving
            assert "protocol error" not in broker.log_tail()


async def test_a_real_mosquitto_without_qos_1_is_one_clear_error() -> None:
    with (
        PrivateMosquitto(config=["max_qos 0"]) as broker,
        pytest.raises(BrokerRefusedError, match=r"^the broker has no QoS 1, without which readings would be lost$"),
    ):
        await new_session(broker.url).open()


# The probe and $SYS ------------------------------------------------------------------------------------------------


async def test_the_probe_and_sys_can_be_left_out() -> None:
    async with FakeBroker() as broker, connected(broker.url, extras=(), timing=QUICK) as session:
        await asyncio.sleep(3 * QUICK.probe_interval)

        assert ["meters/+/telemetry", "vehicles/+/telemetry"] == broker.link.topics
        assert [] == broker.link.of(mqtt5.PublishPacket)
        assert session.is_receiving


async def test_the_probe_is_left_out_where_the_broker_ends_the_connection_over_it_twice() -> None:
    async with FakeBroker() as broker:
        broker.on(mqtt5.PublishPacket, cut)
        async with connected(broker.url, timing=QUICK) as session:
            await eventually(lambda: len(broker.links) == 3 and DROPPED_TOPIC in broker.link.topics)
            await asyncio.sleep(2 * QUICK.soon)

            assert [1, 1, 0] == [len(link.of(mqtt5.PublishPacket)) for link in broker.links]
            await eventually(lambda: session.is_receiving)


async def test_sys_is_left_out_where_the_broker_ends_the_connection_over_it_twice() -> None:
    def cut_at_sys(link: Link, packet: mqtt5.SubscribePacket) -> None:
        if packet.topic_filters[0].pattern == DROPPED_TOPIC:
            link.close()
        else:
            grant(link, packet)

    async with FakeBroker() as broker:
        broker.on(mqtt5.SubscribePacket, cut_at_sys)
        async with connected(broker.url, timing=QUICK) as session:
            await eventually(lambda: len(broker.links) == 3 and len(broker.link.of(mqtt5.PublishPacket)) > 2)

            await eventually(lambda: session.is_receiving)
            assert [3, 3, 2] == [len(link.of(mqtt5.SubscribePacket)) for link in broker.links]


async def test_after_a_connection_that_lived_the_probe_is_tried_again() -> None:
    async with FakeBroker() as broker:
        broker.on(mqtt5.PublishPacket, cut)
        async with connected(broker.url, timing=QUICK):
            await eventually(lambda: len(broker.links) == 3)
            broker.on(mqtt5.PublishPacket, acknowledge_and_echo)
            await asyncio.sleep(1.2 * QUICK.stable)
            broker.link.close()

            await eventually(lambda: len(broker.links) == 4 and broker.link.of(mqtt5.PublishPacket))


async def test_where_connections_end_without_the_probe_and_sys_too_they_are_asked_for_again() -> None:
    async with FakeBroker() as broker:
        broker.on(mqtt5.PublishPacket, cut)
        async with connected(broker.url, extras=["probe"], timing=QUICK):
            await eventually(lambda: len(broker.links) == 3 and "meters/+/telemetry" in broker.link.topics)
            broker.link.close()

            await eventually(lambda: len(broker.links) == 4 and broker.link.of(mqtt5.PublishPacket))


async def test_what_was_left_out_without_fault_is_asked_for_again_on_a_connection_that_lasts() -> None:
    async with FakeBroker() as broker:
        broker.on(mqtt5.PublishPacket, cut)
        async with connected(broker.url, timing=replace(QUICK, ask_again=0.4)) as session:
            await eventually(lambda: len(broker.links) == 3)
            broker.on(mqtt5.PublishPacket, acknowledge_and_echo)
            await eventually(lambda: len(broker.link.of(mqtt5.PublishPacket)) > 2)
            broker.on(mqtt5.PublishPacket, ignore)

            await eventually(lambda: "does not acknowledge" in (session.reason or ""))
            assert 3 == len(broker.links)


async def test_what_is_asked_for_again_costs_one_connection_and_no_more() -> None:
    async with FakeBroker() as broker:
        broker.on(mqtt5.PublishPacket, cut)
        async with connected(broker.url, timing=replace(QUICK, stable=0.3, ask_again=0.6)):
            await eventually(lambda: len(broker.links) == 4)
            await asyncio.sleep(0.4)

            assert [1, 1, 1, 0] == [len(link.of(mqtt5.PublishPacket)) for link in broker.links]


@pytest.mark.parametrize("count", [b"9" * 300, b"9" * 5000, b"-1", b"", "\u0661".encode()])
async def test_a_count_of_dropped_messages_that_is_no_number_is_passed_over(count: bytes) -> None:
    metrics = Metrics()
    async with FakeBroker() as broker, connected(broker.url, metrics=metrics) as session:
        await eventually(lambda: DROPPED_TOPIC in broker.link.topics)
        for payload in (count, b"7"):
            broker.link.send(mqtt5.PublishPacket(DROPPED_TOPIC, payload))

        await eventually(lambda: b"ingestd_broker_dropped_messages 7.0" in metrics.exposition())
        assert (None, 1) == (session.reason, len(broker.links))
