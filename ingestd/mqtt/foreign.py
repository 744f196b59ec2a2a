"""Recognizes a server that is not an MQTT 5 broker by its first bytes."""

from typing import Final

_OTHERS: Final = {
    b"\x15\x03": "no MQTT 5 broker: it speaks TLS on this port: INGESTD_MQTT_URL must begin with mqtts://",
    b"\x20\x02": "no MQTT 5 broker: it speaks MQTT 3.1.1 only, and ingestd needs MQTT 5",
}
"""A TLS alert; a CONNACK without properties (MQTT 3.1.1 §3.2), which MQTT 5 does not know."""


def explain(received: bytes) -> str | None:
    """What server this is, by the first bytes that it sent; None if unknown."""
    return next((reason for start, reason in _OTHERS.items() if received.startswith(start)), None)
