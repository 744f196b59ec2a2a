"""`ingestd check-config`."""

import click

from ingestd.commands.access import check_access
from ingestd.commands.invocation import run_to_end, settings_of
from ingestd.config import Settings
from ingestd.mqtt.publisher import connected
from ingestd.store.connection import connect
from ingestd.tokens import TokensFile


@click.command(name="check-config")
@click.option("--connect", "is_to_connect", is_flag=True, help="Also connect to the database and to the broker.")
@click.pass_context
def check_config(context: click.Context, *, is_to_connect: bool) -> None:
    """Print the effective settings, secrets masked."""
    settings = settings_of(context)
    check_access(settings)
    settings.tls()
    settings.http_tls()
    if settings.tokens_file:
        TokensFile(settings.tokens_file).read()
    for name, value in settings.described().items():
        click.echo(f"{name}={value}")
    if is_to_connect:
        run_to_end(lambda: _connect(settings))


async def _connect(settings: Settings) -> None:
    for url in dict.fromkeys((settings.database_url.get_secret_value(), settings.owner_dsn, settings.read_dsn)):
        async with await connect(url, application_name="ingestd-check") as connection:
            click.echo(f"the database can be used as {connection.info.user}")
    # With another client id, so that the session of a daemon that runs is not taken over.
    async with connected(settings, client_id=f"{settings.mqtt_client_id}-check"):
        click.echo("the broker takes our account")
