"""Brokers that end the connection again and again: how often we come back, and what is said about it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import mqtt5
import pytest

from bench.mqtt import Client
from ingestd.demo.servers import PrivateMosquitto
from ingestd.errors import BrokerError
from ingestd.metrics import Metrics
from ingestd.mqtt.timing import Timing
from tests.support.fake_broker import FakeBroker, Link, cut, grant
from tests.support.polling import eventually
from tests.support.sessions import connected, new_session

if TYPE_CHECKING:
    from collections.abc import Callable

    from ingestd.mqtt.session import Session

QUICK = Timing(
    pause_first=0.02, pause_longest=1.5, stable=0.5, takeover_shown=0.5, soon=0.2, probe_interval=0.1, probe_within=0.5
)
"""A tenth of what it is in the field, and less."""
SECONDS = 1.0


def take_over(link: Link, packet: mqtt5.SubscribePacket) -> None:
    grant(link, packet)
    end_by_takeover(link, packet)


def end_by_takeover(link: Link, _packet: mqtt5.Packet) -> None:
    link.send(mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER))
    link.close()


def cut_after_suback(link: Link, packet: mqtt5.SubscribePacket) -> None:
    grant(link, packet)
    link.close()


async def connections_made(broker: FakeBroker) -> int:
    async with connected(broker.url, timing=QUICK):
        await asyncio.sleep(SECONDS)
    return len(broker.links)


async def test_a_broker_that_cuts_right_after_suback_is_asked_less_and_less_often() -> None:
    async with FakeBroker() as broker:
        broker.on(mqtt5.SubscribePacket, cut_after_suback)

        assert 3 <= await connections_made(broker) <= 9


async def test_a_broker_that_cuts_at_the_probe_is_asked_less_and_less_often() -> None:
    async with FakeBroker() as broker:
        broker.on(mqtt5.PublishPacket, cut)

        assert 3 <= await connections_made(broker) <= 9


async def test_a_session_that_is_taken_over_comes_back_less_and_less_often() -> None:
    async with FakeBroker() as broker:
        broker.on(mqtt5.SubscribePacket, take_over)

        assert 3 <= await connections_made(broker) <= 9


async def test_another_client_with_our_id_is_named_after_the_second_time() -> None:
    timing = replace(QUICK, takeover_shown=2.0)
    async with FakeBroker() as broker, connected(broker.url, "ours", timing=timing) as session:
        await eventually(lambda: "$SYS/broker/publish/messages/dropped" in broker.link.topics)
        for times in (1, 2):
            await eventually(lambda: session.reason is None)
            broker.link.send(mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER))
            broker.link.close()
            await eventually(lambda: len(broker.links) > times)  # noqa: B023 - at once

        named = "another client uses our client id 'ours': it took the session over 2 times"
        await eventually(lambda: "meters/+/telemetry" in broker.link.topics)
        await eventually(lambda: named == session.reason)  # although it is connected
        await eventually(lambda: session.reason is None)  # as this connection lives


async def test_mosquitto_tells_of_another_client_with_our_id(broker: PrivateMosquitto) -> None:
    metrics = Metrics()
    reasons: set[str | None] = set()
    async with connected(
        broker.url, "ours", timing=replace(QUICK, takeover_shown=2.0, stable=30.0), metrics=metrics
    ) as session:
        watching = asyncio.create_task(collect(reasons, session))
        for connections in (2, 3):
            await asyncio.to_thread(come_as, "ours", broker.url)
            expected = f"ingestd_broker_connections_total {connections}.0".encode()
            await eventually(lambda: expected in metrics.exposition())  # noqa: B023 - at once

        named = "the broker closed the connection 2 times soon after we came: another client with our id 'ours'?"
        await eventually(lambda: named in reasons)
        await eventually(lambda: session.reason is None)
        watching.cancel()


async def collect(reasons: set[str | None], session: Session) -> None:
    """Every reason that the session gives; each is given for a while only."""
    while True:
        reasons.add(session.reason)
        await asyncio.sleep(0.01)


def come_as(client_id: str, url: str) -> None:
    with Client(url, client_id):
        pass


async def test_another_client_is_named_also_where_it_comes_before_we_have_subscribed() -> None:
    async with FakeBroker() as broker, connected(broker.url, "ours", timing=QUICK) as session:
        broker.on(mqtt5.SubscribePacket, end_by_takeover)
        broker.link.close()

        await eventually(lambda: "another client uses our client id 'ours'" in (session.reason or ""))


@pytest.mark.parametrize("cut_it", [cut_after_suback, cut], ids=["after SUBACK", "before SUBACK"])
async def test_connections_that_are_cut_without_a_word_again_and_again_may_be_another_client(
    cut_it: Callable[[Link, mqtt5.SubscribePacket], None],
) -> None:
    async with FakeBroker() as broker, connected(broker.url, timing=QUICK) as session:
        broker.on(mqtt5.SubscribePacket, cut_it)
        broker.link.close()
        await eventually(lambda: "2 times" in (session.reason or ""))
        await eventually(lambda: "another client with our id" in (session.reason or ""))


async def test_a_broker_that_is_restarted_again_and_again_is_no_other_client() -> None:
    with PrivateMosquitto(persistence=True) as broker:
        metrics = Metrics()
        async with connected(broker.url, timing=QUICK, metrics=metrics) as session:
            for connections in (2, 3):
                broker.stop()
                await eventually(lambda: "cannot reach" in (session.reason or ""))
                broker.start()
                expected = f"ingestd_broker_connections_total {connections}.0".encode()
                await eventually(lambda: expected in metrics.exposition())  # noqa: B023 - at once

                await eventually(lambda: session.reason is None)
                assert session.is_receiving


async def test_after_a_connection_that_lived_for_a_while_the_pause_is_short_again() -> None:
    async with FakeBroker() as broker:
        broker.on(mqtt5.SubscribePacket, cut_after_suback)
        async with connected(broker.url, timing=QUICK) as session:
            await eventually(lambda: len(broker.links) == 5)
            broker.on(mqtt5.SubscribePacket, grant)
            await eventually(lambda: session.reason is None)
            await asyncio.sleep(QUICK.stable)
            lost_at = asyncio.get_running_loop().time()
            seen = len(broker.links)
            broker.link.close()
            await eventually(lambda: len(broker.links) > seen)

            assert asyncio.get_running_loop().time() - lost_at < 0.3  # 0.02 by the first pause, 0.3 to 0.6 by the sixth


async def test_a_first_start_that_fails_says_why() -> None:
    async with FakeBroker() as broker:
        broker.on(mqtt5.ConnectPacket, cut)

        with pytest.raises(BrokerError, match="does it speak MQTT 5"):
            await new_session(broker.url, timing=QUICK).open()
