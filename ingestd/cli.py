"""The `ingestd` command. Errors a user can act on are one line on stderr and a non-zero exit status."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Final, NoReturn

import click
import structlog

from ingestd import __version__
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


_COMMANDS: Final = {
    "run": "run.run",
    "healthcheck": "healthcheck.healthcheck",
    "status": "status.status",
    "migrate": "migrate.migrate_command",
    "roles": "roles.roles_command",
    "check-config": "check_config.check_config",
    "simulate": "simulate.simulate_command",
    "replay": "replay.replay",
    "demo": "demo.demo",
    "dead-letters": "dead_letters.dead_letters",
    "devices": "devices.devices",
    "partitions": "partitions.list_partitions",
    "archive": "archive.archive",
    "broker": "broker.broker",
    "export": "export.export_command",
    "sql": "sql.sql_command",
    "schema": "schema.schema",
    "token": "token.token",
    "reload": "reload.reload",
    "leave": "leave.leave_command",
    "version": "version.version",
}
"""By name: where the command is in ingestd.commands."""


class _Commands(click.Group):
    """Imports a command when it is wanted: healthcheck runs every few seconds, and needs little of ingestd."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(".")
        command: click.Command = getattr(import_module(f"ingestd.commands.{module}"), name)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
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
