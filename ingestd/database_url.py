"""How the URL of a PostgreSQL database must look, and how it is shown.

libpq takes more. But it takes a password with a / or @ in it for other parts of the URL, and shows those in its errors.
"""

import re
from typing import Final

_ENCODED: Final = "%(?!00)[0-9A-Fa-f]{2}"
_HOST: Final = rf"(?:(?:[^\s%/@?#:,&=\[\]]|{_ENCODED})*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{{0,5}})?"
_PARAMETER: Final = rf"[a-z_]+=(?:[^\s%@&=]|{_ENCODED})*"
_match: Final = re.compile(
    rf"(?:postgresql|postgres)://(?:(?:[^\s%/@]|{_ENCODED})*@)?"
    rf"{_HOST}(?:,{_HOST})*"
    rf"(?:/(?:[^\s%/@?]|{_ENCODED})*)?"
    rf"(?:\?(?:{_PARAMETER}(?:&{_PARAMETER})*)?)?"
).fullmatch


def check_database_url(url: str) -> None:
    """Raises ValueError, which shows no part of the URL."""
    if not url.startswith(("postgresql://", "postgres://")):
        raise ValueError("must look like postgresql://user@host:5432/database")
    if _match(url) is None:
        raise ValueError(
            "must look like postgresql://user:password@host:5432/database?name=value;"
            " write % as %25, @ as %40, / as %2F and a space as %20, also in the password"
        )


def mask(secret: str) -> str:
    """A database's URL without its passwords; anything else not at all: other URLs may be secret in any part."""
    return without_passwords(secret) if secret.startswith(("postgresql://", "postgres://")) else "********"


# Not by `urlsplit`: libpq takes a password with an unescaped # or ?, and one among the parameters too.
_USER_PASSWORD: Final = re.compile(r"^((?:\w+://)?+[^:@]*:).*@", re.DOTALL)
_PARAMETER_PASSWORD: Final = re.compile(r"(password=)[^&]*", re.IGNORECASE)


def without_passwords(url: str) -> str:
    return _PARAMETER_PASSWORD.sub(r"\1********", _USER_PASSWORD.sub(r"\1********@", url))
