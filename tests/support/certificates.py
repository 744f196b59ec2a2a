"""Certificates for tests, good and bad ones, made with the `openssl` command."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")


def openssl(*arguments: str | Path) -> None:
    finished = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr


@dataclass(frozen=True, slots=True)
class Certificate:
    """The files of one: PEM."""

    certificate: Path
    key: Path

    def encrypt_key(self) -> Path:
        """The key once more, under a passphrase."""
        encrypted = self.key.with_suffix(".encrypted")
        openssl("pkey", "-in", self.key, "-aes256", "-passout", "pass:secret", "-out", encrypted)
        return encrypted


class Authority:
    """Signs certificates, and is its own."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self._directory = directory
        self.own = Certificate(directory / f"{name}.crt", directory / f"{name}.key")
        openssl(
            *("req", "-x509", *CURVE, "-nodes", "-subj", f"/CN={name}", "-days", "2"),
            *("-keyout", self.own.key, "-out", self.own.certificate),
        )

    def issue(self, name: str, *, address: str = "127.0.0.1", days: int = 2) -> Certificate:
        """For `address`; expired with -1 `days`."""
        issued = Certificate(self._directory / f"{name}.crt", self._directory / f"{name}.key")
        request, extensions = self._directory / f"{name}.csr", self._directory / f"{name}.ext"
        extensions.write_text(f"subjectAltName=IP:{address}\n")
        openssl("req", *CURVE, "-nodes", "-subj", f"/CN={name}", "-keyout", issued.key, "-out", request)
        openssl(
            *("x509", "-req", "-in", request, "-CA", self.own.certificate, "-CAkey", self.own.key, "-CAcreateserial"),
            *("-days", str(days), "-extfile", extensions, "-out", issued.certificate),
        )
        return issued
