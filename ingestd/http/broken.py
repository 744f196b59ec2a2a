"""Requests that are not HTTP, or that break off. A client can send thousands, so only a few are logged."""

import time
from typing import Final

import structlog
from aiohttp import web

log = structlog.get_logger(__name__)

LOG_SECONDS: Final = 60.0


class BrokenRequests:
    """Counts them, and logs at most one line in `log_seconds`."""

    def __init__(self, *, log_seconds: float = LOG_SECONDS) -> None:
        self._log_seconds = log_seconds
        self._since_last_line = 0
        self._next_line_at = 0.0

    def note(self, reason: str, *, remote: str | None) -> None:
        """Count one; `remote` is the address of the client."""
        self._since_last_line += 1
        now = time.monotonic()
        if now < self._next_line_at:
            return
        log.warning("requests_broken", requests=self._since_last_line, last_reason=reason, last_remote=remote)
        self._since_last_line = 0
        self._next_line_at = now + self._log_seconds


BROKEN: Final = web.AppKey("broken", BrokenRequests)
