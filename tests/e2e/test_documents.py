# ruff: noqa: SIM300 - expected == actual
"""What README and docs show is what happens: commands are run, and answers compared with those that are shown."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest

from ingestd.demo.fleet import Fleet
from ingestd.demo.servers import PrivateMosquitto
from tests.support.api import map_vehicle
from tests.support.daemon import Daemon
from tests.support.documents import ANSWERS, ROOT, Block, all_blocks, blocks, differences
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEVICES = 2
SHOWN_ADDRESS = "http://127.0.0.1:8080"
NOT_RUN = {
    "make": "sets up an environment, runs for minutes; test_demo.py runs the demo, a unit test looks for the target",
    "docker": "a test starts no containers",
    "sudo": "changes the machine",
    "createdb": "changes the server that is installed; test_roles.py runs these commands on servers of its own",
    "ingestd roles |": "the same",
    "INGESTD_OWNER_DATABASE_URL_FILE": "the same",
    "psql": "administers a server that is not ours",
    "python3 -m venv": "writes into /opt",
    "/opt/ingestd/bin/pip": "writes into /opt; tests/integration/test_locks.py tries its options",
    "install -m 600 .env.example .env": "would change the checkout; unit tests read the file",
    "curl -N": "never ends; test_stream.py reads the stream",
}
"""How commands begin that are not run here, and why; unit tests look at their syntax."""
ENDLESS = ("ingestd run", "ingestd simulate", "ingestd demo")
"""Commands of which only the help is asked for."""


@pytest.fixture(scope="module")
def daemon(shared_database_url: str) -> Iterator[Daemon]:
    """With a fleet like that of the demo for more than a day, one vehicle that charges, and an alert that is over."""
    with (
        PrivateMosquitto() as broker,
        Daemon(mqtt_url=broker.url, database_url=shared_database_url, mqtt_client_id="ingestd-documents") as daemon,
    ):
        daemon.wait_healthy()
        now = datetime.now(UTC).replace(microsecond=0)
        fleet = Fleet(meters=DEVICES, vehicles=DEVICES, seed=1, one_is_bad=True)
        for vehicle, charger in zip(fleet.vehicles, fleet.chargers, strict=True):
            map_vehicle(daemon, vehicle.vehicle_id, charger.meter_id, now - timedelta(hours=26))
        past = fleet.past(until=now, span=timedelta(hours=25), interval=timedelta(minutes=5))
        answer = daemon.request("POST", "/v1/telemetry", body=[json.loads(payload) for _, payload in past])
        assert 201 == answer.status
        at = (now - timedelta(seconds=30)).isoformat()
        charging = [
            {"vehicleId": "EV-0001", "soc": 40, "kwhDeliveredDc": 0.4, "batteryTemp": 30, "timestamp": at},
            {"meterId": "meter-0001", "kwhConsumedAc": 0.5, "voltage": 230, "timestamp": at},
        ]
        assert 201 == daemon.request("POST", "/v1/telemetry", body=charging).status
        with psycopg.connect(shared_database_url) as database:
            database.execute(
                "INSERT INTO alert (kind, subject, state, since, raised_at, cleared_at, value, bound, detail) VALUES"
                " ('battery-over-temperature', 'EV-0001', 'cleared', now(), now(), now(), 56.5, 60, '56.5 degrees')"
            )
        until(lambda: is_in_ledger(daemon, fleet), within=120)
        yield daemon


def is_in_ledger(daemon: Daemon, fleet: Fleet) -> bool:
    """Whether all that was sent is; until then, answers about the fleet lack some of it."""
    answer = daemon.request("GET", "/v1/analytics/fleet", headers={"Cache-Control": "no-cache"}).json()
    meters = [
        daemon.request("GET", f"/v1/analytics/meter/{charger.meter_id}/series?bucket=1d").json()["points"]
        for charger in fleet.chargers
    ]
    kwh = sum(point["kwh"] or 0.0 for points in meters for point in points)
    vehicles = daemon.request("GET", "/v1/vehicles").json()["vehicles"]
    return pytest.approx(kwh) == answer["energy"]["acConsumed"] and all(
        vehicle["efficiencyRatio"] is not None for vehicle in vehicles
    )


@pytest.fixture
def environment(daemon: Daemon, tmp_path: Path) -> dict[str, str]:
    """That of a shell in which `ingestd` is this checkout's, with the settings of the daemon."""
    command = tmp_path / "bin" / "ingestd"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ingestd "$@"\n')
    command.chmod(0o755)
    path = os.pathsep.join([str(command.parent), daemon.environment["PATH"]])
    return daemon.environment | {"PATH": path, "B": daemon.url}


def is_run(command: str) -> bool:
    return not command.startswith(tuple(NOT_RUN)) and command not in NOT_RUN


def output_of(command: str, daemon: Daemon, environment: dict[str, str], directory: Path) -> str:
    """It has to succeed."""
    command = command.replace(SHOWN_ADDRESS, daemon.url).replace("/opt/ingestd/bin/ingestd", "ingestd")
    if command.startswith(ENDLESS):
        command = f"{shlex.join(shlex.split(command, comments=True)[:2])} --help"
    finished = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert 0 == finished.returncode, f"{command}\n{finished.stderr}"
    return finished.stdout


def assert_alike(shown: Block, output: str) -> None:
    """The output of a command, against the block that shows it."""
    first_line, _, _ = shown.text.partition("\n")
    match shown.language:
        case "json":
            assert [] == list(differences(json.loads(shown.text), json.loads(output))), shown.place
        case "csv":
            assert first_line == output.splitlines()[0], shown.place
            assert first_line.count(",") == output.splitlines()[1].count(","), shown.place
        case "output":
            assert first_line in output.splitlines(), shown.place


@pytest.mark.parametrize(
    "page", dict.fromkeys(block.page for block in all_blocks("sh")), ids=lambda page: str(page.relative_to(ROOT))
)
def test_what_a_page_shows_is_what_happens(
    page: Path, daemon: Daemon, environment: dict[str, str], tmp_path: Path
) -> None:
    output: str | None = None
    for block in blocks(page):
        if block.language == "sh":
            outputs = [output_of(one, daemon, environment, tmp_path) for one in block.commands if is_run(one)]
            output = outputs[-1] if outputs else None
        elif block.language in ANSWERS:
            assert output is not None, f"{block.place}: the command before it is not run"
            assert_alike(block, output)


def test_the_api_page_has_every_route(daemon: Daemon) -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")

    assert [] == [route for route in daemon.request("GET", "/").json()["routes"] if f"{route}`" not in page]


def test_metrics_that_are_to_be_watched_exist(daemon: Daemon) -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(ingestd_[a-z_]+)`", page))
    roles = {"ingestd_owner", "ingestd_app", "ingestd_read"}
    replica = {"ingestd_replica_up", "ingestd_replica_lag_seconds"}  # where there is one
    told = (
        roles
        | replica
        | set(re.findall(r"^# TYPE (\S+)", daemon.request("GET", "/metrics").body.decode(), re.MULTILINE))
    )

    assert named
    assert set() == named - told


def test_commands_that_are_not_run_are_still_shown() -> None:
    commands = [command for block in all_blocks("sh") for command in block.commands]

    assert [] == [beginning for beginning in NOT_RUN if not any(one.startswith(beginning) for one in commands)]
