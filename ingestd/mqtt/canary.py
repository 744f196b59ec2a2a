"""Tells a session that hears from one that only looks connected.

A broker grants a subscription also where its access list forbids reading, and a session can be broken in ways
no ping shows. So the daemon sends itself a small QoS 1 message through the broker, again and again: what comes
back proves publish, routing, subscription and delivery.
"""

import asyncio
import secrets
from typing import Final

import structlog

from ingestd.mqtt.connection import Connection

log = structlog.get_logger(__name__)

INTERVAL_SECONDS: Final = 10.0
PATIENCE_SECONDS: Final = 8.0
"""A canary that has not come back by then is lost; Mosquitto on a busy machine takes milliseconds."""


class Canary:
    """One for each session; `trouble` feeds readiness."""

    def __init__(self, *, client_id: str) -> None:
        self.topic = f"ingestd/canary/{client_id}"
        self.trouble: str | None = None
        self._song = b""
        self._heard = asyncio.Event()

    def hear(self, payload: bytes) -> None:
        """A message came in on our topic."""
        if payload == self._song:
            self._heard.set()

    async def sing(self, connection: Connection) -> None:
        """Send one every few seconds for as long as the connection lasts."""
        while True:
            if connection.reading:
                await self._sing_once(connection)
            await asyncio.sleep(INTERVAL_SECONDS)

    async def _sing_once(self, connection: Connection) -> None:
        self._song = secrets.token_bytes(8)
        self._heard.clear()
        refusal = await connection.publish(self.topic, self._song)
        if refusal is not None:
            log.warning("cannot check that telemetry arrives: publishing is refused", topic=self.topic, reason=refusal)
            self.trouble = None
            return
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._heard.wait()
        except TimeoutError:
            # Reading may have been stopped meanwhile; then silence says nothing.
            if connection.reading:
                self.trouble = "subscribed, but deaf: what is published to us does not arrive (access list?)"
                log.error("the broker does not deliver", topic=self.topic)  # noqa: TRY400
        else:
            self.trouble = None
