"""CONNECT and SUBSCRIBE: what we request, what the broker grants, and whether that is enough."""

from typing import Final

import mqtt5
import structlog

from ingestd.errors import BrokerError, BrokerRefusedError
from ingestd.mqtt.address import BrokerAddress
from ingestd.mqtt.connection import RECEIVE_MAXIMUM, Connection

log = structlog.get_logger(__name__)

SESSION_EXPIRY_SECONDS: Final = 7 * 86_400
KEEP_ALIVE_SECONDS: Final = 30
MAX_PACKET_BYTES: Final = 128 * 1024
"""The Maximum Packet Size of our CONNECT: 16 times what a device may send. The broker discards a larger message, and
behaves as if it had sent it (§3.1.2.11.4)."""


async def greet(connection: Connection, address: BrokerAddress, *, client_id: str) -> mqtt5.ConnAckPacket:
    """CONNECT, and what the broker grants. Raises BrokerError, BrokerRefusedError."""
    connect = mqtt5.ConnectPacket(
        client_id,
        username=address.username,
        password=address.password.encode() if address.password is not None else None,
        clean_start=False,
        keep_alive=KEEP_ALIVE_SECONDS,
        session_expiry_interval=SESSION_EXPIRY_SECONDS,
        receive_max=RECEIVE_MAXIMUM,
        max_packet_size=MAX_PACKET_BYTES,
    )
    try:
        return await connection.connect(connect)
    except BrokerRefusedError:
        raise
    except BrokerError as error:
        hint = _hint(address) if connection.silent and connection.lost.is_set() else ""
        raise BrokerError(f"{error}{hint}") from error


async def subscribe(connection: Connection, address: BrokerAddress, granted: mqtt5.ConnAckPacket) -> None:
    """Check what CONNACK grants, and SUBSCRIBE. Raises BrokerError, BrokerRefusedError."""
    _insist(granted, address)
    _note(granted)
    await connection.requests.subscribe(address.filters)


def _hint(address: BrokerAddress) -> str:
    """What may be the reason for a connection that ends without any packet."""
    other = "does it want a certificate of ours (INGESTD_MQTT_CERT_FILE)" if address.is_tls else "or TLS (mqtts://)"
    return f" at CONNECT: does it speak MQTT 5, {other}?"


def _insist(granted: mqtt5.ConnAckPacket, address: BrokerAddress) -> None:
    """Raises BrokerRefusedError where something is missing that ingestd cannot work without."""
    if granted.max_qos is mqtt5.QoS.AT_MOST_ONCE:
        raise BrokerRefusedError("the broker has no QoS 1, without which readings would be lost")
    if not granted.wildcard_subscription_available:
        raise BrokerRefusedError(f"the broker has no wildcard subscriptions, such as {address.filters[0]}")
    if address.shared_group is not None and not granted.shared_subscription_available:
        raise BrokerRefusedError("the broker has no shared subscriptions: unset INGESTD_MQTT_SHARED_GROUP")


def _note(granted: mqtt5.ConnAckPacket) -> None:
    """Logs what the operator may want to know."""
    expiry = granted.session_expiry_interval
    if expiry is not None and expiry < SESSION_EXPIRY_SECONDS:
        log.warning("session_expiry_shortened", asked_seconds=SESSION_EXPIRY_SECONDS, granted_seconds=expiry)
    if not granted.retain_available:
        log.warning("retain_not_available")
    if granted.assigned_client_id is not None:
        log.warning("client_id_assigned", client_id=granted.assigned_client_id)
