"""`ingestd run`."""

import click

from ingestd import failpoints
from ingestd.commands.access import check_access
from ingestd.commands.invocation import run_to_end, settings_of
from ingestd.daemon import serve


@click.command()
@click.option("--no-migrate", is_flag=True, help="Leave the database schema as it is.")
@click.option("--failpoints", "armed", default="", hidden=True, help="For tests: see failpoints.py.")
@click.pass_context
def run(context: click.Context, *, no_migrate: bool, armed: str) -> None:
    """Run the daemon until SIGTERM or Ctrl-C."""
    failpoints.arm(armed)
    settings = settings_of(context)
    check_access(settings)
    run_to_end(lambda: serve(settings, migrate_first=not no_migrate))
