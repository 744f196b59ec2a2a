"""The password files of Mosquitto: a line `name:hash` for each account, as `mosquitto_passwd` writes them."""

import base64
import hashlib
import secrets
from pathlib import Path
from typing import Final

from ingestd.broker import private_file

ITERATIONS: Final = 101
"""As `mosquitto_passwd` has it. Mosquitto checks passwords on its only thread, and after an outage all devices come at
once: 10,000 checks with 100,000 iterations would halt it for minutes. So passwords have to be long instead."""
SALT_BYTES: Final = 12
SECRET_BYTES: Final = 24
SHORTEST: Final = 16
"""Characters of a password that somebody else has chosen."""


def generated() -> str:
    return secrets.token_urlsafe(SECRET_BYTES)


def hashed(password: str) -> str:
    """PBKDF2 with SHA-512, in the format of Mosquitto 2."""
    salt = secrets.token_bytes(SALT_BYTES)
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS)
    return f"$7${ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}"


def read(path: Path) -> dict[str, str]:
    """The hash of each account."""
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = (line.partition(":") for line in lines if line and not line.startswith("#"))
    return {name: hash_ for name, _, hash_ in pairs}


def write(path: Path, accounts: dict[str, str]) -> None:
    private_file.write(path, "".join(f"{name}:{hash_}\n" for name, hash_ in accounts.items()))
