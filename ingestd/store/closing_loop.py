"""Closes quarters and makes stale ones anew, every few seconds."""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

import structlog

from ingestd.errors import StoreError
from ingestd.store.clocks import Clocks
from ingestd.store.closing import Closing

log = structlog.get_logger(__name__)

INTERVAL_SECONDS: Final = 5.0
LONGEST_DELAY_SECONDS: Final = 120.0
"""While a backlog arrives, the ledger waits at most this long."""


async def close_quarters(
    closing: Closing, clocks: Clocks, *, arriving: Callable[[], datetime | None], is_backlog: Callable[[], bool]
) -> None:
    """Run until cancelled. Every daemon runs it, also a standby: each share is made by one of them at a time.

    `arriving`: the timestamp of the readings that arrive now. `is_backlog`: whether they are a backlog.
    """
    done_at = time.monotonic()
    while True:
        # Wait before the first look, so that a backlog in the broker has begun to arrive.
        await asyncio.sleep(INTERVAL_SECONDS)
        if is_backlog() and time.monotonic() - done_at < LONGEST_DELAY_SECONDS:
            continue
        try:
            if await clocks.agree():
                await closing.catch_up(arriving=arriving())
        except StoreError as error:
            log.warning("ledger_update_failed", reason=str(error))
        done_at = time.monotonic()
