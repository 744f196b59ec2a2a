"""Logs one line a minute with the numbers of messages."""

import asyncio
from typing import Final

import structlog

from ingestd.metrics import Metrics
from ingestd.pipeline.buffer import Buffer

log = structlog.get_logger(__name__)

SUMMARY_SECONDS: Final = 60.0


async def log_summaries(metrics: Metrics, buffer: Buffer) -> None:
    """Until it is cancelled."""
    before = metrics.totals()
    while True:
        await asyncio.sleep(SUMMARY_SECONDS)
        now = metrics.totals()
        since_last = {name: int(now[name] - before[name]) for name in now}
        log.info(
            "minute_summary",
            received=since_last["received"],
            committed=since_last["committed"],
            duplicate=since_last["duplicate"],
            dead_lettered=since_last["dead_lettered"],
            buffered=buffer.messages,
        )
        before = now
