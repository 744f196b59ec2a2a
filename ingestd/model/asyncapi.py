"""The AsyncAPI 3.0 document of the topics: what devices publish, and the alerts that ingestd publishes.

It is made from what the code works with: the declarations of the streams, the kinds of alerts, the reasons of dead
letters. It names no broker and no account, as everybody may read it.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pydantic_core import to_jsonable_python

from ingestd import __version__
from ingestd.model import alert
from ingestd.model.dead_letter import MAX_PAYLOAD_BYTES, Reason
from ingestd.model.message_schema import DIALECT, message_schema
from ingestd.model.stream import IDENTITY_RULE, STREAMS, TIMESTAMP_RULE, Stream

VERSION: Final = "3.0.0"
REASONS: Final[Mapping[Reason, str]] = {
    "not-json": "the payload is not JSON",
    "schema": "a field is missing, has the wrong type or is out of bounds; or the MQTT packet itself is malformed",
    "identity-mismatch": "the payload names another device than the topic",
    "bad-topic": "the identity in the topic is not allowed",
    "timestamp-out-of-range": "the timestamp is too old, or too far in the future",
    "too-large": f"the payload has more than {MAX_PAYLOAD_BYTES} bytes",
    "unknown-device": "the device has never reported, or was forgotten, and there are as many devices as"
    " INGESTD_MAX_DEVICES allows",
    "database": "the database refuses this row, but accepts others",
}
"""Why a message becomes a dead letter."""

_MQTT_BINDING: Final = "0.2.0"
_JSON: Final = "application/json"
_ABOUT: Final = f"""\
Devices publish their readings, and ingestd publishes alerts.

A reading is one JSON object: UTF-8, at most {MAX_PAYLOAD_BYTES} bytes. Its device is that of the topic.
Its timestamp is
{TIMESTAMP_RULE}.
It must not be older than INGESTD_MAX_AGE (90 days, unless it is set), nor more than INGESTD_MAX_SKEW (5 minutes) in the
future. A second message with the same device and timestamp is a duplicate, and the first one stays.

ingestd acknowledges a message of QoS 1 or 2 after it is committed to the database. A message that cannot become a
reading is kept as a dead letter, and acknowledged as well. The reasons are:

"""
_EXAMPLE: Final = alert.Alert(
    id=7,
    kind=alert.BATTERY,
    subject="EV-101",
    state="active",
    since=datetime(2026, 11, 20, 10, 20, tzinfo=UTC),
    raised_at=datetime(2026, 11, 20, 10, 25, tzinfo=UTC),
    value=61.5,
    bound=60.0,
    detail="battery at 61.5 °C, limit 60 °C",
)


def document() -> dict[str, Any]:
    """The whole document, as JSON has it."""
    return {
        "asyncapi": VERSION,
        "info": {
            "title": "ingestd",
            "version": __version__,
            "description": _ABOUT + "".join(f"- `{reason}`: {meaning}\n" for reason, meaning in REASONS.items()),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": _JSON,
        "servers": _SERVERS,
        "channels": {**{_channel_name(stream): _channel(stream) for stream in STREAMS}, "alerts": _alert_channel()},
        "operations": {
            **{f"receive{_capital(_channel_name(stream))}": _receive(stream) for stream in STREAMS},
            "sendAlert": _send_alert(),
        },
        "components": {
            "messages": {**{stream.name: _message(stream) for stream in STREAMS}, "alert": _alert_message()},
            "schemas": {**{stream.name: _payload(stream) for stream in STREAMS}, "alert": alert.message_schema()},
            "securitySchemes": _SECURITY,
        },
    }


_SECURITY: Final[dict[str, Any]] = {
    "password": {
        "type": "userPassword",
        "description": "An account of the broker for each device: `ingestd broker add-device ID`.",
    },
    "certificate": {
        "type": "X509",
        "description": "A certificate for each device: `ingestd broker add-device ID --certificate`.",
    },
}
_BROKER: Final = {"broker": {"default": "localhost", "description": "the host of the broker"}}
_SERVERS: Final[dict[str, Any]] = {
    "password": {
        "host": "{broker}:8883",
        "protocol": "mqtts",
        "description": "The listener that `ingestd broker init` sets up for devices with a password.",
        "variables": _BROKER,
        "security": [{"$ref": "#/components/securitySchemes/password"}],
    },
    "certificate": {
        "host": "{broker}:8884",
        "protocol": "mqtts",
        "description": "The listener that `ingestd broker init` sets up for devices with a certificate.",
        "variables": _BROKER,
        "security": [{"$ref": "#/components/securitySchemes/certificate"}],
    },
    "loopback": {
        "host": "127.0.0.1:1883",
        "protocol": "mqtt",
        "description": "The broker on the same machine, without TLS.",
    },
}


def _channel_name(stream: Stream) -> str:
    return f"{stream.name}Telemetry"


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]


def _channel(stream: Stream) -> dict[str, Any]:
    return {
        "address": stream.topic(f"{{{stream.id_key}}}"),
        "title": f"Readings of a {stream.name}",
        "parameters": {stream.id_key: {"description": f"the device: {IDENTITY_RULE}"}},
        "messages": {stream.name: {"$ref": f"#/components/messages/{stream.name}"}},
    }


def _receive(stream: Stream) -> dict[str, Any]:
    name = _channel_name(stream)
    return {
        "action": "receive",
        "summary": f"ingestd takes in the readings of each {stream.name}.",
        "description": "QoS 0 is taken too, but such a message can get lost before it reaches the broker.",
        "channel": {"$ref": f"#/channels/{name}"},
        "messages": [{"$ref": f"#/channels/{name}/messages/{stream.name}"}],
        "bindings": {"mqtt": {"qos": 1, "bindingVersion": _MQTT_BINDING}},
    }


def _message(stream: Stream) -> dict[str, Any]:
    examples = message_schema(stream).get("examples", [])
    return {
        "name": stream.name,
        "title": f"A reading of a {stream.name}",
        "contentType": _JSON,
        "payload": {"$ref": f"#/components/schemas/{stream.name}"},
        **({"examples": [{"payload": example} for example in examples]} if examples else {}),
    }


def _payload(stream: Stream) -> dict[str, Any]:
    """As AsyncAPI has schemas: it has a dialect of its own, which takes every keyword that ours have."""
    schema = message_schema(stream)
    assert schema.pop("$schema") == DIALECT  # noqa: S101
    return schema


def _alert_channel() -> dict[str, Any]:
    return {
        "address": f"{alert.TOPIC_ROOT}/{{kind}}/{{device}}",
        "title": "Alerts",
        "parameters": {
            "kind": {"enum": list(alert.KINDS), "description": "the kind of the alert"},
            "device": {"description": f"the device; `{alert.FLEET}` where the alert is about no single device"},
        },
        "messages": {"alert": {"$ref": "#/components/messages/alert"}},
    }


def _send_alert() -> dict[str, Any]:
    return {
        "action": "send",
        "summary": "ingestd publishes each alert when it is raised and when it is cleared.",
        "description": "Retained, so that whoever subscribes gets the alerts that are active. The message of a cleared"
        f" alert expires after {int(alert.CLEARED_KEPT.total_seconds())} s. A message may come more than once.",
        "channel": {"$ref": "#/channels/alerts"},
        "messages": [{"$ref": "#/channels/alerts/messages/alert"}],
        "bindings": {"mqtt": {"qos": 1, "retain": True, "bindingVersion": _MQTT_BINDING}},
    }


def _alert_message() -> dict[str, Any]:
    return {
        "name": "alert",
        "title": "An alert",
        "contentType": _JSON,
        "payload": {"$ref": "#/components/schemas/alert"},
        "examples": [{"payload": to_jsonable_python(_EXAMPLE.described())}],
    }
