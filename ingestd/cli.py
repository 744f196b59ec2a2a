"""The `ingestd` command. Errors a user can act on are one line on stderr and a non-zero exit status."""

import sys
from pathlib import Path
from typing import Final, NoReturn

import click
import structlog

from ingestd import __version__
from ingestd.commands import (
    broker,
    check_config,
    dead_letters,
    demo,
    devices,
    export,
    healthcheck,
    migrate,
    partitions,
    reload,
    replay,
    roles,
    run,
    schema,
    simulate,
    sql,
    status,
    token,
    version,
)
from ingestd.config import load
from ingestd.errors import IngestdError
from ingestd.printable import printable

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
        log.critical("unexpected_error", exc_info=True)
        sys.exit(EXIT_UNEXPECTED)
    sys.exit(0)


def _leaves(error: BaseException) -> list[BaseException]:
    """The errors in a group of groups; an error that is no group is its own only leaf."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for inner in error.exceptions for leaf in _leaves(inner)]


def _fail(*errors: BaseException) -> NoReturn:
    for line in dict.fromkeys(line for error in errors for line in str(error).splitlines()):
        click.echo(f"ingestd: {printable(line)}", err=True)
    sys.exit(1)


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


for command in (
    run.run,
    healthcheck.healthcheck,
    status.status,
    migrate.migrate_command,
    roles.roles_command,
    check_config.check_config,
    simulate.simulate_command,
    replay.replay,
    demo.demo,
    dead_letters.dead_letters,
    devices.devices,
    partitions.list_partitions,
    broker.broker,
    export.export_command,
    sql.sql_command,
    schema.schema,
    token.token,
    reload.reload,
    version.version,
):
    commands.add_command(command)
