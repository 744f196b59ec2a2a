"""`ingestd simulate`: a simulated fleet that publishes readings until it is cancelled."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from ingestd.config import Settings
from ingestd.demo.fleet import Fleet
from ingestd.mqtt.publisher import connected


async def simulate(settings: Settings, fleet: Fleet, *, interval: float, report: Callable[[str], None]) -> None:
    """Publish a reading of every device each `interval` seconds until cancelled; raises BrokerError."""
    async with connected(settings, client_id="ingestd-simulate") as publisher:
        last = datetime.now(UTC)
        while True:
            await asyncio.sleep(interval)
            now = datetime.now(UTC)
            published = await publisher.publish(fleet.readings(now, now - last))
            report(f"{now:%H:%M:%S} published {published} readings")
            last = now
