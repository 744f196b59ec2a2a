"""Compares our clock with the database's. While they differ, nothing is deleted: either may be wrong."""

from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from ingestd.model.observations import CLOCK_DIFFERENCE
from ingestd.store.pool import Pool
from ingestd.store.queries import Statement

log = structlog.get_logger(__name__)

_NOW: Final = Statement(text=b"SELECT clock_timestamp() AS now", parameters=())


class Clocks:
    """How far our clock is ahead of the database's. Each call of `agree` measures it."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.difference: timedelta | None = None
        """As measured last; None before the first time."""
        self._agreed = True

    async def agree(self) -> bool:
        """Whether they differ by 5 minutes at most; a change is logged. Raises StoreError."""
        difference = await self._look()
        agree = abs(difference) <= CLOCK_DIFFERENCE
        if agree is not self._agreed:
            ahead_seconds = round(difference.total_seconds(), 1)
            if agree:
                log.info("clocks_agree", ahead_seconds=ahead_seconds)
            else:
                log.warning("clocks_differ", ahead_seconds=ahead_seconds)
        self._agreed = agree
        return agree

    async def _look(self) -> timedelta:
        """Ask the database for its time, and compare it with the middle of the round trip. Raises StoreError."""
        begin = datetime.now(UTC)
        (row,) = await self._pool.fetch(_NOW, {})
        self.difference = begin + (datetime.now(UTC) - begin) / 2 - row.now
        return self.difference
