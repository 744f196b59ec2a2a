# ruff: noqa: SIM300 - expected == actual
"""What a real daemon takes from the broker and publishes there is what its AsyncAPI document says."""

from __future__ import annotations

import json
import re
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from jsonschema import Draft7Validator

from tests.support.asyncapi import resolved, schema_of_topic
from tests.support.daemon import Daemon
from tests.support.devices import Device
from tests.support.polling import until
from tests.support.readings import vehicle_message

if TYPE_CHECKING:
    from ingestd.demo.servers import PrivateMosquitto


def newest(broker: PrivateMosquitto) -> dict[str, tuple[str, str, Any]]:
    """The retained alerts: QoS, retain and payload, by topic."""
    command = ["mosquitto_sub", "-p", str(broker.port), "-V", "5", "-q", "2", "-t", "ingestd/alerts/#"]
    wanted = ["--retained-only", "-W", "1", "-F", "%t\t%q\t%r\t%p"]
    shown = subprocess.run([*command, *wanted], capture_output=True, text=True, check=False).stdout
    lines = [line.split("\t") for line in shown.splitlines()]
    return {topic: (qos, retain, json.loads(payload)) for topic, qos, retain, payload in lines}


def test_messages_of_a_real_system_are_as_the_document_says(broker: PrivateMosquitto, database_url: str) -> None:
    with (
        Daemon(
            mqtt_url=broker.url,
            database_url=database_url,
            flush_interval=0.1,
            alert_min_duration="1s",
            alert_battery_temp=55,
        ) as daemon,
        Device(broker.url) as device,
    ):
        daemon.wait_healthy()
        document = daemon.request("GET", "/asyncapi.json").json()
        takes_the_examples(daemon, device, document)
        refuses_what_does_not_fit(daemon, device, document)

        now = datetime.now(UTC)
        device.publish(*vehicle_message("EV-hot", now, temperature=60))
        assert {"active"} == published(broker, document, at_least=2)  # the battery, and the dead letters
        device.publish(*vehicle_message("EV-hot", now + timedelta(seconds=1), temperature=20))
        until(lambda: "cleared" in published(broker, document, at_least=2), within=30)


def takes_the_examples(daemon: Daemon, device: Device, document: dict[str, Any]) -> None:
    """With a time of today; at the addresses of their channels."""
    now = datetime.now(UTC).isoformat()
    sent = 0
    for operation in document["operations"].values():
        if operation["action"] != "receive":
            continue
        channel = resolved(document, operation["channel"]["$ref"])
        for reference in operation["messages"]:
            for example in resolved(document, reference["$ref"])["examples"]:
                payload = example["payload"] | {"timestamp": now}
                (parameter,) = channel["parameters"]
                topic = channel["address"].replace(f"{{{parameter}}}", payload[parameter])
                device.publish(topic, json.dumps(payload).encode())
                sent += 1
    until(lambda: sent == sum(daemon.metric("ingestd_committed_total", stream=name) for name in ("meter", "vehicle")))
    assert 4 == sent


def refuses_what_does_not_fit(daemon: Daemon, device: Device, document: dict[str, Any]) -> None:
    bad: list[dict[str, Any]] = [
        {"voltage": 230},
        {"kwhConsumedAc": 1, "voltage": 1001, "timestamp": "2026-11-20T10:00:00Z"},
    ]
    for payload in bad:
        assert not Draft7Validator(schema_of_topic(document, "meters/bad/telemetry")).is_valid(payload)
        device.publish("meters/bad/telemetry", json.dumps(payload).encode())
    until(
        lambda: len(bad) == daemon.metric("ingestd_dead_lettered_total", stream="meter", source="mqtt", reason="schema")
    )


def published(broker: PrivateMosquitto, document: dict[str, Any], *, at_least: int) -> set[str]:
    """The states of the retained alerts, all of which fit the document."""
    found = until(lambda: len(alerts := newest(broker)) >= at_least and alerts, within=30)
    assert found
    binding = document["operations"]["sendAlert"]["bindings"]["mqtt"]
    for topic, (qos, retain, payload) in found.items():
        assert (str(binding["qos"]), str(int(binding["retain"]))) == (qos, retain)
        Draft7Validator(schema_of_topic(document, topic), format_checker=Draft7Validator.FORMAT_CHECKER).validate(
            payload
        )
        kind, device = re.findall(r"ingestd/alerts/([^/]+)/([^/]+)", topic)[0]
        assert (kind, device) == (payload["kind"], payload["deviceId"] or "fleet")
    return {payload["state"] for _, _, payload in found.values()}


def test_the_document_is_not_sent_again(broker: PrivateMosquitto, database_url: str) -> None:
    with Daemon(mqtt_url=broker.url, database_url=database_url) as daemon:
        daemon.wait_healthy()
        first = daemon.request("GET", "/asyncapi.json")
        again = daemon.request("GET", "/asyncapi.json", headers={"If-None-Match": first.headers["etag"]})

    assert (200, "application/json") == (first.status, first.headers["content-type"].partition(";")[0])
    assert (304, b"") == (again.status, again.body)
