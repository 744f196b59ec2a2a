"""Reads files again while the daemon runs: on SIGHUP, and when `ingestd reload` asks for it in the audit."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from ingestd.errors import ConfigError, StoreError
from ingestd.model.audit import AuditEntry, AuditFilter
from ingestd.process import reload_notified
from ingestd.store.audit import Audit

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 1.0
"""How often a daemon looks whether somebody has asked."""
SIGNAL: Final = "signal"
_ASKED: Final = AuditFilter(action="reload-asked")


class Reloading:
    """What can be read again, by name. A file that cannot be used is logged, and what was read before stays."""

    def __init__(
        self, *, audit: Audit, daemon: str, files: Mapping[str, Callable[[], str]], is_ready: Callable[[], bool]
    ) -> None:
        """Each function reads files, says in words what it has read, and raises ConfigError.

        `is_ready` says whether systemd has been told so.
        """
        self._audit = audit
        self._daemon = daemon
        self._files = files
        self._is_ready = is_ready
        self._hangup = asyncio.Event()

    def on_hangup(self) -> None:
        """SIGHUP has come."""
        self._hangup.set()

    async def run(self) -> None:
        """Run until cancelled. Without the database nobody can ask, and no entry can be made, but SIGHUP works."""
        known = await self._newest()
        while True:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._hangup.wait()
            except TimeoutError:
                asked = await self._newest()
                if known is None or asked is None or asked[0] == known[0]:
                    known = known or asked
                    continue
                known, (_, who) = asked, asked
            else:
                self._hangup.clear()
                who = SIGNAL
            await self._reload(who)

    async def _newest(self) -> tuple[int, str] | None:
        """The newest request: its id, and who asked; id 0 if there is none. None: the database does not answer."""
        try:
            newest = await self._audit.page(_ASKED, limit=1)
        except StoreError as error:
            log.debug("audit_not_read", reason=str(error))
            return None
        return (newest[0].id, newest[0].who) if newest else (0, "")

    async def _reload(self, who: str) -> None:
        with reload_notified(is_ready=self._is_ready()):
            outcome = {name: _read(name, read) for name, read in self._files.items()}
        entry = AuditEntry(who=who, action="reloaded", subject=f"daemon {self._daemon}", after=outcome)
        try:
            await self._audit.add(entry)
        except StoreError as error:
            log.warning("audit_not_written", action=entry.action, reason=str(error))


def _read(name: str, read: Callable[[], str]) -> str:
    try:
        outcome = read()
    except ConfigError as error:
        log.error("file_not_read", what=name, reason=str(error))  # noqa: TRY400 - a traceback tells an operator nothing
        return f"error: {error}"
    log.info("file_read", what=name, found=outcome)
    return outcome
