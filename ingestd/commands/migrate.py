"""`ingestd migrate`."""

import click

from ingestd.commands.invocation import run_to_end, settings_of
from ingestd.store.migrations import migrate


@click.command(name="migrate")
@click.pass_context
def migrate_command(context: click.Context) -> None:
    """Bring the database schema up to date."""
    settings = settings_of(context)

    async def apply() -> None:
        applied = await migrate(settings.owner_dsn, shard_count=settings.citus_shard_count)
        click.echo("\n".join(applied) or "nothing to do")

    run_to_end(apply)
