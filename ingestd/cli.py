"""The commands. Errors a user can act on are one line on stderr and a non-zero exit status."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn, get_args

import click

from ingestd import __version__, logs
from ingestd.app import serve
from ingestd.config import Settings, load
from ingestd.demo.fleet import Fleet
from ingestd.demo.publish import connected
from ingestd.demo.replay import Recording
from ingestd.errors import IngestdError
from ingestd.store.dead_letters import list_dead_letters
from ingestd.store.migrations import migrate
from ingestd.telemetry import Reason


def main() -> NoReturn:
    """The `ingestd` command."""
    try:
        commands()
    except IngestdError as error:
        _fail(error)
    except BaseExceptionGroup as group:
        expected, rest = group.split(IngestdError)
        if rest is not None or expected is None:
            raise
        _fail(*_leaves(expected))
    sys.exit(0)


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    return [
        leaf
        for error in group.exceptions
        for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]


def _fail(*errors: BaseException) -> NoReturn:
    for error in errors:
        for line in str(error).splitlines():
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
@click.pass_context
def check_config(context: click.Context) -> None:
    """Print the effective settings, secrets masked."""
    settings = _settings(context)
    settings.tls()
    for name, value in settings.described().items():
        click.echo(f"{name}={value}")


@commands.command()
@click.option("--meters", type=click.IntRange(0), default=10, show_default=True)
@click.option("--vehicles", type=click.IntRange(0), default=10, show_default=True)
@click.option(
    "--interval", type=click.FloatRange(0.1), default=5.0, show_default=True, help="Seconds between readings."
)
@click.pass_context
def simulate(context: click.Context, *, meters: int, vehicles: int, interval: float) -> None:
    """Publish the readings of a simulated fleet to the broker until Ctrl-C."""
    settings = _settings(context)
    _run(lambda: _simulate(settings, Fleet(meters=meters, vehicles=vehicles), interval))


async def _simulate(settings: Settings, fleet: Fleet, interval: float) -> None:
    async with connected(settings, client_id="ingestd-simulate") as publisher:
        last = datetime.now(UTC)
        while True:
            await asyncio.sleep(interval)
            now = datetime.now(UTC)
            published = await publisher.publish(fleet.readings(now, now - last))
            click.echo(f"{now:%H:%M:%S} published {published} readings")
            last = now


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


@dead_letters.command(name="list")
@click.option("--reason", type=click.Choice(get_args(Reason)), help="Only those with this reason.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.pass_context
def list_command(context: click.Context, *, reason: Reason | None, limit: int) -> None:
    """The newest dead letters, one a line: id, time, source, reason, topic, detail."""
    settings = _settings(context)

    async def show() -> None:
        letters = await list_dead_letters(settings.database_url.get_secret_value(), reason=reason, limit=limit)
        for letter in letters:
            fields = (
                letter.id,
                f"{letter.received_at:%FT%TZ}",
                letter.source,
                letter.reason,
                letter.topic,
                letter.detail,
            )
            click.echo("\t".join(str(field).replace("\t", " ").replace("\n", " ") for field in fields))

    _run(show)


@commands.command()
def version() -> None:
    """Print the version."""
    click.echo(__version__)
