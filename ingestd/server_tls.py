"""TLS of the HTTP server: its certificate and key, which can be read again while it runs."""

import ssl
from pathlib import Path
from typing import Final

from ingestd.tls import load_certificate

_SETTINGS: Final = ("INGESTD_HTTP_CERT_FILE", "INGESTD_HTTP_KEY_FILE")


class ServerTls:
    """The certificate that new connections are shown."""

    def __init__(self, *, certificate: Path, key: Path | None) -> None:
        """`key` is None if it is in the file of the certificate. Raises ConfigError."""
        self._certificate = certificate
        self._key = key
        self.context = self._read()

    def read_again(self) -> str:
        """Take the files as they are now. Raises ConfigError, and then keeps what was read before."""
        self.context = self._read()
        return "read"

    def _read(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        load_certificate(context, self._certificate, self._key, settings=_SETTINGS)
        return context
