"""Messages of every fault class between good ones: the good are stored, the bad kept with their reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import psycopg
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.support.daemon import Daemon
from tests.support.devices import Device
from tests.support.polling import until
from tests.support.readings import count, meter_message, rfc3339, vehicle_message

if TYPE_CHECKING:
    from ingestd.demo.servers import PrivateMosquitto

NOW = datetime.now(UTC)
LONG_AGO = NOW - timedelta(days=91)
GOOD_PAYLOAD = meter_message("x", NOW)[1].replace(b'"meterId": "x", ', b"")

BAD: dict[str, list[tuple[str, bytes]]] = {
    "not-json": [("meters/m-1/telemetry", b"volts: 230"), ("vehicles/v-1/telemetry", b"\xff\xfe\x00{")],
    "schema": [
        ("meters/m-2/telemetry", b"[]"),
        ("meters/m-3/telemetry", b'{"kwhConsumedAc": "0.4", "voltage": 230, "timestamp": "2026-11-20T10:30:00Z"}'),
        ("vehicles/v-2/telemetry", vehicle_message("v-2", NOW, soc=101)[1]),
    ],
    "identity-mismatch": [("meters/m-4/telemetry", meter_message("m-5", NOW)[1])],
    "bad-topic": [("meters/m 6/telemetry", GOOD_PAYLOAD), (f"vehicles/{'v' * 65}/telemetry", GOOD_PAYLOAD)],
    "timestamp-out-of-range": [
        meter_message("m-7", LONG_AGO),
        meter_message("m-8", NOW + timedelta(days=1)),
    ],
    "too-large": [("meters/m-9/telemetry", GOOD_PAYLOAD + b" " * 9 * 1024)],
    "database": [meter_message("m-poison", NOW)],
}


def test_each_fault_class_is_kept_with_its_reason_and_costs_its_neighbours_nothing(
    broker: PrivateMosquitto, database_url: str
) -> None:
    good = 0
    with (
        Daemon(mqtt_url=broker.url, database_url=database_url, flush_interval=0.3) as daemon,
        Device(broker.url) as device,
    ):
        with psycopg.connect(database_url) as connection:
            connection.execute("ALTER TABLE meter_history ADD CHECK (meter_id <> 'm-poison') NOT VALID")
        daemon.wait_healthy()
        for messages in BAD.values():
            for topic, payload in messages:
                for neighbour in (meter_message("good", NOW - timedelta(seconds=good)), (topic, payload)):
                    device.publish(*neighbour)
                good += 1
        device.publish(*meter_message("good", NOW - timedelta(seconds=good)))
        good += 1
        expected = {reason: len(messages) for reason, messages in BAD.items()}
        until(lambda: count(database_url, "dead_letter") == sum(expected.values()))
        until(lambda: count(database_url, "meter_history") == good)
        with psycopg.connect(database_url) as connection:
            stored: dict[str, int] = dict(
                connection.execute("SELECT reason, count(*) FROM dead_letter GROUP BY reason").fetchall()
            )
            kept = connection.execute("SELECT topic, payload FROM dead_letter WHERE reason <> 'database'").fetchall()
        until(lambda: daemon.metric("ingestd_in_flight") == 0)
        assert expected == stored
        assert {reason: daemon.metric("ingestd_dead_lettered_total", reason=reason) for reason in BAD} == stored
        sent = {
            (topic, payload[:8192])
            for reason, messages in BAD.items()
            if reason != "database"
            for topic, payload in messages
        }
        assert sent == set(kept)
        assert daemon.request("GET", "/health").status == 200
        assert good == daemon.metric("ingestd_committed_total")


def test_odd_but_valid_deliveries_are_stored(broker: PrivateMosquitto, database_url: str) -> None:
    """QoS 0 and 2, retained, with user properties and an expiry, by a topic alias: all of it is telemetry."""
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.UserProperty = ("firmware", "1.2.3")
    properties.MessageExpiryInterval = 3600
    properties.ContentType = "application/json"
    with (
        Daemon(mqtt_url=broker.url, database_url=database_url, flush_interval=0.1) as daemon,
        Device(broker.url) as device,
    ):
        daemon.wait_healthy()
        device.publish(*meter_message("qos-0", NOW), qos=0)
        device.publish(*meter_message("qos-2", NOW), qos=2)
        device.publish(*meter_message("retained", NOW), retain=True)
        device.publish(*meter_message("propertied", NOW), properties=properties)
        alias = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        alias.TopicAlias = 1
        topic, payload = meter_message("aliased", NOW)
        device.publish(topic, payload, properties=alias)
        device.publish("", meter_message("aliased", NOW - timedelta(seconds=1))[1], properties=alias)
        until(lambda: count(database_url, "meter_history") == 6)
        assert daemon.request("GET", "/v1/analytics/meter/retained/live").json()["timestamp"] == rfc3339(NOW)
