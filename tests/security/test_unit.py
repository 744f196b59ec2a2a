# ruff: noqa: SIM300 - expected == actual
"""The systemd unit: what it keeps the daemon from, what it leaves it, and where its secrets are."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from socket import create_connection
from typing import TYPE_CHECKING, Final

import pytest

from ingestd.config import Settings
from ingestd.http.open_connections import ConnectionLimits
from ingestd.sources import PREFIX
from tests.faults.scene import frozen
from tests.support import unit_file
from tests.support.daemon import Daemon
from tests.support.devices import Device
from tests.support.documents import ROOT
from tests.support.polling import until

if TYPE_CHECKING:
    from ingestd.demo.servers import PrivateMosquitto, PrivatePostgres

MOST_EXPOSED: Final = 2.0
BESIDE_HTTP: Final = 128
"""Open files for the database, the broker, a webhook, standard output, and what Python and uvloop have open."""
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


@needs_systemd
def test_systemd_rates_the_exposure_at_two_or_less() -> None:
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit_file.UNIT)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout

    found = re.search(r"Overall exposure level for ingestd\.service: ([0-9.]+)", rated)

    assert found, rated
    assert MOST_EXPOSED >= float(found[1]), rated


@needs_systemd
def test_systemd_has_no_complaint_about_the_unit(tmp_path: Path) -> None:
    copy = tmp_path / unit_file.UNIT.name
    installed = unit_file.UNIT.read_text(encoding="utf-8").replace("/opt/ingestd/bin/ingestd", sys.executable)
    copy.write_text(installed, encoding="utf-8")

    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(copy)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (0, "") == (verified.returncode, verified.stdout + verified.stderr)


def test_there_are_more_open_files_than_connections() -> None:
    assert ConnectionLimits().total + BESIDE_HTTP <= int(unit_file.value("LimitNOFILE"))


def test_the_limit_of_memory_is_half_as_much_again_as_the_most_that_was_measured() -> None:
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    measured = [int(figure) * 2**20 for figure in re.findall(r"\| ([0-9]+) MiB \|$", page, re.MULTILINE)]

    assert measured
    assert 1.5 * max(measured) <= unit_file.size("MemoryMax")


def test_no_secret_is_in_the_environment() -> None:
    set_there = [assignment.partition("=") for assignment in unit_file.values("Environment")]
    credentials = {path.removeprefix("%d/") for _, _, path in set_there if path.startswith("%d/")}
    loaded = dict(credential.split(":") for credential in unit_file.values("LoadCredential"))

    assert set_there
    assert [] == [
        name for name, _, path in set_there if not name.endswith("_FILE") or not path.startswith(("%d/", "%S/"))
    ]
    assert credentials == loaded.keys()
    for name, _, _ in set_there:
        field = name.removeprefix(PREFIX).lower()
        assert {field, field.removesuffix("_file")} & Settings.model_fields.keys(), name
    assert {"database_url", "mqtt_password"} <= loaded.keys()
    assert all(path.startswith("/etc/ingestd/credentials/") for path in loaded.values())


def test_the_tokens_are_in_a_directory_that_only_the_daemon_can_use() -> None:
    assert "0700" == unit_file.value("StateDirectoryMode")
    assert f"INGESTD_TOKENS_FILE=%S/{unit_file.value('StateDirectory')}/tokens" in unit_file.values("Environment")


def test_no_secret_is_written_to_disk_by_a_crash_or_by_swapping() -> None:
    assert ("0", "0") == (unit_file.value("LimitCORE"), unit_file.value("MemorySwapMax"))


def test_a_flood_while_the_database_hangs_takes_less_than_half_of_the_memory(
    broker: PrivateMosquitto, own_postgres: PrivatePostgres, own_database_url: str
) -> None:
    """With all HTTP connections of one address taken, and bodies of 4 MiB, which are held until they are stored."""
    message = ("meters/hostile/telemetry", b"x" * 8192)
    with Daemon(mqtt_url=broker.url, database_url=own_database_url, flush_interval=0.2) as daemon:
        daemon.wait_healthy()
        files = int(unit_file.value("LimitNOFILE"))
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (files, files))
        with frozen(own_postgres), Device(broker.url) as device, ExitStack() as connections:
            device.publish_many([message] * 8000)  # twice what the buffer takes
            until(lambda: daemon.metric("ingestd_in_flight") > 3000)
            port = int(daemon.url.rpartition(":")[2])
            for _ in range(ConnectionLimits().of_address - 4):
                connection = connections.enter_context(create_connection(("127.0.0.1", port), timeout=5))
                connection.sendall(
                    b"POST /v1/telemetry HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                    b"Content-Length: 4000000\r\n\r\n" + b" " * 1_000_000
                )
            assert 200 == daemon.request("GET", "/livez", timeout=5.0).status
            peak = peak_memory(daemon.pid)
        until(lambda: daemon.metric("ingestd_in_flight") == 0, within=60)
        assert max(peak, peak_memory(daemon.pid)) < unit_file.size("MemoryMax") / 2


def peak_memory(pid: int) -> int:
    """Bytes that were resident at most."""
    found = re.search(r"VmHWM:\s+([0-9]+) kB", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))
    assert found
    return int(found[1]) * 1024
