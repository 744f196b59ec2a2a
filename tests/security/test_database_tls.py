# ruff: noqa: SIM300 - expected == actual
"""TLS to a real database: the right server is taken, others are refused in one line, and who does not look is warned.

The wheel's PostgreSQL has no TLS, so these tests need the one of Debian.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Final

import psycopg
import pytest

from tests.support.certificates import Authority, Certificate
from tests.support.commands import finished, many_finished
from tests.support.daemon import Daemon
from tests.support.debian import BINARIES, MISSING, DebianPostgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ingestd.demo.servers import PrivateMosquitto, PrivatePostgres

with_tls = pytest.mark.skipif(BINARIES is None, reason=MISSING)
FILES: Final = {"ssl_cert_file": "server.crt", "ssl_key_file": "server.key"}


class TlsPostgres(DebianPostgres):
    """Takes connections with TLS only."""

    def __init__(self, certificate: Certificate) -> None:
        super().__init__(settings={"fsync": "off", "ssl": "on", **FILES})
        self._certificate = certificate

    def _set_up(self) -> None:
        super()._set_up()
        shutil.copy(self._certificate.certificate, self._data / "server.crt")
        shutil.copy(self._certificate.key, self._data / "server.key")
        (self._data / "server.key").chmod(0o600)
        rules = self._data / "pg_hba.conf"
        rules.write_text(rules.read_text().replace("host ", "hostssl "))
        self._hand_over()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[PrivatePostgres]:
    """Its certificate is for 127.0.0.1."""
    with TlsPostgres(authority.issue("server")) as server:
        yield server


def verified(server: PrivatePostgres, authority: Authority) -> str:
    return f"{server.dsn()}?sslmode=verify-full&sslrootcert={authority.own.certificate}"


def warnings(directory: Path, *urls: str) -> list[list[str]]:
    """For each URL, the hosts that `check-config` warns of; it does so for both settings."""
    found = []
    settings = [("check-config", {"database_url": url, "owner_database_url": url}) for url in urls]
    for checked in many_finished(directory, settings):
        assert 0 == checked.returncode, checked.stderr
        events = [json.loads(line) for line in checked.stderr.splitlines()]
        hosts = [event["hosts"] for event in events if event["event"] == "database_not_verified"]
        assert len(events) == len(hosts)
        assert hosts in ([], hosts[:1] * 2)
        found.append(hosts[0] if hosts else [])
    return found


# A real server


@with_tls
def test_the_right_server_is_taken_and_the_connections_are_encrypted(
    server: PrivatePostgres, authority: Authority, broker: PrivateMosquitto
) -> None:
    url = verified(server, authority)
    with Daemon(mqtt_url=broker.url, database_url=url, owner_database_url=url) as daemon:
        daemon.wait_healthy()
        with psycopg.connect(url) as connection:
            encrypted = connection.execute(
                "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
                " WHERE application_name LIKE 'ingestd-%'"
            ).fetchall()
        assert [(True,)] == encrypted
        assert "database_not_verified" not in daemon.log.read_text()


@with_tls
@pytest.mark.parametrize("command", ["migrate", "run"])
@pytest.mark.parametrize("setting", ["database_url", "owner_database_url"])
def test_a_server_of_another_authority_is_refused_in_one_line(
    server: PrivatePostgres, stranger: Authority, tmp_path: Path, command: str, setting: str
) -> None:
    urls = {"database_url": server.dsn(), setting: verified(server, stranger)}

    assert refused(tmp_path, command, **urls).endswith("SSL error: certificate verify failed")


@with_tls
def test_a_server_of_another_name_is_refused_in_one_line(
    server: PrivatePostgres, authority: Authority, tmp_path: Path
) -> None:
    url = verified(server, authority).replace("127.0.0.1", "localhost")

    assert refused(tmp_path, "migrate", database_url=url).endswith('does not match host name "localhost"')


@with_tls
def test_an_expired_certificate_is_refused_in_one_line(authority: Authority, tmp_path: Path) -> None:
    with TlsPostgres(authority.issue("expired", days=-1)) as server:
        reason = refused(tmp_path, "migrate", database_url=verified(server, authority))

    assert reason.endswith("SSL error: certificate verify failed")


@with_tls
def test_an_authority_that_is_not_there_is_named(server: PrivatePostgres, tmp_path: Path) -> None:
    url = f"{server.dsn()}?sslmode=verify-full&sslrootcert=/nowhere/ca.crt"

    assert refused(tmp_path, "migrate", database_url=url).endswith(
        'root certificate file "/nowhere/ca.crt" does not exist'
    )


def test_a_server_without_tls_is_refused_in_one_line(
    postgres_server: PrivatePostgres, authority: Authority, tmp_path: Path
) -> None:
    reason = refused(tmp_path, "migrate", database_url=verified(postgres_server, authority))

    assert reason.endswith("server does not support SSL, but SSL was required")


def refused(directory: Path, command: str, **settings: str) -> str:
    """The only line that the command prints."""
    done = finished(directory, command, **settings)
    assert (1, "") == (done.returncode, done.stdout)
    (line,) = done.stderr.splitlines()
    assert line.startswith("ingestd: ")
    return line


# The warning


UNVERIFIED: Final = {
    "postgresql://me@db.example/x": ["db.example"],
    "postgresql://me@192.0.2.1/x?sslmode=require": ["192.0.2.1"],
    "postgresql://me@[2001:db8::1]/x": ["2001:db8::1"],
    "postgresql://me@127.0.0.1,a.example,b.example/x": ["a.example", "b.example"],
    "postgresql://me@localhost/x?hostaddr=192.0.2.1": ["192.0.2.1"],
    "postgresql://me@a.example,b.example/x?hostaddr=,127.0.0.1": ["a.example"],
    "postgresql:///x?host=db.example": ["db.example"],
    "postgresql:///x?service=far": ["far.example"],
}
VERIFIED_OR_LOCAL: Final = [
    "postgresql://me@127.0.0.1/x",
    "postgresql://me@127.8.0.1,[::1],localhost/x",
    "postgresql:///x?host=/run/postgresql",
    "postgresql://%2Frun%2Fpostgresql/x",
    "postgresql:///x",
    "postgresql://me@db.example/x?sslmode=verify-full",
    "postgresql://me@db.example/x?sslmode=verify-ca",
    "postgresql://me@db.example/x?sslrootcert=system",
    "postgresql://me@db.example/x?hostaddr=127.0.0.1",
    "postgresql:///x?service=verified",
]


def test_hosts_that_are_not_verified_are_named_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    services(tmp_path, monkeypatch)

    assert list(UNVERIFIED.values()) == warnings(tmp_path, *UNVERIFIED)
    assert [[]] * len(VERIFIED_OR_LOCAL) == warnings(tmp_path, *VERIFIED_OR_LOCAL)


def services(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = directory / "services.conf"
    file.write_text("[far]\nhost=far.example\n[verified]\nhost=far.example\nsslmode=verify-full\n")
    monkeypatch.setenv("PGSERVICEFILE", str(file))


def test_the_environment_counts_as_for_libpq(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://me@db.example/x"
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    assert [[], ["db.example"]] == warnings(tmp_path, url, f"{url}?sslmode=prefer")

    monkeypatch.delenv("PGSSLMODE")
    monkeypatch.setenv("PGHOST", "other.example")
    assert [["other.example"]] == warnings(tmp_path, "postgresql:///x")


def test_run_warns_too(tmp_path: Path) -> None:
    (done,) = many_finished(tmp_path, [("run", {"database_url": "postgresql://me@nowhere.invalid/x"})])

    assert "database_not_verified" in done.stderr


def test_a_misspelt_parameter_is_an_error_and_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    services(tmp_path, monkeypatch)
    unread = "libpq cannot read the URL of the database, or does not know a parameter in it"
    refused = (
        "libpq refuses a parameter of the database: look at the URL, at variables such as PGSSLMODE, and at the service"
        " file"
    )
    errors = {
        "sslmod=verify-full": unread,
        "sslmode=verified": refused,
        "service=none": refused,
        "sslrootcert=system&sslmode=require": refused,
    }
    for command in ("check-config", "run"):
        commands = [(command, {"database_url": f"postgresql://me@127.0.0.1/x?{wrong}"}) for wrong in errors]
        done = many_finished(tmp_path, commands)
        assert [f"ingestd: INGESTD_DATABASE_URL: {error}\n" for error in errors.values()] == [
            one.stderr for one in done
        ]
