"""Who is logged in at the page, kept in memory: a restart of the daemon ends all logins."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

SECONDS: Final = 12 * 3600.0
"""How long one is logged in."""
MOST: Final = 20
"""Logins at a time with one token. A further one ends the oldest of them."""
_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class _Login:
    token_id: str
    until: float


class Logins:
    """The logins by the SHA-256 of their secrets, so that no look at the memory gives a cookie away."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._open: dict[bytes, _Login] = {}

    def begin(self, token_id: str) -> str:
        """A new login with this token; returns its secret, which the cookie holds."""
        secret = secrets.token_urlsafe(_BYTES)
        now = self._now()
        self._open = {key: login for key, login in self._open.items() if login.until > now}
        of_token = [key for key, login in self._open.items() if login.token_id == token_id]
        for key in of_token[: max(0, len(of_token) - MOST + 1)]:
            del self._open[key]
        self._open[_key(secret)] = _Login(token_id, now + SECONDS)
        return secret

    def token_id(self, secret: str) -> str | None:
        """The id of the token of a login; None if there is no such login, or if it is over."""
        login = self._open.get(_key(secret))
        return login.token_id if login is not None and login.until > self._now() else None

    def end(self, secret: str) -> None:
        self._open.pop(_key(secret), None)


def _key(secret: str) -> bytes:
    return sha256(secret.encode(errors="surrogatepass")).digest()
