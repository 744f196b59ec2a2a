"""What libpq makes of the URL of a database: parameters come from the URL, the environment, and service files."""

import ipaddress
from collections.abc import Mapping
from itertools import zip_longest
from typing import Final

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import PGconn

from ingestd.errors import OperatorStoreError

_VERIFIED: Final = {"verify-full", "verify-ca"}


def given(dsn: str) -> dict[str, object]:
    """The parameters of the URL alone. Raises OperatorStoreError, which shows nothing of it."""
    try:
        return dict(conninfo_to_dict(dsn))
    except ProgrammingError:
        # libpq shows parts of the URL, which may be parts of the password.
        raise OperatorStoreError(
            "libpq cannot read the URL of the database, or does not know a parameter in it"
        ) from None


def unverified_hosts(dsn: str) -> list[str]:
    """Hosts that are not this one, if libpq does not check that they are who they say. Raises OperatorStoreError."""
    parameters = _in_effect(dsn)
    if parameters.get("sslmode") in _VERIFIED:
        return []
    names, addresses = (parameters.get(name, "").split(",") for name in ("host", "hostaddr"))
    hosts = [address or name for name, address in zip_longest(names, addresses, fillvalue="")]
    return [host for host in hosts if not _is_local(host)]


def _in_effect(dsn: str) -> Mapping[str, str]:
    """All parameters that a connection would have.

    libpq tells them of a connection only. So one is begun that it refuses for a wrong parameter, before any network.
    """
    given(dsn)
    refused = PGconn.connect_start(make_conninfo(dsn, target_session_attrs="none").encode())
    parameters = {option.keyword.decode(): option.val.decode() for option in refused.info if option.val is not None}
    reason = refused.error_message
    refused.finish()
    if b"target_session_attrs" not in reason:
        raise OperatorStoreError(
            "libpq refuses a parameter of the database: look at the URL, at variables such as PGSSLMODE, and at the"
            " service file"
        )
    return parameters


def _is_local(host: str) -> bool:
    """Whether it is this host: a loopback address, or the path of a Unix socket."""
    if not host or host.startswith(("/", "@")) or host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
