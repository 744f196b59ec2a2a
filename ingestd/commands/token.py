"""`ingestd token`: the tokens of the HTTP API."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, get_args

import click

from ingestd.commands.invocation import settings_of
from ingestd.errors import IngestdError
from ingestd.model.token import Scope, made
from ingestd.setting_types import parse_duration
from ingestd.tokens import NAME_PATTERN, SETTING, TokensFile, device

_is_name: Final = re.compile(NAME_PATTERN).fullmatch
_AGAIN: Final = "a daemon that runs reads the file again after `ingestd reload`, or on SIGHUP"


@click.group(short_help="Add, list and revoke tokens of the API.")
def token() -> None:
    """The tokens of the HTTP API, in the file that INGESTD_TOKENS_FILE names."""


def _name(_context: click.Context, _parameter: click.Parameter, name: str) -> str:
    if not _is_name(name):
        raise click.BadParameter("1 to 64 of A-Z a-z 0-9 . _ : @ -")
    return name


def _devices(_context: click.Context, _parameter: click.Parameter, devices: Sequence[str]) -> frozenset[str]:
    try:
        return frozenset(map(device, devices))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _lifetime(_context: click.Context, _parameter: click.Parameter, text: str | None) -> timedelta | None:
    try:
        lifetime = None if text is None else parse_duration(text)
        if lifetime is not None:
            _ = datetime.now(UTC) + lifetime
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(str(error)) from error
    return lifetime


@token.command(name="add")
@click.argument("name", callback=_name)
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice(get_args(Scope)),
    help="What it allows; may be given several times.",
)
@click.option(
    "--device",
    "devices",
    multiple=True,
    callback=_devices,
    help="For the scope ingest: meter:ID, vehicle:ID, or * for all; may be given several times.",
)
@click.option("--expires", "lifetime", callback=_lifetime, help="How long it is valid, such as 90d; else for ever.")
@click.pass_context
def add(
    context: click.Context,
    *,
    name: str,
    scopes: tuple[Scope, ...],
    devices: frozenset[str],
    lifetime: timedelta | None,
) -> None:
    """Make a token and print it. It cannot be shown again."""
    if ("ingest" in scopes) != bool(devices):
        raise click.UsageError("the scope ingest needs --device, and --device needs the scope ingest")
    file = _file(context)
    expires_at = None if lifetime is None else datetime.now(UTC).replace(microsecond=0) + lifetime
    new, text = made(name=name, scopes=frozenset(scopes), devices=devices, expires_at=expires_at)
    file.add(new)
    click.echo(text)
    click.echo(_AGAIN, err=True)


@token.command(name="list")
@click.pass_context
def list_tokens(context: click.Context) -> None:
    """One a line: id, name, state, scopes, devices, end."""
    now = datetime.now(UTC)
    for known in _file(context).read().values():
        scopes, devices = (",".join(sorted(several)) or "-" for several in (known.scopes, known.devices))
        end = "-" if known.expires_at is None else f"{known.expires_at.astimezone(UTC):%FT%TZ}"
        click.echo("\t".join((known.id, known.name, known.state(now), scopes, devices, end)))


@token.command(name="revoke")
@click.argument("token_id", metavar="ID")
@click.pass_context
def revoke(context: click.Context, *, token_id: str) -> None:
    """Revoke a token by its id, which `list` shows."""
    file = _file(context)
    known = file.read().get(token_id)
    if known is None:
        raise IngestdError(f"there is no token {token_id}")
    if not known.is_revoked:
        file.revoke(token_id, at=datetime.now(UTC))
    click.echo(f"{known.name} is revoked; {_AGAIN}", err=True)


def _file(context: click.Context) -> TokensFile:
    path = settings_of(context).tokens_file
    if path is None:
        raise IngestdError(f"{SETTING} is not set: it names the file of the tokens")
    return TokensFile(path)
