"""Options that several commands take."""

from datetime import datetime

import click


def timestamp(_context: click.Context, _parameter: click.Parameter, text: str | None) -> datetime | None:
    try:
        at = datetime.fromisoformat(text) if text is not None else None
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if at is not None and at.tzinfo is None:
        raise click.BadParameter("an offset is missing, such as in 2026-11-20T10:30:00Z")
    return at
