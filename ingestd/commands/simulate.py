"""`ingestd simulate`."""

from contextlib import suppress

import click

from ingestd.commands.invocation import run_to_end, settings_of
from ingestd.demo.fleet import Fleet
from ingestd.demo.simulate import simulate


@click.command(name="simulate", short_help="Publish readings of a simulated fleet.")
@click.option("--meters", type=click.IntRange(0), default=10, show_default=True)
@click.option("--vehicles", type=click.IntRange(0), default=10, show_default=True)
@click.option(
    "--interval", type=click.FloatRange(0.1), default=5.0, show_default=True, help="Seconds between readings."
)
@click.pass_context
def simulate_command(context: click.Context, *, meters: int, vehicles: int, interval: float) -> None:
    """Publish the readings of a simulated fleet to the broker until Ctrl-C."""
    settings = settings_of(context)
    fleet = Fleet(meters=meters, vehicles=vehicles)
    with suppress(KeyboardInterrupt):  # the way it is meant to end
        run_to_end(lambda: simulate(settings, fleet, interval=interval, report=click.echo))
