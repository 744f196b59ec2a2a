"""Looks every few seconds whether a quarter can be closed, or is stale."""

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
"""While a backlog comes in, the ledger waits for so long at most."""


async def close_quarters(
    closing: Closing, clocks: Clocks, *, arriving: Callable[[], datetime | None], is_backlog: Callable[[], bool]
) -> None:
    """Until it is cancelled. Every daemon does it, also on standby: they divide the shares among them.

    `arriving`: the timestamp of the readings that come in now. `is_backlog`: whether they are a backlog.
    """
    done_at = time.monotonic()
    while True:
        # Before the first look, so that a backlog that waits in the broker begins to come in.
        await asyncio.sleep(INTERVAL_SECONDS)
        if is_backlog() and time.monotonic() - done_at < LONGEST_DELAY_SECONDS:
            continue
        try:
            if await clocks.agree():
                await closing.catch_up(arriving=arriving())
        except StoreError as error:
            log.warning("ledger_update_failed", reason=str(error))
        done_at = time.monotonic()
