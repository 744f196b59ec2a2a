"""`ingestd devices`: forget devices."""

from collections.abc import Sequence
from typing import Final

import click

from ingestd.alerting.channels import channel_names
from ingestd.commands.invocation import run_to_end, settings_of, who
from ingestd.config import Settings
from ingestd.errors import IngestdError, StillReportsError
from ingestd.model.device import Forgotten
from ingestd.model.stream import IDENTITY_RULE, STREAMS, Stream, is_identity
from ingestd.store.forgetting import Forgetting
from ingestd.store.pool import Pool

_KINDS: Final = {stream.name: stream for stream in STREAMS}


@click.group()
def devices() -> None:
    """Devices that have reported."""


def _identities(_context: click.Context, _parameter: click.Parameter, identities: Sequence[str]) -> Sequence[str]:
    for identity in identities:
        if not is_identity(identity):
            raise click.BadParameter(f"{identity!r}: {IDENTITY_RULE}")
    return identities


@devices.command(short_help="Forget devices that report no more.")
@click.argument("kind", type=click.Choice(tuple(_KINDS)))
@click.argument("identities", metavar="ID...", nargs=-1, required=True, callback=_identities)
@click.pass_context
def forget(context: click.Context, *, kind: str, identities: Sequence[str]) -> None:
    """Forget devices that report no more: their newest reading, settings and alerts.

    History, ledger and mappings stay.
    """
    settings = settings_of(context)
    run_to_end(lambda: _forget(settings, _KINDS[kind], identities))


async def _forget(settings: Settings, stream: Stream, identities: Sequence[str]) -> None:
    left: list[str] = []
    async with Pool(settings.database_url.get_secret_value()) as pool:
        forgetting = Forgetting(
            pool,
            offline_after=settings.offline_after,
            channels=channel_names(has_webhook=settings.alert_webhook_url is not None),
        )
        for identity in identities:
            try:
                forgotten = await forgetting.forget(stream, identity, who=who("devices forget"))
            except StillReportsError as error:
                left.append(str(error))
                continue
            if forgotten is None:
                left.append(f"of {stream.name} {identity} there is nothing to forget")
            else:
                click.echo(f"{stream.name} {identity}: {_described(forgotten)}")
    if left:
        raise IngestdError("\n".join(left))


def _described(forgotten: Forgotten) -> str:
    """What was removed."""
    seen = "no newest reading" if forgotten.last_seen is None else f"last seen {forgotten.last_seen:%FT%TZ}"
    return f"{seen}, {'no ' if forgotten.settings is None else ''}settings, {forgotten.alerts} alerts"
