"""What others could get at: checked before the daemon runs."""

import ipaddress
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import structlog
from pydantic import SecretStr

from ingestd import sources
from ingestd.config import Settings
from ingestd.errors import ConfigError, OperatorStoreError
from ingestd.sources import PREFIX
from ingestd.store import conninfo

log = structlog.get_logger(__name__)

_SECRETS: Final = [name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)]


def check_access(settings: Settings) -> None:
    """Raises ConfigError if others could reach the API without a token, or if libpq cannot read the database's URL.

    Warns if others could read a secret, or stand between ingestd and the database.
    """
    if settings.tokens_file is None and not _is_loopback(settings.http_host):
        raise ConfigError(
            f"{PREFIX}HTTP_HOST: others can reach {settings.http_host!r}, and no tokens are used: "
            f"set {PREFIX}TOKENS_FILE, or listen on 127.0.0.1"
        )
    for setting, file in _secret_files(settings):
        if _is_readable_by_all(file):
            log.warning("secret_file_readable", setting=setting, file=str(file))
    for name in ("database_url", "owner_database_url"):
        _check_database(f"{PREFIX}{name}".upper(), getattr(settings, name))


def _check_database(setting: str, url: SecretStr | None) -> None:
    if url is None:
        return
    try:
        hosts = conninfo.unverified_hosts(url.get_secret_value())
    except OperatorStoreError as error:
        raise ConfigError(f"{setting}: {error}") from error
    if hosts:
        log.warning("database_not_verified", setting=setting, hosts=hosts)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _secret_files(settings: Settings) -> Iterator[tuple[str, Path]]:
    """The files with secrets, each with the setting that names it."""
    named = {**sources.env_file(Path(".env")), **os.environ}
    for secret in _SECRETS:
        setting = f"{PREFIX}{secret}_FILE".upper()
        if file := named.get(setting):
            yield setting, Path(file)
    if settings.mqtt_key_file is not None:
        yield f"{PREFIX}MQTT_KEY_FILE", settings.mqtt_key_file


def _is_readable_by_all(file: Path) -> bool:
    try:
        return bool(file.stat().st_mode & stat.S_IROTH)
    except OSError:  # whoever needs the file says what is wrong with it
        return False
