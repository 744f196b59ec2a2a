"""Every hour: makes partitions ahead of time, and deletes data that is past its retention."""

import asyncio
from typing import Final

import structlog

from ingestd.errors import StoreError
from ingestd.store.partitions import Partitions
from ingestd.store.retention import Retention

log = structlog.get_logger(__name__)

INTERVAL_SECONDS: Final = 3600.0
RETRY_SECONDS: Final = 60.0


async def run_housekeeping(partitions: Partitions, retention: Retention) -> None:
    """Run until cancelled."""
    while True:
        pause = INTERVAL_SECONDS
        for task in (partitions.make_ahead, retention.apply):
            try:
                await task()
            except StoreError as error:
                pause = RETRY_SECONDS
                log.warning("housekeeping_failed", reason=str(error))
        await asyncio.sleep(pause)
