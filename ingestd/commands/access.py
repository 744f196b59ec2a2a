"""Whether others could reach the API: checked before the daemon runs."""

import ipaddress

import structlog
from pydantic import SecretStr

from ingestd.config import Settings
from ingestd.errors import ConfigError, OperatorStoreError
from ingestd.sources import PREFIX
from ingestd.store import conninfo

log = structlog.get_logger(__name__)


def check_access(settings: Settings) -> None:
    """Raises ConfigError if others could reach the API without a token, or if libpq cannot read the database's URL.

    Warns if others could stand between ingestd and the database.
    """
    if settings.tokens_file is None and not _is_loopback(settings.http_host):
        raise ConfigError(
            f"{PREFIX}HTTP_HOST: others can reach {settings.http_host!r}, and no tokens are used: "
            f"set {PREFIX}TOKENS_FILE, or listen on 127.0.0.1"
        )
    for name in ("database_url", "owner_database_url", "read_database_url"):
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
