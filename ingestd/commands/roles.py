"""`ingestd roles`."""

import click

from ingestd.store.migrations import roles


@click.command(name="roles", short_help="Print the SQL of the database roles.")
def roles_command() -> None:
    """Print the SQL that makes the roles of the database, for psql: ingestd roles | psql DATABASE."""
    click.echo(roles(), nl=False)
