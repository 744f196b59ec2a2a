"""`ingestd broker`: sets up a Mosquitto broker, and gives accounts to devices."""

import ipaddress
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ingestd.broker import passwords
from ingestd.commands.invocation import settings_of
from ingestd.errors import IngestdError

if TYPE_CHECKING:
    from ingestd.broker.directory import BrokerDirectory

_RELOAD: Final = "Let Mosquitto read its files again: systemctl reload mosquitto, docker compose kill -s HUP mosquitto"

_directory = click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("mosquitto"),
    show_default=True,
    help="The directory of the broker's files.",
)


def _files(directory: Path, *, client_id: str) -> "BrokerDirectory":
    # Not at the top: the daemon would load cryptography too.
    from ingestd.broker.directory import BrokerDirectory  # noqa: PLC0415

    return BrokerDirectory(directory, client_id=client_id)


@click.group(short_help="Set up a Mosquitto broker, and its accounts.")
def broker() -> None:
    """Set up a Mosquitto broker, and give accounts to devices."""


@broker.command(short_help="Write what Mosquitto needs.")
@click.option("--host", "hosts", metavar="NAME", multiple=True, required=True, help="A name or address of the broker.")
@click.option(
    "--internal", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="Where ingestd reaches the broker."
)
@_directory
@click.pass_context
def init(context: click.Context, *, hosts: tuple[str, ...], internal: str, directory: Path) -> None:
    """Write configuration, access rules, certificates and the accounts of ingestd and of health checks.

    What is there already stays, but for the certificate of the broker, which is issued anew.
    """
    settings = settings_of(context)
    try:
        address = ipaddress.ip_address(internal)
    except ValueError as error:
        raise click.BadParameter(f"{internal!r} is no IP address", param_hint="--internal") from error
    password = settings.mqtt_password
    files = _files(directory, client_id=settings.mqtt_client_id)
    expires = files.set_up(hosts, internal=internal, password=None if password is None else password.get_secret_value())
    host = "127.0.0.1" if address.is_unspecified else f"[{address}]" if address.version == 6 else str(address)  # noqa: PLR2004
    click.echo(f"# Start Mosquitto with: mosquitto -c {files.config}")
    click.echo(f"# Its certificate expires on {expires:%F}; run this command again before that.")
    click.echo(f"# Devices trust {files.ca}, and connect to port 8883 (password) or 8884 (certificate).")
    click.echo("# The settings of ingestd:")
    click.echo(f"INGESTD_MQTT_URL=mqtt://{host}:1883")
    click.echo("INGESTD_MQTT_USERNAME=ingestd")
    if password is None:
        click.echo(f"INGESTD_MQTT_PASSWORD_FILE={files.password_of_ingestd}")


@broker.command(name="add-device", short_help="Give accounts to devices.")
@click.argument("identities", metavar="ID...", nargs=-1, required=True)
@click.option("--certificate", "is_certificate", is_flag=True, help="A certificate in place of a password.")
@click.option(
    "--password-stdin", "is_from_stdin", is_flag=True, help="Read the passwords, one a line, in place of making them."
)
@_directory
@click.pass_context
def add_device(
    context: click.Context, *, identities: tuple[str, ...], is_certificate: bool, is_from_stdin: bool, directory: Path
) -> None:
    """Give devices an account: a line "ID password" for each, or the files of its certificate and key.

    A password is shown only here. A device that has a password gets a new one.
    """
    files = _files(directory, client_id=settings_of(context).mqtt_client_id)
    if is_certificate and is_from_stdin:
        raise click.UsageError("--certificate and --password-stdin exclude each other")
    for identity in identities:
        files.check(identity)
    if is_certificate:
        for identity in identities:
            click.echo("{} {} {}".format(identity, *files.add_with_certificate(identity)))
        return
    given = sys.stdin.read().splitlines() if is_from_stdin else []
    if is_from_stdin and len(given) != len(identities):
        raise IngestdError(f"standard input has {len(given)} lines, for {len(identities)} devices")
    for identity, password in zip(identities, given or (passwords.generated() for _ in identities), strict=True):
        files.add_with_password(identity, password)
        if not is_from_stdin:
            click.echo(f"{identity} {password}")
    click.echo(_RELOAD, err=True)


@broker.command(name="add-publisher", short_help="Give an account that publishes as any device.")
@click.argument("name")
@click.option("--password-stdin", "is_from_stdin", is_flag=True, help="Read the password, in place of making it.")
@_directory
@click.pass_context
def add_publisher(context: click.Context, *, name: str, is_from_stdin: bool, directory: Path) -> None:
    """Give an account that publishes as any device: for `simulate`, `replay`, or a gateway on this host.

    It is for the listener of ingestd. A password is shown only here; an account that is there gets a new one.
    """
    files = _files(directory, client_id=settings_of(context).mqtt_client_id)
    password = sys.stdin.readline().rstrip("\n") if is_from_stdin else passwords.generated()
    files.add_publisher(name, password)
    if not is_from_stdin:
        click.echo(f"{name} {password}")
    click.echo(_RELOAD, err=True)


@broker.command(name="remove-device", short_help="Take accounts away.")
@click.argument("identities", metavar="ID...", nargs=-1, required=True)
@_directory
@click.pass_context
def remove_device(context: click.Context, *, identities: tuple[str, ...], directory: Path) -> None:
    """Take accounts away, of devices and of publishers: their passwords, and their certificates."""
    files = _files(directory, client_id=settings_of(context).mqtt_client_id)
    for identity in identities:
        files.remove(identity)
    click.echo(_RELOAD, err=True)
