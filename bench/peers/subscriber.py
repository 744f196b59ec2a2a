"""The MQTT side of the peers: paho-mqtt with a session that stays, QoS 1 and acknowledgement by hand."""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bench.mqtt import RECEIVE_MAXIMUM, SESSION_EXPIRY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from paho.mqtt.client import MQTTMessage


@contextmanager
def subscribed(
    broker_url: str, client_id: str, on_message: Callable[[Client, Any, MQTTMessage], None]
) -> Iterator[Client]:
    """A client that subscribes as soon as its loop runs. SIGTERM ends the program by way of this context."""
    client = Client(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTv5, manual_ack=True)
    client.on_message = on_message
    client.on_connect = _subscribe
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho has not typed it
    properties.SessionExpiryInterval = SESSION_EXPIRY_SECONDS
    properties.ReceiveMaximum = RECEIVE_MAXIMUM
    address = urlsplit(broker_url)
    client.connect(address.hostname or "127.0.0.1", address.port or 1883, clean_start=False, properties=properties)
    try:
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


def _subscribe(client: Client, *_: object) -> None:
    client.subscribe([("meters/+/telemetry", 1), ("vehicles/+/telemetry", 1)])
