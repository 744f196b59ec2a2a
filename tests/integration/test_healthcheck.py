# ruff: noqa: SIM300 - expected == actual
"""`ingestd healthcheck` against a real daemon: with and without TLS, tokens, broker, and daemon."""

from __future__ import annotations

import http.server
import socket
import threading
from typing import TYPE_CHECKING, ClassVar

import pytest

from ingestd.commands.daemon_client import DaemonClient
from ingestd.config import Settings
from ingestd.demo.process import LOOPBACK
from tests.support.certificates import Authority
from tests.support.commands import finished_in
from tests.support.daemon import Daemon
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ingestd.demo.servers import PrivateMosquitto


def check(environment: Mapping[str, str], directory: Path) -> tuple[int, str, str]:
    """Exit status, standard output, standard error."""
    finished = finished_in(environment, directory, "healthcheck")
    return finished.returncode, finished.stdout, finished.stderr


def test_it_is_well_while_readings_flow_and_says_in_one_line_when_they_do_not(
    broker: PrivateMosquitto, shared_database_url: str, tmp_path: Path
) -> None:
    with Daemon(mqtt_url=broker.url, database_url=shared_database_url) as daemon:
        daemon.wait_healthy()
        assert (0, f"{daemon.url}: healthy\n", "") == check(daemon.environment, tmp_path)

        broker.stop()
        until(lambda: daemon.request("GET", "/readyz").status == 503)
        line = f"ingestd: {daemon.url}: unhealthy (503); /health and the log say why\n"
        assert (1, "", line) == check(daemon.environment, tmp_path)
        daemon.terminate()

        line = f"ingestd: {daemon.url} does not answer: Connection refused\n"
        assert (1, "", line) == check(daemon.environment, tmp_path)


def test_with_tls_it_trusts_the_certificate_of_the_settings_and_no_other(
    broker: PrivateMosquitto, shared_database_url: str, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    own, other = (authority.issue(name, address="192.0.2.1") for name in ("own", "other"))
    tls = {"http_cert_file": str(own.certificate), "http_key_file": str(own.key)}
    with Daemon(mqtt_url=broker.url, database_url=shared_database_url, **tls) as daemon:
        environment = daemon.environment
        url = daemon.url.replace("http://", "https://")
        until(lambda: check(environment, tmp_path)[0] == 0, within=30)
        assert (0, f"{url}: healthy\n", "") == check(environment, tmp_path)

        foreign = environment | {
            "INGESTD_HTTP_CERT_FILE": str(other.certificate),
            "INGESTD_HTTP_KEY_FILE": str(other.key),
        }
        code, _, line = check(foreign, tmp_path)
        assert 1 == code
        assert line.startswith(f"ingestd: {url} does not answer: its certificate is not that of INGESTD_HTTP_CERT_FILE")

        missing = environment | {"INGESTD_HTTP_CERT_FILE": str(tmp_path / "none")}
        line = f"ingestd: INGESTD_HTTP_CERT_FILE: {tmp_path / 'none'} cannot be used: No such file or directory\n"
        assert (1, "", line) == check(missing, tmp_path)


class Other(http.server.BaseHTTPRequestHandler):
    """Some other server."""

    body: ClassVar = b"welcome"

    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def other_server() -> Iterator[int]:
    with http.server.HTTPServer((LOOPBACK, 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_another_server_is_no_daemon(other_server: int, tmp_path: Path) -> None:
    code, _, line = check({"INGESTD_HTTP_PORT": str(other_server), "INGESTD_HTTP_HOST": LOOPBACK}, tmp_path)

    assert (1, 1) == (code, line.count("\n"))
    assert "it is no ingestd that answers (404)" in line


def test_a_port_that_nobody_knows_is_an_error_of_the_settings(tmp_path: Path) -> None:
    expected = "ingestd: INGESTD_HTTP_PORT is 0: nobody knows the port of the daemon\n"
    assert (1, "", expected) == check({"INGESTD_HTTP_PORT": "0"}, tmp_path)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:8080"),  # noqa: S104 - nobody listens
        ("::", "http://[::1]:8080"),
        ("192.0.2.7", "http://192.0.2.7:8080"),
        ("localhost", "http://localhost:8080"),
    ],
)
def test_a_daemon_that_listens_on_all_addresses_is_asked_on_loopback(host: str, url: str) -> None:
    assert url == DaemonClient(Settings(http_host=host), seconds=1).url


def test_a_server_that_says_nothing_is_not_waited_for_longer_than_docker_waits(tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as silent:
        port = silent.getsockname()[1]
        expected = f"ingestd: http://{LOOPBACK}:{port} does not answer: timed out\n"
        assert (1, "", expected) == check({"INGESTD_HTTP_PORT": str(port)}, tmp_path)
