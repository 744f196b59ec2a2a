"""`ingestd demo`."""

import click

from ingestd import logs
from ingestd.commands.invocation import run_to_end


@click.command(short_help="Show the whole system on this machine.")
@click.option("--port", type=click.IntRange(0, 65_535), default=8080, show_default=True, help="0: any free one.")
def demo(*, port: int) -> None:
    """Show the whole system: private database and broker, a simulated fleet, and the address to open."""
    logs.set_up(level="warning", style=None)
    # Here, because what it needs comes with the extra `demo` only.
    from ingestd.demo.demo import private_servers, show  # noqa: PLC0415

    with private_servers(http_port=port) as settings:
        run_to_end(lambda: show(settings))
