"""Checks that messages arrive in a session that is connected.

A broker may grant a subscription although its access list forbids reading, and a session may be broken although PINGREQ
is answered. So the daemon publishes a small QoS 1 message to itself every 10 s. If the message comes back, publishing,
acknowledgement, routing, subscription and delivery work.
"""

import asyncio
import secrets
from typing import Final, Literal, TypeAlias

import mqtt5
import structlog

from ingestd.errors import BrokerError
from ingestd.mqtt.connection import Connection

log = structlog.get_logger(__name__)

Missing: TypeAlias = Literal["SUBACK", "PUBACK", "the message"]

_REASONS: Final[dict[Missing, str]] = {
    "SUBACK": "the broker does not answer SUBSCRIBE",
    "PUBACK": "the broker does not acknowledge what we publish",
    "the message": "what is published to us does not arrive (access list?)",
}


class Probe:
    """Every session has one. `reason` says why the probe does not come back; None if it does."""

    def __init__(self, *, client_id: str, within: float) -> None:
        """A round trip that takes longer than `within` seconds has failed."""
        self.topic = f"ingestd/probe/{client_id}"
        self.reason: str | None = None
        self.failing_since: float | None = None
        """The event loop's time at which the first of the failed probes was sent; None where the last one came back."""
        self._within = within
        self._subscribed_on: Connection | None = None
        self._refusal: str | None = None
        self._missing: Missing = "SUBACK"
        self._nonce = b""
        self._received = asyncio.Event()

    def receive(self, payload: bytes) -> None:
        """A message came on the topic of the probe."""
        if payload == self._nonce:
            self._received.set()

    def subscribe_again(self) -> None:
        """Subscribe to the topic again before the next probe."""
        self._subscribed_on = None

    def forget(self) -> None:
        """Forget the results of earlier probes."""
        self.reason = None
        self.failing_since = None

    async def send(self, connection: Connection) -> None:
        """Send one probe, and wait until it is back."""
        sent_at = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self._within):
                refusal = await self._round_trip(connection)
        except TimeoutError:
            if self._missing == "the message" and connection.telemetry_at > sent_at:
                self.forget()  # the probe waits in the broker behind a backlog, and telemetry arrives
            elif connection.has_read_since(sent_at):  # else reading was paused, and the answer could not be read
                self._failed(sent_at)
            return
        except BrokerError as error:
            if connection.lost.is_set():
                return
            refusal = str(error)
        if refusal not in {None, self._refusal}:
            log.warning("probe_refused", topic=self.topic, reason=refusal)
        self._refusal = refusal
        self.forget()

    async def _round_trip(self, connection: Connection) -> str | None:
        """Why the broker refuses it; None once the message is back."""
        self._missing = "SUBACK"
        if connection is not self._subscribed_on:
            if refusal := await connection.requests.subscribe_aside(self.topic, max_qos=mqtt5.QoS.AT_LEAST_ONCE):
                return refusal
            self._subscribed_on = connection
        self._missing = "PUBACK"
        self._nonce = secrets.token_bytes(8)
        self._received.clear()
        if refusal := await connection.requests.publish(self.topic, self._nonce):
            return refusal
        self._missing = "the message"
        await self._received.wait()
        return None

    def _failed(self, sent_at: float) -> None:
        self.reason = f"subscribed, but deaf: {_REASONS[self._missing]}"
        self.failing_since = sent_at if self.failing_since is None else self.failing_since
        log.error("probe_failed", topic=self.topic, missing=self._missing)
