# ruff: noqa: SIM300 - expected == actual
"""TLS of the HTTP API, with real certificates and another implementation on the other side (OpenSSL, by Python)."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Final

import pytest

from ingestd.demo.process import LOOPBACK
from ingestd.demo.servers import PrivateMosquitto
from tests.support.certificates import Authority
from tests.support.commands import finished
from tests.support.daemon import Daemon
from tests.support.event_streams import EventReader
from tests.support.polling import until
from tests.support.tokens import reading

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.tokens import Tokens

OF_ADDRESS: Final = 32
HEAD_SECONDS: Final = 10.0


class Tls(Daemon):
    """A daemon whose API is encrypted."""

    authority: Authority

    def connection(self, *, timeout: float) -> http.client.HTTPConnection:
        return http.client.HTTPSConnection(LOOPBACK, port(self), timeout=timeout, context=trusting(self.authority))


def port(daemon: Daemon) -> int:
    return int(daemon.url.rpartition(":")[2])


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority.own.certificate)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def daemon(authority: Authority, tokens: Tokens, shared_database_url: str) -> Iterator[Tls]:
    own = authority.issue("api")
    Tls.authority = authority
    with (
        PrivateMosquitto() as broker,
        Tls(
            mqtt_url=broker.url,
            database_url=shared_database_url,
            http_cert_file=str(own.certificate),
            http_key_file=str(own.key),
            tokens_file=str(tokens.path),
        ) as daemon,
    ):
        daemon.wait_healthy()
        yield daemon


def serial(daemon: Daemon, authority: Authority) -> str:
    """The serial number of the certificate that a new connection is shown."""
    with (
        socket.create_connection((LOOPBACK, port(daemon)), 10) as plain,
        trusting(authority).wrap_socket(plain, server_hostname=LOOPBACK) as secured,
    ):
        shown = secured.getpeercert()
        assert shown
        return str(shown["serialNumber"])


def test_answers_are_encrypted_and_the_certificate_is_verified(daemon: Tls, tmp_path: Path) -> None:
    assert 200 == daemon.request("GET", "/readyz").status
    with (
        socket.create_connection((LOOPBACK, port(daemon)), 10) as plain,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        trusting(Authority(tmp_path, "stranger")).wrap_socket(plain, server_hostname=LOOPBACK)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_new_versions_of_tls_are_spoken(daemon: Tls, version: ssl.TLSVersion) -> None:
    context = trusting(daemon.authority)
    context.minimum_version = context.maximum_version = version
    connection = http.client.HTTPSConnection(LOOPBACK, port(daemon), timeout=10, context=context)
    with closing(connection):
        connection.request("GET", "/livez")
        assert 200 == connection.getresponse().status


def test_live_values_are_encrypted_too(daemon: Tls, tokens: Tokens) -> None:
    headers = {"Authorization": f"Bearer {tokens.of['read']}"}
    sender = {"Authorization": f"Bearer {tokens.gateway}"}
    with EventReader(daemon, "kind=meter&device=encrypted", headers=headers) as reader:
        assert 201 == daemon.request("POST", "/v1/telemetry", body=reading("encrypted"), headers=sender).status
        until(lambda: ["encrypted"] == reader.devices)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_versions_of_tls_are_refused(daemon: Tls) -> None:
    context = trusting(daemon.authority)
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with socket.create_connection((LOOPBACK, port(daemon)), 10) as plain, pytest.raises(OSError, match=r"SSL|reset"):
        context.wrap_socket(plain, server_hostname=LOOPBACK)


def test_without_tls_nothing_is_answered(daemon: Tls) -> None:
    with socket.create_connection((LOOPBACK, port(daemon)), 10) as plain:
        plain.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            http.client.HTTPResponse(plain).begin()


def test_a_body_that_comes_with_the_end_of_the_handshake_is_not_lost(daemon: Tls, tokens: Tokens) -> None:
    """The first request may lie in the same packet as the last bytes of the handshake."""
    statuses = [
        daemon.request("POST", "/login", body={"token": tokens.of["read"]}, headers={"Connection": "close"}).status
        for _ in range(20)
    ]

    assert [200] * 20 == statuses


def test_the_cookie_of_a_login_goes_by_tls_only(daemon: Tls, tokens: Tokens) -> None:
    answer = daemon.request("POST", "/login", body={"token": tokens.of["read"]})

    name, *attributes = answer.headers["set-cookie"].split("; ")
    assert name.startswith("__Host-ingestd=")
    assert {"Secure", "HttpOnly", "SameSite=Strict", "Path=/"} <= set(attributes)
    assert 200 == daemon.request("GET", "/v1/vehicles", headers={"Cookie": name}).status
    plain = name.replace("__Host-", "")
    assert 401 == daemon.request("GET", "/v1/vehicles", headers={"Cookie": plain}).status


def test_connections_that_never_shake_hands_are_counted_and_ended(daemon: Tls) -> None:
    with ExitStack() as held:
        begun = time.monotonic()
        idle = [
            held.enter_context(socket.create_connection((LOOPBACK, port(daemon)), 10, source_address=("127.0.0.3", 0)))
            for _ in range(OF_ADDRESS + 8)
        ]
        for client in idle:
            client.setblocking(False)
        until(lambda: sum(map(is_ended, idle)) == 8)
        assert 200 == daemon.request("GET", "/readyz").status
        until(lambda: all(map(is_ended, idle)), within=HEAD_SECONDS + 10)

        assert time.monotonic() - begun >= HEAD_SECONDS - 1
    with socket.create_connection((LOOPBACK, port(daemon)), 10, source_address=("127.0.0.3", 0)) as plain:
        trusting(daemon.authority).wrap_socket(plain, server_hostname=LOOPBACK).close()


def is_ended(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_rubbish_in_place_of_a_handshake_costs_others_nothing(daemon: Tls) -> None:
    for rubbish in (b"\0" * 100, b"\x16\x03\x01\xff\xff" + b"\0" * 1000, b"\x80\x2e\x01\0\x02"):
        with socket.create_connection((LOOPBACK, port(daemon)), 10, source_address=("127.0.0.4", 0)) as plain:
            plain.sendall(rubbish)
            plain.shutdown(socket.SHUT_WR)
            assert b"HTTP" not in b"".join(iter(lambda client=plain: received(client), b""))  # type: ignore[misc]
    assert 200 == daemon.request("GET", "/readyz").status
    assert "Traceback" not in daemon.log.read_text()


def received(client: socket.socket) -> bytes:
    try:
        return client.recv(1000)
    except ConnectionError:
        return b""


def test_a_renewed_certificate_is_taken_by_reload_and_a_broken_one_is_not(
    broker: PrivateMosquitto, database_url: str, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    own = authority.issue("api")
    Tls.authority = authority
    settings = {
        "mqtt_url": broker.url,
        "database_url": database_url,
        "http_cert_file": str(own.certificate),
        "http_key_file": str(own.key),
    }
    with Tls(**settings) as daemon:
        daemon.wait_healthy()
        first = serial(daemon, authority)
        authority.issue("api")
        assert first == serial(daemon, authority)

        assert "daemon ingestd: certificate: read\n" == daemon.command("reload")
        second = serial(daemon, authority)
        own.key.write_bytes(authority.issue("other").key.read_bytes())
        failed = finished(tmp_path, "reload", **settings)

        assert first != second == serial(daemon, authority)
        assert 1 == failed.returncode
        assert f"error: INGESTD_HTTP_KEY_FILE: the key in {own.key} is not that of the certificate" in failed.stdout


@pytest.mark.parametrize("way", ["encrypted", "other", "missing", "no certificate", "no key"])
def test_a_certificate_that_cannot_be_used_ends_the_start_and_is_named(
    authority: Authority, tmp_path: Path, way: str
) -> None:
    good, other = authority.issue("good"), authority.issue("other")
    files: dict[str, tuple[Path | None, Path | None, str]] = {
        "encrypted": (good.certificate, good.encrypt_key(), "INGESTD_HTTP_KEY_FILE: the key in"),
        "other": (good.certificate, other.key, "is not that of the certificate"),
        "missing": (tmp_path / "nowhere", good.key, "INGESTD_HTTP_CERT_FILE:"),
        "no certificate": (None, good.key, "set INGESTD_HTTP_CERT_FILE too"),
        "no key": (good.certificate, None, "INGESTD_HTTP_CERT_FILE or INGESTD_HTTP_KEY_FILE cannot be used"),
    }
    certificate, key, said = files[way]
    settings = {} if certificate is None else {"http_cert_file": str(certificate)}
    settings |= {} if key is None else {"http_key_file": str(key)}

    for command in ("run", "check-config"):
        refused = finished(tmp_path, command, **settings)
        assert 1 == refused.returncode
        assert said in refused.stderr
        assert 1 == refused.stderr.count("\n")


def test_a_key_in_the_file_of_the_certificate_needs_no_setting(authority: Authority, tmp_path: Path) -> None:
    own = authority.issue("both")
    both = tmp_path / "both.pem"
    both.touch(0o600)
    both.write_bytes(own.certificate.read_bytes() + own.key.read_bytes())

    assert 0 == finished(tmp_path, "check-config", http_cert_file=str(both)).returncode
