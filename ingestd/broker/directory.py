"""The directory of a broker: its configuration, certificates and accounts, and how devices are added and removed."""

import fcntl
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Final

from ingestd.broker import passwords, private_file
from ingestd.broker.certificates import Authority
from ingestd.errors import IngestdError
from ingestd.model.stream import IDENTITY_RULE, STREAMS, is_identity

INGESTD: Final = "ingestd"
HEALTH: Final = "health"
SHIPPED_DIRECTORY: Final = "/mosquitto/ingestd"
"""Where the shipped files are in the container of the broker; also their paths name it."""
LISTENER: Final = "listener 1883 127.0.0.1\n"
_FILES: Final = files("ingestd") / "broker" / "files"
_OURS: Final = "`ingestd broker init` wrote this file"
"""Stands in the first line of the configuration."""
_USER: Final = "mosquitto"
"""Mosquitto becomes this user where root starts it."""


class BrokerDirectory:
    """Changes take effect when the broker is started, or reads its files again (SIGHUP)."""

    def __init__(self, path: Path, *, client_id: str = INGESTD) -> None:
        """Devices must not be named like the client ids of ingestd: they begin with `client_id`."""
        self.path = path.absolute()
        self.ca = self.path / "ca.crt"
        self.config = self.path / "mosquitto.conf"
        self.password_of_ingestd = self.path / "ingestd.password"
        self.handed_out = self.path / "certificates"
        self._accounts = self.path / "accounts"
        self._internal_rules = self.path / "acl-internal"
        self._devices = self.path / "devices"
        self._revoked = self.path / "revoked.crl"
        self._authority = self.path / "authority"
        self._issued = self._authority / "issued"
        self._client_id = client_id

    def set_up(self, hosts: tuple[str, ...], *, internal: str, password: str | None) -> datetime:
        """Write what is missing, and in any case a new certificate of the broker; returns when that expires.

        `password` is that of ingestd; without it one is made and left in the file `ingestd.password`.
        """
        try:
            if self.config.exists() and _OURS not in self.config.read_text(encoding="utf-8", errors="replace"):
                raise IngestdError(f"{self.config} is there, and not from here: move it away, or name another --dir")
            self._make_directories()
        except OSError as error:
            raise IngestdError(f"{error.filename}: {error.strerror}") from error
        with self._locked():
            key = self._authority / "ca.key"
            if not key.exists():
                Authority.made().write(certificate=self.ca, key=key)
            authority = self._read_authority()
            server = authority.server(hosts)
            private_file.write(self.path / "server.key", server.key)
            private_file.write(self.path / "server.crt", server.certificate)
            if not self._revoked.exists():
                private_file.write(self._revoked, authority.revocations())
            self._write_configuration(internal)
            self._make_accounts(password)
            if not self._devices.exists():
                passwords.write(self._devices, {})
        return server.expires

    def add_with_password(self, identity: str, password: str) -> None:
        """A device that has a password already has this one from then on."""
        self.check(identity)
        self._check_password(identity, password)
        with self._locked():
            passwords.write(self._devices, {**passwords.read(self._devices), identity: passwords.hashed(password)})

    def add_with_certificate(self, identity: str) -> tuple[Path, Path]:
        """The files of the certificate and its key, for the device."""
        self.check(identity)
        with self._locked():
            issued = self._issued / f"{identity}.crt"
            if issued.exists():
                raise IngestdError(f"{identity} has a certificate; remove the device first")
            pair = self._read_authority().device(identity)
            private_file.write(issued, pair.certificate)
            certificate, key = (self.handed_out / f"{identity}.{end}" for end in ("crt", "key"))
            private_file.write(key, pair.key)
            private_file.write(certificate, pair.certificate)
        return certificate, key

    def remove(self, identity: str) -> None:
        """Take the passwords away, and revoke the certificate."""
        if identity in (INGESTD, HEALTH):
            raise IngestdError(f"{identity} is an account that ingestd needs")
        with self._locked():
            with_password = [path for path in (self._devices, self._accounts) if identity in passwords.read(path)]
            issued = self._issued / f"{identity}.crt"
            is_issued = is_identity(identity) is not None and issued.exists()
            if not with_password and not is_issued:
                raise IngestdError(f"{identity} has no account")
            for path in with_password:
                others = {name: hash_ for name, hash_ in passwords.read(path).items() if name != identity}
                passwords.write(path, others)
            if is_issued:
                revocations = self._read_authority().revocations(self._revoked.read_bytes(), also=issued.read_bytes())
                private_file.write(self._revoked, revocations)
                issued.unlink()
                for end in ("crt", "key"):
                    (self.handed_out / f"{identity}.{end}").unlink(missing_ok=True)

    def add_publisher(self, name: str, password: str) -> None:
        """An account of the internal listener that publishes as any device. It gets a new password if it is there."""
        self.check(name)
        self._check_password(name, password)
        with self._locked():
            passwords.write(self._accounts, {**passwords.read(self._accounts), name: passwords.hashed(password)})
            rules = self._internal_rules.read_text(encoding="utf-8")
            if f"\nuser {name}\n" not in rules:
                lines = [f"\nuser {name}", *(f"topic write {stream.topic_filter}" for stream in STREAMS)]
                private_file.write(self._internal_rules, rules + "".join(f"{line}\n" for line in lines))

    def check(self, identity: str) -> None:
        """Raises IngestdError where no device can have this name."""
        if not is_identity(identity):
            raise IngestdError(f"{identity!r} is no identity of a device: {IDENTITY_RULE}")
        name = identity.casefold()
        for reserved in (INGESTD, self._client_id.casefold()):
            if name == reserved or name.startswith(f"{reserved}-"):
                raise IngestdError(f"{identity}: this name is reserved: it is, or begins like, a client id of ingestd")
        if name == HEALTH:
            raise IngestdError(f"{identity}: this name is reserved for health checks")

    @staticmethod
    def _check_password(name: str, password: str) -> None:
        if ":" in name:
            raise IngestdError(f"{name}: Mosquitto's password file cannot have a name with ':'; use --certificate")
        if len(password) < passwords.SHORTEST or not password.isprintable():
            raise IngestdError(f"{name}: a password has {passwords.SHORTEST} characters or more, all printable")

    def _make_directories(self) -> None:
        if not self.path.is_dir():
            self.path.mkdir(parents=True, mode=0o700)
        if os.geteuid() == 0 and self.path.stat().st_uid == 0:
            try:
                user = pwd.getpwnam(_USER)
            except KeyError:
                pass  # the broker is not of this system; whoever starts it gives it the files
            else:
                os.chown(self.path, user.pw_uid, user.pw_gid)
        self.path.chmod(0o700)
        for directory in (self.handed_out, self.path / "data", self.path / HEALTH, self._authority, self._issued):
            private_file.make_directory(directory)
        if os.geteuid() == 0:
            # The broker itself never needs the key of the authority.
            for directory in (self._authority, self._issued):
                os.chown(directory, 0, 0)

    def _write_configuration(self, internal: str) -> None:
        for name in ("mosquitto.conf", "acl-internal", "acl-devices"):
            if not (self.path / name).exists():
                text = (_FILES / name).read_text(encoding="utf-8").replace(SHIPPED_DIRECTORY, str(self.path))
                listener = LISTENER.replace("127.0.0.1", internal)
                private_file.write(self.path / name, text.replace(LISTENER, listener))

    def _make_accounts(self, password: str | None) -> None:
        accounts = passwords.read(self._accounts) if self._accounts.exists() else {}
        if password is not None:
            accounts[INGESTD] = passwords.hashed(password)
        elif INGESTD not in accounts:
            password = passwords.generated()
            private_file.write(self.password_of_ingestd, password)
            accounts[INGESTD] = passwords.hashed(password)
        if HEALTH not in accounts:
            password = passwords.generated()
            # Options of mosquitto_sub, which reads them from here: so the password is in no command line.
            private_file.write(self.path / HEALTH / "mosquitto_sub", f"-u {HEALTH}\n-P {password}\n")
            accounts[HEALTH] = passwords.hashed(password)
        passwords.write(self._accounts, accounts)

    def _read_authority(self) -> Authority:
        return Authority.read(certificate=self.ca, key=self._authority / "ca.key")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One command at a time changes the files."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise IngestdError(f"{self.path}: {error.strerror}; `ingestd broker init` makes it") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        except OSError as error:
            raise IngestdError(f"{error.filename}: {error.strerror}") from error
        finally:
            os.close(descriptor)
