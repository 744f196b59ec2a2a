"""Feeds the watchdog of systemd while the event loop runs and flushes make steps."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

log = structlog.get_logger(__name__)

FED_IN_TIME: Final = 4
"""How often it is fed in the time that systemd waits."""


async def feed_watchdog(*, seconds: float | None, stuck: Callable[[], str | None], feed: Callable[[], None]) -> None:
    """Until it is cancelled. `seconds`: how long systemd waits; None: there is no watchdog.

    `stuck` says why nothing moves any more. If it does, nothing is fed, and systemd ends the process. If the event loop
    does not run, neither does this.
    """
    if seconds is None:
        return
    before: str | None = None
    while True:
        reason = stuck()
        if reason is None:
            feed()
        elif before is None:
            log.error("watchdog_not_fed", reason=reason)
        before = reason
        await asyncio.sleep(seconds / FED_IN_TIME)
