"""Tells the limits of dead letters what is in the table: at the start, and every few minutes."""

import asyncio
from typing import Final

import structlog

from ingestd.errors import StoreError
from ingestd.pipeline.letter_limits import LetterLimits
from ingestd.store.dead_letters import DeadLetters

log = structlog.get_logger(__name__)

INTERVAL_SECONDS: Final = 300.0


async def measure_letters(letters: DeadLetters, limits: LetterLimits) -> None:
    """Until it is cancelled. Letters that are purged make room for others at the next measurement."""
    is_restored = False
    while True:
        try:
            if not is_restored:
                limits.restore(await letters.of_last_hour())
                is_restored = True
            added_before = limits.added_bytes
            limits.measured(await letters.size(), added_before=added_before)
        except StoreError as error:
            log.warning("dead_letters_not_measured", reason=str(error))
        await asyncio.sleep(INTERVAL_SECONDS)
