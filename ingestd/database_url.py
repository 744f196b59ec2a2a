"""How the URL of a PostgreSQL database must look.

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
