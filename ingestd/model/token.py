"""Tokens of the HTTP API: what one allows, how it is written, and how it is recognized. Only its digest is kept."""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from hmac import compare_digest
from typing import Final, Literal, TypeAlias

Scope: TypeAlias = Literal["read", "ingest", "admin"]

ALL_DEVICES: Final = "*"
"""Stands for every device, for gateways that send for many."""
_ID_BYTES: Final = 6
_SECRET_BYTES: Final = 32
_match_text: Final = re.compile(rf"ing_([0-9a-f]{{{2 * _ID_BYTES}}})_([0-9a-f]{{{2 * _SECRET_BYTES}}})").fullmatch
_NOBODY: Final = sha256(b"").hexdigest()
"""Compared with the secret if the id is unknown, so that both cases do the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What is kept of a token, and what it allows."""

    id: str
    name: str
    digest: str
    """SHA-256 of the secret, in hexadecimal."""
    scopes: frozenset[Scope]
    devices: frozenset[str]
    """Such as `meter:m-1`, or `*`: for which devices it may send readings."""
    expires_at: datetime | None
    is_revoked: bool = False

    def may_send(self, stream: str, device_id: str) -> bool:
        """Whether it may send readings of this device."""
        return ALL_DEVICES in self.devices or f"{stream}:{device_id}" in self.devices

    def is_valid(self, now: datetime) -> bool:
        return not self.is_revoked and (self.expires_at is None or now < self.expires_at)

    def state(self, now: datetime) -> str:
        """In one word, for a list."""
        return "revoked" if self.is_revoked else "active" if self.is_valid(now) else "expired"


def made(
    *, name: str, scopes: frozenset[Scope], devices: frozenset[str], expires_at: datetime | None
) -> tuple[Token, str]:
    """A new token, and its text, which nobody can make again."""
    token_id, secret = secrets.token_hex(_ID_BYTES), secrets.token_bytes(_SECRET_BYTES)
    token = Token(
        id=token_id,
        name=name,
        digest=sha256(secret).hexdigest(),
        scopes=scopes,
        devices=devices,
        expires_at=expires_at,
    )
    return token, f"ing_{token_id}_{secret.hex()}"


def recognized(text: str, known: Mapping[str, Token], *, now: datetime) -> Token | None:
    """The token that this text is; None if it is unknown, wrong, expired or revoked."""
    matched = _match_text(text)
    if matched is None:
        return None
    token_id, secret = matched.groups()
    token = known.get(token_id)
    is_right = compare_digest(sha256(bytes.fromhex(secret)).hexdigest(), _NOBODY if token is None else token.digest)
    return token if token is not None and is_right and token.is_valid(now) else None
