"""`ingestd healthcheck`: for containers and monitors."""

import http.client
import json
from typing import Final

import click

from ingestd.commands.daemon_client import Answer, DaemonClient
from ingestd.commands.invocation import settings_of
from ingestd.errors import IngestdError

SECONDS: Final = 4.0
"""Less than the 5 s that Docker gives a check."""


@click.command(short_help="Ask the daemon whether it works: 0 or 1.")
@click.pass_context
def healthcheck(context: click.Context) -> None:
    """Ask the daemon of these settings whether it works: exit status 0 or 1, and one line.

    It asks /readyz at INGESTD_HTTP_HOST and INGESTD_HTTP_PORT, by TLS if the API has a certificate. It needs no token.

    \b
    ingestd healthcheck && echo "readings flow"
    """
    daemon = DaemonClient(settings_of(context), seconds=SECONDS)
    answer = daemon.get("/readyz")
    status = _status(answer)
    if answer.status != http.client.OK:
        raise IngestdError(f"{daemon.url}: {status} ({answer.status}); /health and the log say why")
    click.echo(f"{daemon.url}: {status}")


def _status(answer: Answer) -> str:
    """The word of the daemon; another server may have none."""
    try:
        return str(json.loads(answer.body)["status"])
    except (ValueError, KeyError, TypeError):
        return "it is no ingestd that answers"
