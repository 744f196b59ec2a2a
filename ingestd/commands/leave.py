"""`ingestd leave`."""

import click

from ingestd.commands.invocation import run_to_end, settings_of
from ingestd.errors import IngestdError
from ingestd.leaving import Left, leave
from ingestd.printable import printable


@click.command(name="leave", short_help="End sessions that are not in the settings any more.")
@click.pass_context
def leave_command(context: click.Context) -> None:
    """End the sessions that the broker keeps and the settings do not name, after INGESTD_MQTT_SESSIONS was lowered.

    Each is unsubscribed, what waits in it is stored and acknowledged, and the broker forgets it. Daemons with the same
    settings may run meanwhile.

    \b
    ingestd leave
    """
    settings = settings_of(context)
    if not run_to_end(lambda: leave(settings, report=_show)):
        raise IngestdError("not all sessions have ended; run it again")


def _show(left: Left) -> None:
    outcome = "ended" if left.reason is None else f"not ended: {left.reason}"
    click.echo(printable(f"{left.session}: {left.messages} messages stored, {outcome}"))
