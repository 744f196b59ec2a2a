"""Whether others could reach the API: checked before the daemon runs."""

import ipaddress

from ingestd.config import Settings
from ingestd.errors import ConfigError
from ingestd.sources import PREFIX


def check_access(settings: Settings) -> None:
    """Raises ConfigError if others could reach the API without a token."""
    if settings.tokens_file is None and not _is_loopback(settings.http_host):
        raise ConfigError(
            f"{PREFIX}HTTP_HOST: others can reach {settings.http_host!r}, and no tokens are used: "
            f"set {PREFIX}TOKENS_FILE, or listen on 127.0.0.1"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
