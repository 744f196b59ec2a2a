"""Asks the daemon of the settings over HTTP, from this machine."""

import http.client
import ssl
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ingestd.config import Settings
from ingestd.errors import ConfigError, IngestdError

if TYPE_CHECKING:
    from collections.abc import Mapping

_OF_ALL: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not listened on
"""Where to reach a daemon that listens on all addresses."""


class UnreachableError(IngestdError):
    """The daemon does not answer; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the daemon has answered."""

    status: int
    body: bytes


class DaemonClient:
    """One daemon, asked by its settings."""

    def __init__(self, settings: Settings, *, seconds: float, token: str | None = None) -> None:
        """No request takes longer than `seconds` without a sign of life. Raises ConfigError."""
        if settings.http_port == 0:
            raise ConfigError("INGESTD_HTTP_PORT is 0: nobody knows the port of the daemon")
        self._host = _OF_ALL.get(settings.http_host, settings.http_host)
        self._port = settings.http_port
        self._seconds = seconds
        self._headers: Mapping[str, str] = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._certificate = settings.http_cert_file

    @property
    def url(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'http' if self._certificate is None else 'https'}://{host}:{self._port}"

    def get(self, path: str) -> Answer:
        """Raises UnreachableError, and ConfigError if the certificate cannot be read."""
        try:
            with closing(self._connection()) as connection:
                connection.request("GET", path, headers=dict(self._headers))
                response = connection.getresponse()
                return Answer(status=response.status, body=response.read())
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            raise UnreachableError(f"{self.url} does not answer: {_reason(error)}") from error

    def _connection(self) -> http.client.HTTPConnection:
        if self._certificate is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._seconds)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # The certificate is for the name that others use, and is trusted itself, whoever has signed it.
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        try:
            context.load_verify_locations(self._certificate)
        except OSError as error:  # ssl.SSLError is one
            reason = "no certificate (PEM)" if isinstance(error, ssl.SSLError) else error.strerror
            raise ConfigError(f"INGESTD_HTTP_CERT_FILE: {self._certificate} cannot be used: {reason}") from error
        return http.client.HTTPSConnection(self._host, self._port, timeout=self._seconds, context=context)


def _reason(error: Exception) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not that of INGESTD_HTTP_CERT_FILE ({error.verify_message})"
        case ssl.SSLError():
            return f"TLS fails: {error.reason or error}"
        case TimeoutError():
            return "timed out"
        case OSError():
            return error.strerror or str(error)
        case _:
            return str(error) or type(error).__name__
