"""`ingestd reload`."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import click

from ingestd.commands.invocation import run_to_end, settings_of, who
from ingestd.config import Settings
from ingestd.errors import IngestdError
from ingestd.model.audit import AuditEntry, AuditFilter
from ingestd.printable import printable
from ingestd.store.audit import Audit
from ingestd.store.pool import Pool

WAIT_SECONDS: Final = 5.0
"""A daemon that runs has answered by then."""
OTHERS_SECONDS: Final = 2.0
"""After the first answer, those of other daemons come within this time."""
LOOK_SECONDS: Final = 0.2


@click.command(short_help="Have daemons read tokens and certificates.")
@click.pass_context
def reload(context: click.Context) -> None:
    """Have the daemons of this database read tokens and certificates again."""
    settings = settings_of(context)
    run_to_end(lambda: _reload(settings))


async def _reload(settings: Settings) -> None:
    failed = False
    async with Pool(settings.database_url.get_secret_value(), application_name="ingestd-reload") as pool:
        audit = Audit(pool)
        await audit.add(AuditEntry(who=who("reload"), action="reload-asked", subject="all daemons"))
        async with aclosing(_answers(audit)) as answers:
            async for answer in answers:
                outcome = ", ".join(f"{name}: {found}" for name, found in answer.after.items())
                click.echo(printable(f"{answer.subject}: {outcome or 'nothing to read again'}"))
                failed |= "error: " in outcome
    if failed:
        raise IngestdError("what could not be read stays as it was")


async def _answers(audit: Audit) -> AsyncGenerator[Any]:
    """What the daemons have read, as rows of the audit. Raises IngestdError if none answers."""
    (asked,) = await audit.page(AuditFilter(action="reload-asked"), limit=1)
    seen = asked.id
    until = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < until:
        await asyncio.sleep(LOOK_SECONDS)
        new = [row for row in await audit.page(AuditFilter(action="reloaded"), limit=100) if row.id > seen]
        for row in reversed(new):
            yield row
        if new and seen == asked.id:
            until = time.monotonic() + OTHERS_SECONDS
        seen = max([seen, *(row.id for row in new)])
    if seen == asked.id:
        raise IngestdError(f"no daemon of this database has answered within {WAIT_SECONDS:g} s")
