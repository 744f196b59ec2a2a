"""The commands. Errors a user can act on are one line on stderr and a non-zero exit status."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NoReturn, get_args

import click
import structlog

from ingestd import __version__, listing, logs, sources, statements
from ingestd.analytics import DeadLetterFilter
from ingestd.app import serve
from ingestd.config import Settings, load
from ingestd.demo.fleet import Fleet
from ingestd.demo.replay import Recording
from ingestd.demo.simulate import simulate
from ingestd.errors import IngestdError
from ingestd.export import STDOUT, Export
from ingestd.mqtt.publisher import connected
from ingestd.store.database import Reads, connect
from ingestd.store.dead_letters import DeadLetters
from ingestd.store.migrations import migrate
from ingestd.store.partitions import Partitions
from ingestd.store.writer import Writer
from ingestd.telemetry import STREAMS, Reason, Window

log = structlog.get_logger(__name__)

EXIT_UNEXPECTED: Final = 70
"""EX_SOFTWARE of sysexits(3)."""


def main() -> NoReturn:
    """The `ingestd` command."""
    try:
        commands()
    except IngestdError as error:
        _fail(error)
    except Exception as error:
        errors = _leaves(error)
        if all(isinstance(leaf, IngestdError) for leaf in errors):
            _fail(*errors)
        log.critical("ended by an error nobody expected; a supervisor should start it afresh", exc_info=True)
        sys.exit(EXIT_UNEXPECTED)
    sys.exit(0)


def _leaves(error: BaseException) -> list[BaseException]:
    """The errors in a group of groups; an error that is no group is its own only leaf."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for inner in error.exceptions for leaf in _leaves(inner)]


def _fail(*errors: BaseException) -> NoReturn:
    for line in dict.fromkeys(line for error in errors for line in str(error).splitlines()):
        click.echo(f"ingestd: {line}", err=True)
    sys.exit(1)


def _run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run to the end on uvloop where it is installed: about a third less CPU a message."""
    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    if find_spec("uvloop"):  # not on every platform
        import uvloop  # noqa: PLC0415

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A TOML file of settings; the environment wins over it.",
)
@click.version_option(__version__, prog_name="ingestd")
@click.pass_context
def commands(context: click.Context, config: Path | None) -> None:
    """Takes in the telemetry of smart meters and electric vehicles, and never loses a reading it has acknowledged."""
    context.obj = lambda: load(config)


def _settings(context: click.Context) -> Settings:
    settings: Settings = context.obj()
    logs.set_up(level=settings.log_level, style=settings.log_format)
    if ignored := sources.injected(os.environ):
        log.debug("variables that Kubernetes makes from names of services are ignored", variables=ignored)
    return settings


@commands.command()
@click.option("--no-migrate", is_flag=True, help="Leave the database schema as it is.")
@click.pass_context
def run(context: click.Context, *, no_migrate: bool) -> None:
    """Run the daemon until SIGTERM or Ctrl-C."""
    settings = _settings(context)
    _run(lambda: serve(settings, migrate_first=not no_migrate))


@commands.command(name="migrate")
@click.pass_context
def migrate_command(context: click.Context) -> None:
    """Bring the database schema up to date."""
    settings = _settings(context)

    async def apply() -> None:
        applied = await migrate(settings.database_url.get_secret_value())
        click.echo("\n".join(applied) or "nothing to do")

    _run(apply)


@commands.command(name="check-config")
@click.option("--connect", "is_to_connect", is_flag=True, help="Also connect to the database and to the broker.")
@click.pass_context
def check_config(context: click.Context, *, is_to_connect: bool) -> None:
    """Print the effective settings, secrets masked."""
    settings = _settings(context)
    settings.tls()
    for name, value in settings.described().items():
        click.echo(f"{name}={value}")
    if is_to_connect:
        _run(lambda: _connect(settings))


async def _connect(settings: Settings) -> None:
    async with await connect(settings.database_url.get_secret_value(), application_name="ingestd-check"):
        click.echo("the database can be used")
    # Under another client id: the session of a daemon that is at work stays its own.
    async with connected(settings, client_id=f"{settings.mqtt_client_id}-check"):
        click.echo("the broker takes our account")


@commands.command(name="simulate")
@click.option("--meters", type=click.IntRange(0), default=10, show_default=True)
@click.option("--vehicles", type=click.IntRange(0), default=10, show_default=True)
@click.option(
    "--interval", type=click.FloatRange(0.1), default=5.0, show_default=True, help="Seconds between readings."
)
@click.pass_context
def simulate_command(context: click.Context, *, meters: int, vehicles: int, interval: float) -> None:
    """Publish the readings of a simulated fleet to the broker until Ctrl-C."""
    settings = _settings(context)
    fleet = Fleet(meters=meters, vehicles=vehicles)
    with suppress(KeyboardInterrupt):  # the way it is meant to end
        _run(lambda: simulate(settings, fleet, interval=interval, report=click.echo))


@commands.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--shift-to-now", is_flag=True, help="Shift all timestamps so that the newest is of now.")
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), help="Messages a second; as fast as possible if left out."
)
@click.pass_context
def replay(context: click.Context, *, file: Path, shift_to_now: bool, rate: float | None) -> None:
    """Publish recorded messages: lines of {"topic": ..., "payload": {...}}."""
    settings = _settings(context)
    recording = Recording(file)

    async def play() -> None:
        messages = recording.play(shift_to_now=shift_to_now)
        async with connected(settings, client_id="ingestd-replay") as publisher:
            with click.progressbar(length=recording.messages, label=f"Replaying {file.name}") as bar:
                published = await publisher.publish(messages, rate=rate, progress=bar.update)
        click.echo(f"{published} messages published and acknowledged by the broker")

    _run(play)


@commands.command()
@click.option("--port", type=click.IntRange(0, 65_535), default=8080, show_default=True, help="0: any free one.")
def demo(*, port: int) -> None:
    """Show the whole system: private database and broker, a simulated fleet, and the address to open."""
    logs.set_up(level="warning", style=None)
    # Here, because what it needs comes with the extra `demo` only.
    from ingestd.demo.demo import private_servers, show  # noqa: PLC0415

    with private_servers(http_port=port) as settings:
        _run(lambda: show(settings))


@commands.group(name="dead-letters")
def dead_letters() -> None:
    """Look at what could not become a reading."""


def _moment(_context: click.Context, _parameter: click.Parameter, text: str | None) -> datetime | None:
    try:
        at = datetime.fromisoformat(text) if text is not None else None
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if at is not None and at.tzinfo is None:
        raise click.BadParameter("an offset is missing, such as in 2026-11-20T10:30:00Z")
    return at


def _filters(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say which dead letters are meant."""
    for option in (
        click.option("--until", callback=_moment, help="Only those received before this time."),
        click.option("--since", callback=_moment, help="Only those received from this time on."),
        click.option("--device", help="Only those of this device (the id in the topic)."),
        click.option("--reason", type=click.Choice(get_args(Reason)), help="Only those with this reason."),
    ):
        command = option(command)
    return command


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[DeadLetters]:
    reads = Reads(settings.database_url.get_secret_value())
    try:
        await reads.open()
        yield DeadLetters(reads)
    finally:
        await reads.close()


@dead_letters.command(name="list")
@_filters
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.pass_context
def list_dead_letters(context: click.Context, /, *, limit: int, **filters: Any) -> None:  # noqa: ANN401 - click's
    """The newest, one a line: id, time, source, reason, topic, detail."""
    settings = _settings(context)

    async def show() -> None:
        async with _opened(settings) as letters:
            for letter in await letters.page(DeadLetterFilter(**filters), limit=limit):
                at = f"{letter.received_at:%FT%TZ}"
                fields = (letter.id, at, letter.source, letter.reason, letter.topic, letter.detail)
                click.echo("\t".join(" ".join(str(field).split()) for field in fields))

    _run(show)


@dead_letters.command(name="show")
@click.argument("letter_id", metavar="ID", type=int)
@click.pass_context
def show_dead_letter(context: click.Context, *, letter_id: int) -> None:
    """Everything about one, its payload last."""
    settings = _settings(context)

    async def show() -> None:
        async with _opened(settings) as letters:
            letter = await letters.get(letter_id)
        if letter is None:
            raise IngestdError(f"there is no dead letter {letter_id}")
        for name, value in letter._asdict().items():
            if name != "payload":
                click.echo(f"{name}: {value}")
        click.echo(f"payload: {letter.payload.decode(errors='backslashreplace')}")

    _run(show)


@dead_letters.command(name="replay")
@_filters
@click.pass_context
def replay_dead_letters(context: click.Context, /, **filters: Any) -> None:  # noqa: ANN401 - click's
    """Send them through decode again; what is a reading now is stored and is a dead letter no more."""
    settings = _settings(context)

    async def replay_all() -> None:
        writer = Writer(settings.database_url.get_secret_value())
        try:
            async with _opened(settings) as letters:
                window = Window(max_age=settings.max_age, max_skew=settings.max_skew)
                done = await letters.replay(DeadLetterFilter(**filters), writer=writer, window=window)
        finally:
            await writer.close()
        click.echo(f"{done.stored} stored, {done.duplicates} were there already, {done.still_bad} still bad")

    _run(replay_all)


@dead_letters.command(name="purge")
@_filters
@click.confirmation_option(prompt="Delete these dead letters for good?")
@click.pass_context
def purge_dead_letters(context: click.Context, /, **filters: Any) -> None:  # noqa: ANN401 - click's
    """Delete them for good."""
    settings = _settings(context)

    async def purge() -> None:
        async with _opened(settings) as letters:
            click.echo(f"{await letters.purge(DeadLetterFilter(**filters))} deleted")

    _run(purge)


@commands.command(name="partitions")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.pass_context
def list_partitions(context: click.Context, *, as_json: bool) -> None:
    """List the days of history with their sizes, and what they come to."""
    settings = _settings(context)

    async def show() -> None:
        days = await Partitions(settings.database_url.get_secret_value()).days()
        click.echo(json.dumps(listing.as_json(days)) if as_json else listing.as_text(days))

    _run(show)


@commands.command(name="export")
@click.argument("what", type=click.Choice([stream.topic_root for stream in STREAMS]))
@click.option("--start", callback=_moment, help="From this time on; a day before the end if left out.")
@click.option("--end", callback=_moment, help="Up to but not including this time; now if left out.")
@click.option("--id", "device_id", help="Only this device, in order of time.")
@click.option("--output", type=click.Path(path_type=Path), default="-", show_default=True, help="-: standard output.")
@click.option("--format", "file_format", type=click.Choice(["csv", "parquet"]), default="csv", show_default=True)
@click.pass_context
def export_command(context: click.Context, /, *, output: Path, file_format: str, **wanted: Any) -> None:  # noqa: ANN401 - click's
    """Write the history of meters or vehicles to a file, straight from the database."""
    settings = _settings(context)
    export = Export(**wanted)
    hidden = not sys.stderr.isatty() or (output == STDOUT and sys.stdout.isatty())
    bar = click.progressbar(length=export.seconds, label=f"Exporting {wanted['what']}", file=sys.stderr, hidden=hidden)
    with export.file(output, file_format) as take, bar:
        _run(lambda: export.run(settings.database_url.get_secret_value(), take=take, progress=bar.update))
    if output != STDOUT:
        click.echo(f"{export.readings} readings written to {output}")


@commands.command(name="sql")
@click.argument("name", required=False)
def sql_command(name: str | None) -> None:
    """Print a statement whole, to be read or pasted into psql; without NAME, list them all."""
    if name is None:
        click.echo(statements.as_text())
    elif statement := statements.find(name):
        click.echo(statement.script)
    else:
        raise click.BadParameter(statements.no_such(name), param_hint="NAME")


@commands.command()
def version() -> None:
    """Print the version."""
    click.echo(__version__)
