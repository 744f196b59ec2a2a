"""A real Mosquitto, started with the files that `ingestd broker init` writes; only ports are other ones."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import ssl
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

from ingestd.broker.directory import BrokerDirectory
from ingestd.demo.process import LOOPBACK, LoopbackPort, PrivateServer
from tests.support.devices import Device

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PASSWORDS = {name: f"password-of-{name}" for name in ("ingestd", "meter-001", "EV-101", "meter-002")}
DEVICES = tuple(name for name in PASSWORDS if name != "ingestd")
WITH_CERTIFICATE = "aa:bb:cc"
"""A name that a password file cannot have."""
DEADLINE = 10.0
# Debian keeps the broker where an ordinary user's PATH does not look.
SEARCH_PATH = "/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin:/bin:/opt/homebrew/sbin:/opt/homebrew/bin"
READINGS = ("meters/+/telemetry", "vehicles/+/telemetry")


def program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path=SEARCH_PATH)
    assert found, f"{name} is needed: make mosquitto"
    return found


class ShippedBroker(PrivateServer):
    """With an account for each of PASSWORDS, and a certificate for WITH_CERTIFICATE. `changes` are to its lines."""

    name = "Mosquitto"

    def __init__(self, changes: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._changes = dict(changes or {})
        self._password_port, self._certificate_port = LoopbackPort(), LoopbackPort()

    @property
    def files(self) -> BrokerDirectory:
        return BrokerDirectory(self.directory / "broker")

    @property
    def internal_url(self) -> str:
        return f"mqtt://{LOOPBACK}:{self.port}"

    @property
    def password_port(self) -> int:
        return self._password_port.number

    @property
    def certificate_port(self) -> int:
        return self._certificate_port.number

    def device(self, identity: str, *, client_id: str | None = None, password: str | None = None) -> Device:
        """By its password."""
        account = f"{identity}:{password or PASSWORDS[identity]}"
        url = f"mqtt://{account}@{LOOPBACK}:{self.password_port}"
        return Device(url, client_id=client_id, tls=self.trusting())

    def device_with_certificate(self, certificate: Path, key: Path, *, client_id: str | None = None) -> Device:
        context = self.trusting()
        context.load_cert_chain(certificate, key)
        return Device(f"mqtt://{LOOPBACK}:{self.certificate_port}", client_id=client_id, tls=context)

    def trusting(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.files.ca)

    def client(
        self, name: str, *options: str, user: str | None = None, password: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """mosquitto_pub or mosquitto_sub: `ingestd` and nobody at the internal listener, devices at their own."""
        port = ["-p", str(self.port)]
        if user in DEVICES:
            port = ["-p", str(self.password_port), "--cafile", str(self.files.ca)]
        account = [] if user is None else ["-u", user, "-P", password or PASSWORDS[user]]
        command = [program(name), "-h", LOOPBACK, *port, "-V", "5", *account, *options]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=2 * DEADLINE)

    def publish(self, topic: str, payload: str, *, user: str, qos: int = 1) -> None:
        done = self.client("mosquitto_pub", "-t", topic, "-m", payload, "-q", str(qos), user=user)
        assert done.returncode == 0, done.stderr

    def open_session(self, *topics: str, user: str) -> None:
        """Subscribe and go away; what is published from now on waits for `collect`."""
        done = self.client("mosquitto_sub", *self._session(topics, user), "-E", user=user)
        assert done.returncode == 0, done.stderr

    def collect(self, *topics: str, user: str, count: int, within: float = DEADLINE) -> list[str]:
        """The first `count` waiting messages, each as "topic payload", or fewer when there are no more."""
        options = [*self._session(topics, user), "-v", "-C", str(count), "-W", str(int(within))]
        return self.client("mosquitto_sub", *options, user=user).stdout.splitlines()

    def reload(self) -> None:
        """Read passwords, access rules and certificates again. It answers ahead of the next connection."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """In good order, so that its state is saved."""
        self._end(signal.SIGTERM)

    def close(self) -> None:
        super().close()
        self._password_port.close()
        self._certificate_port.close()

    def _set_up(self) -> None:
        self.files.set_up((LOOPBACK,), internal=LOOPBACK, password=PASSWORDS["ingestd"])
        for identity in DEVICES:
            self.files.add_with_password(identity, PASSWORDS[identity])
        self.files.add_with_certificate(WITH_CERTIFICATE)
        text = self.files.config.read_text()
        for old, new in self._changes.items():
            assert text.count(old) >= 1, f"{old!r} is not in the shipped file"
            text = text.replace(old, new)
        self.files.config.write_text(text)

    def _command(self) -> list[str]:
        text = self.files.config.read_text()
        for shipped, port in (("1883", self.port), ("8883", self.password_port), ("8884", self.certificate_port)):
            text = re.sub(rf"^listener {shipped}\b.*$", f"listener {port} {LOOPBACK}", text, flags=re.MULTILINE)
        text = text.replace("log_dest stdout", "log_dest stderr")  # not held back in a buffer
        config = self.directory / "with-ports.conf"
        config.write_text(text)
        self._hand_over()
        return [program("mosquitto"), "-c", str(config)]

    def _is_ready(self) -> bool:
        try:
            for port in (self.password_port, self.certificate_port):
                socket.create_connection((LOOPBACK, port), timeout=1.0).close()
            with socket.create_connection((LOOPBACK, self.port), timeout=1.0) as connection:
                # It listens before it handles SIGHUP, which then ends it. Who refuses this packet handles both.
                connection.sendall(b"\0\0")
                with suppress(ConnectionResetError):
                    connection.recv(1)
        except (ConnectionRefusedError, TimeoutError):
            return False
        return True

    @staticmethod
    def _session(topics: tuple[str, ...], user: str) -> list[str]:
        subscriptions = [word for topic in topics for word in ("-t", topic)]
        return ["-i", f"session-of-{user}", "-c", "-x", "600", "-q", "1", *subscriptions]
