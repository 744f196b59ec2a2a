"""The authority of the broker: it signs the certificates of the broker and of devices, and revokes those of devices."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ingestd.broker import private_file
from ingestd.errors import IngestdError

AUTHORITY_LIFE: Final = timedelta(days=20 * 365)
SERVER_LIFE: Final = timedelta(days=5 * 365)
DEVICE_LIFE: Final = timedelta(days=10 * 365)
EARLIER: Final = timedelta(hours=1)
"""Certificates are valid from a little earlier on, for devices whose clock is slow."""
LONGEST_NAME: Final = 64
"""Of a common name (RFC 5280)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A certificate and its key: PEM."""

    certificate: bytes
    key: bytes
    expires: datetime


class Authority:
    """One key and one certificate. Whoever has the key can log in as any device."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def made(cls) -> Self:
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("ingestd broker authority")
        start = datetime.now(UTC) - EARLIER
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + AUTHORITY_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(is_authority=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def read(cls, *, certificate: Path, key: Path) -> Self:
        try:
            signer = serialization.load_pem_private_key(key.read_bytes(), password=None)
            own = x509.load_pem_x509_certificate(certificate.read_bytes())
        except OSError as error:
            raise IngestdError(f"{error.filename}: {error.strerror}: the authority is needed here") from error
        except ValueError as error:
            raise IngestdError(f"{certificate} and {key} are not the authority that `broker init` made") from error
        if not isinstance(signer, ec.EllipticCurvePrivateKey):
            raise IngestdError(f"{key} is not the key that `broker init` made")
        return cls(own, signer)

    def write(self, *, certificate: Path, key: Path) -> None:
        private_file.write(certificate, self._certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)
        private_file.write(key, _pem(self._key))

    def server(self, hosts: tuple[str, ...]) -> Pair:
        """For the broker, under all names and addresses that clients know it by."""
        names = x509.SubjectAlternativeName([_alternative(host) for host in hosts])
        return self._issue(hosts[0][:LONGEST_NAME], SERVER_LIFE, ExtendedKeyUsageOID.SERVER_AUTH, names)

    def device(self, identity: str) -> Pair:
        return self._issue(identity, DEVICE_LIFE, ExtendedKeyUsageOID.CLIENT_AUTH)

    def revocations(self, before: bytes | None = None, *, also: bytes | None = None) -> bytes:
        """The list of revoked certificates (PEM): those of the list `before`, and the certificate `also`."""
        old = x509.load_pem_x509_crl(before) if before is not None else None
        now = datetime.now(UTC).replace(microsecond=0)
        # Mosquitto adds a list that it reads again to the one that it has; of the two, OpenSSL takes the later one.
        made_at = max(now - EARLIER, old.last_update_utc + timedelta(seconds=1)) if old is not None else now - EARLIER
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(made_at)
            .next_update(self._certificate.not_valid_after_utc)
        )
        for revoked in old or ():
            builder = builder.add_revoked_certificate(revoked)
        if also is not None:
            serial = x509.load_pem_x509_certificate(also).serial_number
            one = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
            builder = builder.add_revoked_certificate(one)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _issue(
        self,
        name: str,
        life: timedelta,
        purpose: x509.ObjectIdentifier,
        names: x509.SubjectAlternativeName | None = None,
    ) -> Pair:
        """For one purpose only: the broker's certificate cannot log in as a device, nor a device's be a broker's."""
        key = ec.generate_private_key(ec.SECP256R1())
        start = datetime.now(UTC) - EARLIER
        expires = min(start + life, self._certificate.not_valid_after_utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(self._certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(expires)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(is_authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return Pair(certificate=certificate.public_bytes(serialization.Encoding.PEM), key=_pem(key), expires=expires)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError as error:
        raise IngestdError(f"{host!r} is no host name and no address") from error


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
