# ruff: noqa: SIM300 - expected == actual
"""Who changed what, and when, with the state before and after; and `ingestd reload`, which asks by the audit."""

from __future__ import annotations

import json
import os
import signal
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from ingestd.demo.servers import PrivateMosquitto
from tests.support.api import assert_problem
from tests.support.commands import finished
from tests.support.daemon import Daemon
from tests.support.polling import until
from tests.support.tokens import Tokens, ask, ask_with, cookie, log_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAPPING = "/v1/analytics/mappings"
SINCE = datetime.now(UTC) - timedelta(seconds=5)


@pytest.fixture(scope="module")
def daemon(tokens: Tokens, shared_database_url: str) -> Iterator[Daemon]:
    with (
        PrivateMosquitto() as broker,
        Daemon(
            mqtt_url=broker.url, database_url=shared_database_url, tokens_file=str(tokens.path), flush_interval=0.1
        ) as daemon,
    ):
        daemon.wait_healthy()
        yield daemon


def audit(daemon: Daemon, tokens: Tokens, query: str = "") -> list[dict[str, Any]]:
    """The entries, the oldest first, without what differs from run to run."""
    answer = ask(daemon, "GET", f"/v1/audit{query}", token=tokens.of["admin"])
    assert 200 == answer.status, answer.body
    entries: list[dict[str, Any]] = answer.json()["audit"][::-1]
    for entry in entries:
        assert SINCE <= datetime.fromisoformat(entry.pop("at")) <= datetime.now(UTC)
        del entry["id"]
    return entries


def test_a_mapping_is_audited_with_the_segments_that_change(daemon: Daemon, tokens: Tokens) -> None:
    token = tokens.of["admin"]
    who = f"token administrator ({token.split('_')[1]})"
    first = {"vehicleId": "EV-1", "meterId": "m-1", "validFrom": "2026-01-01T00:00:00Z"}
    second = {"meterId": "m-2", "validFrom": "2026-02-01T00:00:00Z"}

    assert 201 == ask(daemon, "POST", MAPPING, token=token, body=first).status
    assert 200 == ask(daemon, "PUT", f"{MAPPING}/EV-1", token=token, body=second).status
    assert 200 == ask(daemon, "PUT", f"{MAPPING}/EV-1", token=token, body=second).status  # changes nothing
    assert 409 == ask(daemon, "PUT", f"{MAPPING}/EV-1", token=token, body=second | {"meterId": "m-3"}).status
    assert 200 == ask(daemon, "DELETE", f"{MAPPING}/EV-1", token=token).status

    entries = audit(daemon, tokens, "?subject=vehicle%20EV-1")
    one = {**first, "validTo": None}
    ended = {**first, "validTo": second["validFrom"]}
    two = {"vehicleId": "EV-1", **second, "validTo": None}
    closed = entries[2].pop("after")
    assert [
        {"who": who, "action": "mapping-set", "subject": "vehicle EV-1", "before": None, "after": [one]},
        {"who": who, "action": "mapping-set", "subject": "vehicle EV-1", "before": [one], "after": [two, ended]},
        {"who": who, "action": "mapping-closed", "subject": "vehicle EV-1", "before": [two]},
    ] == entries
    assert [(second["meterId"], True)] == [(segment["meterId"], segment["validTo"] is not None) for segment in closed]


def test_settings_of_a_device_are_audited(daemon: Daemon, tokens: Tokens) -> None:
    token, path = tokens.of["admin"], "/v1/devices/meter/m-7/settings"
    who = f"token administrator ({token.split('_')[1]})"

    for method, body in (("PUT", {"maxKw": 22}), ("PUT", {"maxKw": 22}), ("PUT", {"offlineAfter": "5m"})):
        assert 200 == ask(daemon, method, path, token=token, body=body).status
    assert 200 == ask(daemon, "DELETE", path, token=token).status
    assert 404 == ask(daemon, "DELETE", path, token=token).status

    power = {"offlineAfter": None, "maxKw": 22.0, "threshold": None}
    pause = {"offlineAfter": "5m", "maxKw": None, "threshold": None}
    entry = {"who": who, "subject": "meter m-7"}
    assert [
        {**entry, "action": "settings-set", "before": None, "after": power},
        {**entry, "action": "settings-set", "before": power, "after": pause},
        {**entry, "action": "settings-removed", "before": pause, "after": None},
    ] == audit(daemon, tokens, "?subject=meter%20m-7")


def test_who_is_logged_in_at_the_page_is_audited_by_the_token(daemon: Daemon, tokens: Tokens) -> None:
    session = {"Cookie": cookie(log_in(daemon, tokens.of["admin"]))}
    change = {"vehicleId": "EV-9", "meterId": "m-9"}

    assert 201 == ask_with(daemon, "POST", MAPPING, session, body=change).status

    (entry,) = audit(daemon, tokens, "?subject=vehicle%20EV-9")
    assert f"token administrator ({tokens.of['admin'].split('_')[1]})" == entry["who"]


def test_a_device_that_is_forgotten_is_audited_with_what_was_removed(daemon: Daemon, tokens: Tokens) -> None:
    token = tokens.of["admin"]
    assert 200 == ask(daemon, "PUT", "/v1/devices/meter/gone/settings", token=token, body={"maxKw": 22}).status

    assert 200 == ask(daemon, "DELETE", "/v1/devices/meter/gone", token=token).status
    assert 404 == ask(daemon, "DELETE", "/v1/devices/meter/gone", token=token).status
    assert 200 == ask(daemon, "PUT", "/v1/devices/meter/gone/settings", token=token, body={"maxKw": 22}).status
    daemon.command("devices", "forget", "meter", "gone")

    removed = {"lastSeen": None, "settings": {"offlineAfter": None, "maxKw": 22.0, "threshold": None}, "alerts": 0}
    forgotten = audit(daemon, tokens, "?subject=meter%20gone&action=device-forgotten")
    assert [(removed, None)] * 2 == [(entry["before"], entry["after"]) for entry in forgotten]
    assert ["token administrator", "command devices forget"] == [entry["who"].partition(" (")[0] for entry in forgotten]


def test_replay_and_purge_are_audited_with_filter_and_result(daemon: Daemon, tokens: Tokens) -> None:
    daemon.command("dead-letters", "replay", "--device", "m-1")
    daemon.command("dead-letters", "purge", "--reason", "schema", "--yes")

    nothing = {"reason": None, "device": None, "since": None, "until": None}
    entries = audit(daemon, tokens, "?subject=dead%20letters")
    assert [
        ("dead-letters-replayed", {"filter": {**nothing, "device": "m-1"}}),
        ("dead-letters-replayed", {"stored": 0, "duplicates": 0, "refused": 0}),
        ("dead-letters-purged", {"filter": {**nothing, "reason": "schema"}}),
        ("dead-letters-purged", {"deleted": 0}),
    ] == [(entry["action"], entry["after"]) for entry in entries]
    assert {"command dead-letters replay", "command dead-letters purge"} == {
        entry["who"].partition(" (")[0] for entry in entries
    }
    assert all("@" in entry["who"] for entry in entries)


def test_a_replay_by_the_api_is_audited_with_what_was_asked_for_and_the_result(daemon: Daemon, tokens: Tokens) -> None:
    bad = ask(daemon, "POST", "/v1/telemetry", token=tokens.gateway, body={"vehicleId": "g-1", "soc": 101})
    assert 422 == bad.status
    token = tokens.of["admin"]
    (letter,) = ask(daemon, "GET", "/v1/dead-letters?limit=1", token=token).json()["deadLetters"]
    asked = {"reason": "schema", "limit": 1}

    assert 200 == ask(daemon, "POST", f"/v1/dead-letters/{letter['id']}/replay", token=token, body={}).status
    assert 200 == ask(daemon, "POST", "/v1/dead-letters/replay", token=token, body=asked).status
    assert 403 == ask(daemon, "POST", "/v1/dead-letters/replay", token=tokens.of["read"], body=asked).status

    entries = audit(daemon, tokens, "?action=dead-letters-replayed")[-4:]
    result = {"stored": 0, "duplicates": 0, "refused": 1}
    page = {"reason": "schema", "device": None, "since": None, "until": None, "limit": 1, "before": None}
    assert [{"id": letter["id"]}, result, {"filter": page}, result] == [entry["after"] for entry in entries]
    assert {"token administrator"} == {entry["who"].partition(" (")[0] for entry in entries}


def test_the_audit_is_for_administrators_and_is_read_by_pages(daemon: Daemon, tokens: Tokens) -> None:
    for number in range(5):
        body = {"maxKw": number + 1}
        assert 200 == ask(daemon, "PUT", "/v1/devices/meter/paged/settings", token=tokens.of["admin"], body=body).status

    def page(query: str) -> Any:  # noqa: ANN401 - whatever the answer is
        return ask(daemon, "GET", f"/v1/audit?subject=meter%20paged&{query}", token=tokens.of["admin"]).json()

    first = page("limit=3")
    second = page(f"limit=3&before={first['next']}")

    assert [5, 4, 3, 2, 1] == [entry["after"]["maxKw"] for part in (first, second) for entry in part["audit"]]
    assert second["next"] is None
    assert [] == page("action=mapping-set")["audit"]
    assert [] == page("endTime=2026-01-01T00:00:00Z")["audit"]
    assert_problem(ask(daemon, "GET", "/v1/audit", token=tokens.of["read"]), 403)
    assert_problem(ask(daemon, "GET", "/v1/audit?action=x", token=tokens.of["admin"]), 400, parameter="action")
    backwards = "/v1/audit?startTime=2026-01-02T00:00:00Z&endTime=2026-01-01T00:00:00Z"
    assert_problem(ask(daemon, "GET", backwards, token=tokens.of["admin"]), 400, parameter="endTime")


def test_without_tokens_the_address_is_audited(broker: PrivateMosquitto, database_url: str) -> None:
    with Daemon(mqtt_url=broker.url, database_url=database_url) as daemon:
        daemon.wait_healthy()
        daemon.request("PUT", "/v1/devices/meter/m-1/settings", body={"maxKw": 3})

        assert ["address 127.0.0.1"] == [entry["who"] for entry in daemon.request("GET", "/v1/audit").json()["audit"]]


def test_a_change_that_fails_is_not_audited(broker: PrivateMosquitto, database_url: str) -> None:
    with Daemon(mqtt_url=broker.url, database_url=database_url) as daemon:
        daemon.wait_healthy()
        with psycopg.connect(database_url) as connection:
            connection.execute("ALTER TABLE audit ADD CHECK (subject <> 'meter m-1')")

        failed = daemon.request("PUT", "/v1/devices/meter/m-1/settings", body={"maxKw": 3})

        assert 503 == failed.status
        assert None is daemon.request("GET", "/v1/devices/meter/m-1/settings").json()["maxKw"]


def test_reload_reads_tokens_again_and_says_what_it_read(daemon: Daemon, tokens: Tokens) -> None:
    text = tokens.add("late", "read")
    assert 401 == ask(daemon, "GET", "/v1/vehicles", token=text).status

    said = daemon.command("reload")

    assert 200 == ask(daemon, "GET", "/v1/vehicles", token=text).status
    assert said.startswith("daemon ingestd: tokens: ")
    asked, done = [entry for entry in audit(daemon, tokens) if entry["action"].startswith("reload")][-2:]
    assert asked["who"] == done["who"]
    assert asked["who"].startswith("command reload (")
    assert said == f"daemon ingestd: tokens: {done['after']['tokens']}\n"


def test_reload_fails_where_a_file_cannot_be_read_and_what_was_read_stays(
    broker: PrivateMosquitto, database_url: str, tmp_path: Path
) -> None:
    tokens = Tokens(tmp_path / "tokens")
    settings = {"mqtt_url": broker.url, "database_url": database_url, "tokens_file": str(tokens.path)}
    with Daemon(**settings) as daemon:
        daemon.wait_healthy()
        tokens.path.chmod(0o644)

        failed = finished(tmp_path, "reload", **settings)

        assert 1 == failed.returncode
        assert f"error: INGESTD_TOKENS_FILE: {tokens.path}: others than its owner can use it" in failed.stdout
        assert "ingestd: what could not be read stays as it was\n" == failed.stderr
        assert 200 == ask(daemon, "GET", "/v1/vehicles", token=tokens.of["read"]).status


def test_reload_reaches_the_daemon_and_its_standby(broker: PrivateMosquitto, database_url: str) -> None:
    settings = {"mqtt_url": broker.url, "database_url": database_url}
    with Daemon(**settings) as active:
        active.wait_healthy()
        with Daemon(**settings) as standby:
            until(lambda: '"standby"' in standby.log.read_text())

            assert "daemon ingestd: nothing to read again\n" * 2 == active.command("reload")


def test_reload_says_that_no_daemon_runs(database_url: str, tmp_path: Path) -> None:
    failed = finished(tmp_path, "reload", database_url=database_url)

    said = "ingestd: no daemon of this database has answered within 5 s\n"
    assert (1, "", said) == (failed.returncode, failed.stdout, failed.stderr)


def test_a_signal_reloads_while_the_database_is_away(daemon: Daemon, tokens: Tokens) -> None:
    text = tokens.add("by-signal", "read")

    os.kill(daemon.pid, signal.SIGHUP)

    until(lambda: ask(daemon, "GET", "/v1/vehicles", token=text).status == 200)
    assert "signal" == [entry["who"] for entry in audit(daemon, tokens) if entry["action"] == "reloaded"][-1]
    assert json.loads(daemon.log_tail(1))["event"]
