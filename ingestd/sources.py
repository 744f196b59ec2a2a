"""Where settings come from: the environment, `.env`, a TOML file, and the files that `X_FILE` names."""

import io
import os
import re
import stat
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from dotenv.parser import parse_stream

from ingestd.errors import ConfigError

PREFIX: Final = "INGESTD_"
NUL: Final = "must not contain a NUL character"
CONTAINER_SECRETS: Final = Path("/run/secrets")
"""Where Docker and Podman mount secrets (https://docs.docker.com/compose/how-tos/use-secrets/)."""

# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables, for services named ingestd
# and ingestd-something. INGESTD_HTTP_PORT may be such a one, so the value of a port decides.
_injected_name: Final = re.compile(
    rf"{PREFIX}([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?)"
).fullmatch
_injected_port: Final = re.compile(rf"{PREFIX}([A-Z0-9_]+_)?PORT=(tcp|udp|sctp)://.*", re.DOTALL).fullmatch


def injected(environment: Mapping[str, str]) -> list[str]:
    """Variables that look like settings, and that Kubernetes has made from the names of services."""
    return sorted(
        name for name, value in environment.items() if _injected_name(name) or _injected_port(f"{name}={value}")
    )


def toml(path: Path) -> dict[str, Any]:
    """Raises ConfigError."""
    try:
        return tomllib.loads(_text(path, name=str(path)))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from error


def env_file(path: Path) -> dict[str, str | None]:
    """Its values as they stand, a `${…}` too; nothing where there is no such file. Raises ConfigError."""
    if not os.path.lexists(path):
        return {}
    values: dict[str, str | None] = {}
    for binding in parse_stream(io.StringIO(_text(path, name=str(path)))):
        if binding.key is not None:
            values[binding.key] = binding.value
        elif binding.error and PREFIX in binding.original.string:  # other programs' lines are not checked
            text = binding.original.string
            line = binding.original.line + text[: text.index(PREFIX)].count("\n")
            raise ConfigError(f"{path}: line {line} is not NAME=value")
    return values


def settings(
    environment: Mapping[str, str | None], *, known: Collection[str], secret: Collection[str]
) -> dict[str, Any]:
    """Name of a setting -> text, from X or from the file that X_FILE names; an empty variable is one that is not set.

    Other programs' variables are not checked. Raises ConfigError, also if everybody can read the file of a secret.
    """
    values: dict[str, Any] = {}
    for key, value in environment.items():
        name = key.removeprefix(PREFIX).lower()
        if not key.startswith(PREFIX) or not value:
            continue
        if name in known or not name.endswith("_file"):
            values[name] = value
            continue
        target = name.removesuffix("_file")
        if environment.get(PREFIX + target.upper()):
            raise ConfigError(f"{PREFIX}{target.upper()} and {key} are both set")
        if "\0" in value:
            raise ConfigError(f"{key}: {NUL}")
        if "://" in value:  # a URL may hold a password, and an error would show it
            raise ConfigError(f"{key}: must be the path of a file, and is a URL")
        values[target] = _text(Path(value), name=key).strip()
        if target in secret:
            refuse_readable(Path(value), name=key)
    return values


def holds_key(path: Path) -> bool:
    """Whether there is a private key in a file (PEM, RFC 7468 §10)."""
    try:
        return b"PRIVATE KEY" in path.read_bytes()
    except OSError:  # whoever needs the file says what is wrong with it
        return False


def refuse_readable(path: Path, *, name: str) -> None:
    """Raises ConfigError if every account of this machine can read or write a file with a secret; `name` names it.

    Not below /run/secrets: Docker shows these files to one container only, with the mode that they have outside.
    """
    try:
        is_open = path.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH)
    except OSError:  # whoever needs the file says what is wrong with it
        return
    if is_open and not path.resolve().is_relative_to(CONTAINER_SECRETS):
        raise ConfigError(f"{name}: every account of this machine can use this secret: chmod 600 {path}")


def _text(path: Path, *, name: str) -> str:
    """What is in a file, without a byte order mark; `name` is who asks. Raises ConfigError."""
    where = "" if name == str(path) else f": {path}"
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{name}: {error.strerror}{where}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: no UTF-8 text{where}") from error
