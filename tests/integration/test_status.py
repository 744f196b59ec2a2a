# ruff: noqa: SIM300 - expected == actual
"""`ingestd status`: with the daemon, without it, with and without a token, without the database."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.support.commands import finished_in
from tests.support.daemon import Daemon
from tests.support.devices import Device
from tests.support.polling import until
from tests.support.readings import count, meter_message

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ingestd.demo.servers import PrivateMosquitto, PrivatePostgres


def status(environment: Mapping[str, str], directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return finished_in(environment, directory, "status", *options)


def as_json(environment: Mapping[str, str], directory: Path, *options: str, exit_status: int = 0) -> dict[str, Any]:
    finished = status(environment, directory, "--json", *options)
    assert (exit_status, "") == (finished.returncode, finished.stderr)
    found: dict[str, Any] = json.loads(finished.stdout)
    return found


def test_it_shows_the_daemon_and_the_database_and_each_without_the_other(
    broker: PrivateMosquitto, own_postgres: PrivatePostgres, own_database_url: str, tmp_path: Path
) -> None:
    now = datetime.now(UTC) - timedelta(seconds=30)
    with Daemon(mqtt_url=broker.url, database_url=own_database_url, flush_interval=0.1) as daemon:
        environment = daemon.environment
        daemon.wait_healthy()
        with Device(broker.url) as device:
            for second in range(3):
                device.publish(*meter_message("talker", now + timedelta(seconds=second)))
            device.publish(*meter_message("quiet", now))
            device.publish("meters/bad/telemetry", b"nonsense")
        until(lambda: count(own_database_url, "meter_history") == 4)
        until(lambda: count(own_database_url, "dead_letter") == 1)

        found = as_json(environment, tmp_path)
        assert {"url": daemon.url, "status": "healthy", "detail": None} == found["daemon"]
        assert 0 == found["health"]["bufferedMessages"] == found["inFlight"]
        assert {"received", "committed", "duplicate", "deadLettered"} == found["rates"].keys()
        assert "connected" == found["database"]
        assert {"not-json": 1} == found["deadLettersOfLastHour"]
        assert {"readings": {"talker": 3, "quiet": 1}, "partial": False} == found["topTalkers"]["meter"]
        assert {"readings": {}, "partial": False} == found["topTalkers"]["vehicle"]
        text = status(environment, tmp_path).stdout
        assert "top meters     talker 3, quiet 1 in the last 10 min\n" in text
        assert text.startswith(f"daemon         healthy  {daemon.url}\n")

        assert "last error     " not in text

        daemon.terminate()
        found = as_json(environment, tmp_path, exit_status=1)
        assert "down" == found["daemon"]["status"]
        assert f"{daemon.url} does not answer: Connection refused" == found["daemon"]["detail"]
        assert (None, None) == (found["health"], found["rates"])
        assert {"talker": 3, "quiet": 1} == found["topTalkers"]["meter"]["readings"]

        own_postgres.stop()
        found = as_json(environment, tmp_path, exit_status=1)
        assert "connected" != found["database"]
        assert found["topTalkers"] is None


def test_it_ends_with_status_1_without_the_database_and_shows_the_last_error_of_the_daemon(
    broker: PrivateMosquitto, own_postgres: PrivatePostgres, own_database_url: str, tmp_path: Path
) -> None:
    with Daemon(mqtt_url=broker.url, database_url=own_database_url) as daemon:
        daemon.wait_healthy()
        own_postgres.stop()
        until(lambda: "last error     " in status(daemon.environment, tmp_path).stdout, within=30)
        shown = status(daemon.environment, tmp_path)

    assert 1 == shown.returncode
    assert re.search(r"^daemon +unhealthy ", shown.stdout)
    assert re.search(r"^last error     \d{4}-\S+Z \w+: .*$", shown.stdout, re.MULTILINE)


def test_it_shows_the_session_the_replica_and_the_archive(
    broker: PrivateMosquitto, database_url: str, tmp_path: Path
) -> None:
    with Daemon(
        mqtt_url=broker.url, database_url=database_url, read_database_url=database_url, archive_dir=str(tmp_path)
    ) as daemon:
        daemon.wait_healthy()
        assert "session        " not in status(daemon.environment | {"INGESTD_HTTP_PORT": "1"}, tmp_path).stdout
        shown = status(daemon.environment, tmp_path).stdout

    assert "\nsession        ingestd: held by this daemon\n" in shown
    assert re.search(r"^replica        connected, \d+\.\d s behind$", shown, re.MULTILINE)
    assert "\narchive        ready\n" in shown


def test_where_tokens_are_used_it_needs_one_and_never_on_the_command_line(
    broker: PrivateMosquitto, shared_database_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "tokens"
    daemon = Daemon(mqtt_url=broker.url, database_url=shared_database_url, tokens_file=str(path))
    token = daemon.command("token", "add", "ops", "--scope", "read").strip()
    with daemon:
        daemon.wait_healthy()
        without = as_json(daemon.environment, tmp_path)
        assert ("healthy", None) == (without["daemon"]["status"], without["health"])
        assert "needs a token" in without["daemon"]["detail"]

        by_variable = as_json(daemon.environment | {"INGESTD_TOKEN": token}, tmp_path)
        assert "connected" == by_variable["health"]["broker"]
        file = tmp_path / "token"
        file.write_text(token + "\n")
        file.chmod(0o600)
        by_file = as_json(daemon.environment, tmp_path, "--token-file", str(file))
        assert "connected" == by_file["health"]["broker"]

        wrong = as_json(daemon.environment | {"INGESTD_TOKEN": "wrong"}, tmp_path)
        assert ("healthy", None) == (wrong["daemon"]["status"], wrong["health"])
        assert "a valid token is needed: INGESTD_TOKEN, or --token-file" == wrong["daemon"]["detail"]

        file.chmod(0o644)
        refused = status(daemon.environment, tmp_path, "--token-file", str(file))
        assert (1, "") == (refused.returncode, refused.stdout)
        assert "every account of this machine can use this secret" in refused.stderr


def test_watching_goes_on_until_ctrl_c(broker: PrivateMosquitto, shared_database_url: str, tmp_path: Path) -> None:
    with Daemon(mqtt_url=broker.url, database_url=shared_database_url) as daemon:
        daemon.wait_healthy()
        with subprocess.Popen(
            [sys.executable, "-m", "ingestd", "status", "--watch", "--json"],
            cwd=tmp_path,
            env=daemon.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as watching:
            assert watching.stdout
            assert watching.stderr
            lines = [json.loads(watching.stdout.readline()) for _ in range(2)]
            watching.send_signal(signal.SIGINT)
            assert 0 == watching.wait(30)
            assert "" == watching.stderr.read()

    assert ["healthy", "healthy"] == [line["daemon"]["status"] for line in lines]
    assert lines[0]["at"] < lines[1]["at"]
