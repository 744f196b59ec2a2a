"""`ingestd dead-letters`: look at what could not become a reading."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, get_args

import click

from ingestd.commands.invocation import run_to_end, settings_of, who
from ingestd.commands.options import progress_bar, timestamp
from ingestd.config import Settings
from ingestd.errors import IngestdError
from ingestd.model.dead_letter import DeadLetterFilter, Reason
from ingestd.model.decode import Window
from ingestd.printable import printable
from ingestd.store.dead_letters import DeadLetters
from ingestd.store.letter_replay import LetterReplay
from ingestd.store.pool import Pool

_LINES: Final = "\n\t"
"""JSON may have them between its parts; the payload is shown last, so that no line of it looks like another field."""
_COLUMNS: Final = ("id", "received", "source", "reason", "topic", "detail")


@click.group(name="dead-letters")
def dead_letters() -> None:
    """Look at what could not become a reading."""


def _filters(command: Callable[..., None]) -> Callable[..., None]:
    """The options that select dead letters."""
    for option in (
        click.option("--until", callback=timestamp, help="Only those received before this time."),
        click.option("--since", callback=timestamp, help="Only those received from this time on."),
        click.option("--device", help="Only those of this device (the id in the topic)."),
        click.option("--reason", type=click.Choice(get_args(Reason)), help="Only those with this reason."),
    ):
        command = option(command)
    return command


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[DeadLetters]:
    async with Pool(settings.database_url.get_secret_value()) as pool:
        yield DeadLetters(pool)


@dead_letters.command(name="list", short_help="List the newest, one a line.")
@_filters
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.pass_context
def list_dead_letters(context: click.Context, /, *, limit: int, **filters: Any) -> None:  # noqa: ANN401 - click's
    """The newest, one a line. The first line names the columns; without a dead letter there is none."""
    settings = settings_of(context)

    async def show() -> None:
        async with _opened(settings) as letters:
            found = await letters.page(DeadLetterFilter(**filters), limit=limit)
            if found:
                click.echo("\t".join(_COLUMNS))
            for letter in found:
                at = f"{letter.received_at:%FT%TZ}"
                fields = (letter.id, at, letter.source, letter.reason, letter.topic, letter.detail)
                click.echo("\t".join(printable(" ".join(str(field).split())) for field in fields))

    run_to_end(show)


@dead_letters.command(name="show")
@click.argument("letter_id", metavar="ID", type=int)
@click.pass_context
def show_dead_letter(context: click.Context, *, letter_id: int) -> None:
    """Show one completely, its payload last."""
    settings = settings_of(context)

    async def show() -> None:
        async with _opened(settings) as letters:
            letter = await letters.get(letter_id)
        if letter is None:
            raise IngestdError(f"there is no dead letter {letter_id}")
        for name, value in letter._asdict().items():
            if name != "payload":
                click.echo(f"{name}: {printable(str(value))}")
        payload = letter.payload.decode(errors="backslashreplace")
        click.echo(f"payload: {printable(payload, but=_LINES)}")

    run_to_end(show)


@dead_letters.command(name="replay")
@_filters
@click.pass_context
def replay_dead_letters(context: click.Context, /, **filters: Any) -> None:  # noqa: ANN401 - click's
    """Decode them again. What is a valid reading now is stored, and its dead letter is deleted.

    \b
    ingestd dead-letters replay --reason timestamp-out-of-range --since 2026-11-20T00:00Z
    """
    settings = settings_of(context)

    async def replay_all() -> None:
        wanted = DeadLetterFilter(**filters)
        dsn = settings.database_url.get_secret_value()
        async with Pool(dsn) as pool:
            replay = LetterReplay(
                pool,
                dsn=dsn,
                window=Window(max_age=settings.max_age, max_skew=settings.max_skew),
                max_devices=settings.max_devices,
            )
            length = await DeadLetters(pool).count(wanted)
            with progress_bar(length=length, label="Replaying dead letters") as bar:
                done = await replay.all(wanted, who=who("dead-letters replay"), progress=bar.update)
        click.echo(f"{done.stored} stored, {done.duplicates} were there already, {done.refused} still bad")

    run_to_end(replay_all)


@dead_letters.command(name="purge")
@_filters
@click.confirmation_option(prompt="Delete these dead letters for good?")
@click.pass_context
def purge_dead_letters(context: click.Context, /, **filters: Any) -> None:  # noqa: ANN401 - click's
    """Delete them for good."""
    settings = settings_of(context)

    async def purge() -> None:
        async with _opened(settings) as letters:
            click.echo(f"{await letters.purge(DeadLetterFilter(**filters), who=who('dead-letters purge'))} deleted")

    run_to_end(purge)
