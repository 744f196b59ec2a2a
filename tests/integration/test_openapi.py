# ruff: noqa: SIM300 - expected == actual
"""The OpenAPI document: it is valid, names all there is, and every answer is as it says, whatever is asked."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from openapi_spec_validator import validate

from ingestd.demo.servers import PrivateMosquitto
from ingestd.http.openapi import document
from ingestd.http.routes import OPERATIONS
from ingestd.http.telemetry import PATHS
from tests.support.daemon import Daemon
from tests.support.readings import count, rfc3339
from tests.support.tokens import SCOPES, Tokens, ask

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
)
"""Not `positive_data_acceptance`: a schema cannot say that a window ends after it begins."""

TELEMETRY = "/v1/telemetry"
STREAM = "/v1/stream"  # whose answer does not end
OTHERS = [option for path in (STREAM, *(to.path for to in PATHS)) for option in ("--exclude-path", path)]
DEVICE = "device-1"  # of both kinds


@pytest.fixture(scope="module")
def broker() -> Iterator[PrivateMosquitto]:
    with PrivateMosquitto() as server:
        yield server


@pytest.fixture
def daemon(broker: PrivateMosquitto, database_url: str) -> Iterator[Daemon]:
    with Daemon(mqtt_url=broker.url, database_url=database_url) as daemon:
        daemon.wait_healthy()
        yield daemon


def fuzzed(daemon: Daemon, directory: Path, *options: str) -> None:
    """Ask all operations whatever their schemas allow, and what they do not allow."""
    run = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{daemon.url}/openapi.json"),
            *("--checks", ",".join(CHECKS), "--seed", "1", "--generation-database", "none", "--no-color"),
            *options,
        ],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert 0 == run.returncode, run.stdout[-20_000:] + run.stderr


def test_the_document_is_valid_and_each_operation_has_a_name_of_its_own() -> None:
    found = document(OPERATIONS, are_tokens_used=True)

    validate(found)
    names = [described["operationId"] for path in found["paths"].values() for described in path.values()]
    assert (len(OPERATIONS), len(OPERATIONS)) == (len(names), len(set(names)))


def test_whatever_is_asked_the_answer_is_as_the_document_says(daemon: Daemon, tmp_path: Path) -> None:
    fuzzed(daemon, tmp_path, "--max-examples", "5", *OTHERS)


def test_what_a_sender_is_answered_is_as_the_document_says(daemon: Daemon, database_url: str, tmp_path: Path) -> None:
    """An array is answered with 201 even if some of its readings are refused: only the answer can be checked."""
    lenient = ("--exclude-checks", "negative_data_rejection")
    others = [option for to in PATHS if to.path != TELEMETRY for option in ("--include-path", to.path)]
    fuzzed(daemon, tmp_path, "--max-examples", "50", "--include-path", TELEMETRY, *lenient)
    fuzzed(daemon, tmp_path, "--max-examples", "10", "--phases", "fuzzing", *others, *lenient)

    assert 0 < count(database_url, "dead_letter")


def test_of_what_there_is_the_answers_are_as_the_document_says(
    broker: PrivateMosquitto, database_url: str, tmp_path: Path
) -> None:
    """With devices that report, a mapping, settings, a dead letter; with a token for all, and without one."""
    tokens = Tokens(tmp_path / "tokens")
    everything = tokens.add("everything", *SCOPES, devices=("*",))
    (tmp_path / "schemathesis.toml").write_text(
        f'[parameters]\nvehicleId = "{DEVICE}"\nmeterId = "{DEVICE}"\nid = "{DEVICE}"\n'
    )
    with Daemon(mqtt_url=broker.url, database_url=database_url, tokens_file=str(tokens.path)) as daemon:
        daemon.wait_healthy()
        fill(daemon, everything)

        coverage = ("--phases", "coverage", *OTHERS)
        fuzzed(daemon, tmp_path, *coverage, "--header", f"Authorization: Bearer {everything}")
        fuzzed(daemon, tmp_path, *coverage, "--include-method", "GET")


def fill(daemon: Daemon, token: str) -> None:
    """A day of a vehicle and its meter, a mapping, settings and a dead letter."""
    now = datetime.now(UTC)
    days = [now - timedelta(minutes=minutes) for minutes in range(0, 1440, 5)]
    readings = [
        reading
        for at in map(rfc3339, days)
        for reading in (
            {"meterId": DEVICE, "kwhConsumedAc": 0.5, "voltage": 230, "timestamp": at},
            {"vehicleId": DEVICE, "kwhDeliveredDc": 0.45, "soc": 50, "batteryTemp": 20, "timestamp": at},
        )
    ]
    mapping = {"vehicleId": DEVICE, "meterId": DEVICE, "validFrom": rfc3339(days[-1])}
    for method, path, body in (
        ("POST", TELEMETRY, [*readings, {"meterId": DEVICE}]),
        ("POST", "/v1/analytics/mappings", mapping),
        ("PUT", f"/v1/devices/vehicle/{DEVICE}/settings", {"threshold": 0.9}),
    ):
        answer = ask(daemon, method, path, token=token, body=body)
        assert answer.status in {200, 201}, answer.body
