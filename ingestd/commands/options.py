"""What several commands have: options, and a bar that shows progress."""

import sys
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

import click


class Bar(Protocol):
    def update(self, n_steps: int) -> None:
        """So much more is done."""


def progress_bar(*, length: int, label: str) -> AbstractContextManager[Bar]:
    """A bar on standard error, if that is a terminal."""
    return click.progressbar(length=length, label=label, file=sys.stderr, hidden=not sys.stderr.isatty())


def timestamp(_context: click.Context, _parameter: click.Parameter, text: str | None) -> datetime | None:
    try:
        at = datetime.fromisoformat(text) if text is not None else None
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if at is not None and at.tzinfo is None:
        raise click.BadParameter("an offset is missing, such as in 2026-11-20T10:30:00Z")
    return at
