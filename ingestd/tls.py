"""TLS: contexts from the files of the settings, and the errors of TLS to the broker in words for an operator."""

import re
import ssl
from pathlib import Path
from typing import Final

from ingestd.errors import ConfigError

_CA, _CERTIFICATE, _KEY = (f"INGESTD_MQTT_{name}_FILE" for name in ("CA", "CERT", "KEY"))

_CLOCK: Final = "is the clock of this machine right?"
_VERIFY: Final = {
    9: f"its certificate is not valid yet: {_CLOCK}",
    10: f"its certificate has expired: renew it at the broker; {_CLOCK}",
    18: f"its certificate is signed by itself: {_CA} must name a file with that certificate",
    19: f"the authority that signed its certificate is not known here: {_CA} must name a file with it",
    20: f"the authority that signed its certificate is not known here: {_CA} must name a file with it",
    62: "its certificate is for another name: INGESTD_MQTT_URL must have the name in the certificate",
    64: "its certificate is for another address: INGESTD_MQTT_URL must have the name in the certificate",
}
"""By OpenSSL's X509_V_ERR_ number."""

NO_TLS: Final = "it does not speak TLS on this port: INGESTD_MQTT_URL needs mqtt://, or the TLS port (8883 as a rule)"
_WANTED: Final = f"it asks for a certificate of ours: set {_CERTIFICATE} and {_KEY}"
_DISLIKED: Final = f"it does not accept our certificate ({_CERTIFICATE}): "
_REASONS: Final = {
    "WRONG_VERSION_NUMBER": NO_TLS,
    "PACKET_LENGTH_TOO_LONG": NO_TLS,
    "UNEXPECTED_EOF_WHILE_READING": NO_TLS,
    "RECORD_LAYER_FAILURE": NO_TLS,
    "CERTIFICATE_REQUIRED": _WANTED,
    "HANDSHAKE_FAILURE": f"it ends the TLS handshake; perhaps {_WANTED}",
    "UNKNOWN_CA": _DISLIKED + "it does not know the authority that signed it",
    "CERTIFICATE_EXPIRED": _DISLIKED + "it has expired",
    "BAD_CERTIFICATE": _DISLIKED + "it finds it bad",
    "CERTIFICATE_REVOKED": _DISLIKED + "it has been revoked",
    "CERTIFICATE_UNKNOWN": _DISLIKED + "it cannot check it",
    "UNSUPPORTED_PROTOCOL": "it speaks only versions of TLS that are too old",
    "PROTOCOL_VERSION": "it does not speak the versions of TLS that we do",
}
"""By the end of OpenSSL's reason. For an alert from the broker, the reason begins with the TLS version."""
_reason: Final = re.compile(r"\[SSL: (?:TLSV?1?3?_|SSLV3_)?(?:ALERT_)?(\w+)\]")


_NO_AUTHORITY: Final = "holds no certificate, or a broken one (PEM)"
_TOO_WEAK: Final = ("KEY_TOO_SMALL", "MD_TOO_WEAK")
_STRONGER: Final = "have one made with a longer key (RSA of 2048 bits, or EC) and SHA-256"


class _EncryptedKeyError(Exception):
    """Raised where OpenSSL would ask for a passphrase on the terminal."""


def context(*, ca: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """Trusts `ca`, else what the system trusts. Raises ConfigError that names the setting."""
    try:
        made = ssl.create_default_context(cafile=ca)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"{_CA}: {ca} cannot be used: {_problem(error, _NO_AUTHORITY)}") from error
    if certificate is not None:
        load_certificate(made, certificate, key, settings=(_CERTIFICATE, _KEY))
    return made


def load_certificate(
    context: ssl.SSLContext, certificate: Path, key: Path | None, *, settings: tuple[str, str]
) -> None:
    """Have the context show a certificate. `settings` name its file and that of its key. Raises ConfigError."""
    of_certificate, of_key = settings
    setting, file = (of_key, key) if key else (of_certificate, certificate)
    try:
        certificate.read_bytes()
    except OSError as error:
        raise ConfigError(f"{of_certificate}: {certificate} cannot be used: {error.strerror}") from error
    try:
        context.load_cert_chain(certificate, key, password=_no_passphrase)
    except _EncryptedKeyError as error:
        raise ConfigError(
            f"{setting}: the key in {file} is encrypted, and nobody is there to type its passphrase: "
            "decrypt it with openssl pkey, and let only ingestd read the file"
        ) from error
    except ssl.SSLError as error:
        if "KEY_VALUES_MISMATCH" in str(error):
            raise ConfigError(f"{setting}: the key in {file} is not that of the certificate") from error
        if any(word in str(error) for word in _TOO_WEAK):
            raise ConfigError(f"{of_certificate}: the certificate in {certificate} is too weak: {_STRONGER}") from error
        raise ConfigError(f"{of_certificate} or {of_key} cannot be used: no certificate and its key (PEM)") from error
    except OSError as error:
        raise ConfigError(f"{setting}: {file} cannot be used: {error.strerror}") from error


def _no_passphrase() -> str:
    raise _EncryptedKeyError


def _problem(error: OSError, unreadable: str) -> str:
    return unreadable if isinstance(error, ssl.SSLError) else str(error.strerror)


def explain(error: Exception) -> str:
    """What an error of the connection to the broker means and, where it is one of TLS, what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERIFY.get(error.verify_code, f"its certificate is not accepted: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        found = _reason.search(str(error))
        return _REASONS.get(found[1] if found else "", f"TLS fails: {error}")
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
