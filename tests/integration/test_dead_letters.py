"""Dead letters through the API and the commands: found, shown, replayed once mended, purged, expired."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.support.api import assert_problem
from tests.support.daemon import ROOT, Daemon
from tests.support.devices import Device
from tests.support.polling import until
from tests.support.readings import count, meter_message, rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingestd.demo.servers import PrivateMosquitto
    from tests.support.daemon import Response

NOW = datetime.now(UTC)
OLD = NOW - timedelta(days=100)


def command(database_url: str, *words: str, **settings: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-m", "ingestd", "dead-letters", *words],
        env={**os.environ, "INGESTD_DATABASE_URL": database_url, "PYTHONPATH": str(ROOT), **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.fixture
def bad_daemon(broker: PrivateMosquitto, database_url: str) -> Iterator[Daemon]:
    """A daemon that has three dead letters: two readings that are too old, and nonsense."""
    with Daemon(mqtt_url=broker.url, database_url=database_url, flush_interval=0.1) as daemon:
        daemon.wait_healthy()
        with Device(broker.url) as device:
            device.publish(*meter_message("late-1", OLD))
            device.publish(*meter_message("late-2", OLD))
            device.publish("meters/mad/telemetry", b"\xff\x00 nonsense")
        until(lambda: count(database_url, "dead_letter") == 3)
        yield daemon


def test_the_api_pages_and_filters_dead_letters(bad_daemon: Daemon) -> None:
    first = bad_daemon.request("GET", "/v1/dead-letters?limit=2").json()
    second = bad_daemon.request("GET", f"/v1/dead-letters?limit=2&before={first['next']}").json()
    devices = [letter["topic"].split("/")[1] for letter in first["deadLetters"] + second["deadLetters"]]
    assert devices == ["mad", "late-2", "late-1"]
    assert second["next"] is None
    mad = first["deadLetters"][0]
    assert (mad["reason"], mad["payload"], mad["payloadEncoding"]) == ("not-json", "/wAgbm9uc2Vuc2U=", "base64")

    by_reason = bad_daemon.request("GET", "/v1/dead-letters?reason=timestamp-out-of-range").json()
    assert len(by_reason["deadLetters"]) == 2
    by_device = bad_daemon.request("GET", "/v1/dead-letters?device=late-1").json()
    assert len(by_device["deadLetters"]) == 1
    before_all = bad_daemon.request("GET", "/v1/dead-letters?endTime=2020-01-01T00:00:00Z").json()
    assert before_all == {"deadLetters": [], "next": None}


def test_what_has_been_mended_is_replayed_and_the_rest_stays(bad_daemon: Daemon, database_url: str) -> None:
    assert command(database_url, "replay") == "0 stored, 0 were there already, 3 still bad\n"
    with psycopg.connect(database_url) as connection:
        connection.execute("ALTER TABLE meter_history ADD CONSTRAINT no_late_2 CHECK (meter_id <> 'late-2') NOT VALID")
    mended = {"INGESTD_MAX_AGE": "200d"}
    assert command(database_url, "replay", **mended) == "1 stored, 0 were there already, 2 still bad\n"
    with psycopg.connect(database_url) as connection:
        connection.execute("ALTER TABLE meter_history DROP CONSTRAINT no_late_2")
    assert command(database_url, "replay", "--reason", "not-json", **mended).endswith("1 still bad\n")
    assert command(database_url, "replay", "--device", "late-2", **mended).startswith("1 stored")
    assert count(database_url, "meter_history") == 2
    assert count(database_url, "dead_letter") == 1
    assert bad_daemon.request("GET", "/v1/analytics/meter/late-1/live").status == 200


def test_one_is_replayed_by_the_api_which_says_what_became_of_it(broker: PrivateMosquitto, database_url: str) -> None:
    with Daemon(mqtt_url=broker.url, database_url=database_url, flush_interval=0.1, max_age="200d") as daemon:
        daemon.wait_healthy()
        good = keep(database_url, *meter_message("late", OLD))
        again = keep(database_url, *meter_message("late", OLD))
        bad = keep(database_url, "meters/mad/telemetry", b"nonsense")

        def replay(letter: int) -> Response:
            return daemon.request("POST", f"/v1/dead-letters/{letter}/replay")

        assert replay(good).json() == {"stored": 1, "duplicates": 0, "rejected": []}
        assert replay(again).json() == {"stored": 0, "duplicates": 1, "rejected": []}
        (rejected,) = replay(bad).json()["rejected"]
        assert (rejected["id"], rejected["reason"]) == (bad, "not-json")
        assert "Invalid JSON" in rejected["detail"]

        assert assert_problem(replay(good), 404) == f"there is no dead letter {good}"
        for wrong in ("0", "x", str(2**63)):
            answer = daemon.request("POST", f"/v1/dead-letters/{wrong}/replay")
            assert_problem(answer, 400, parameter="letterId")
        assert daemon.request("GET", "/v1/analytics/meter/late/live").status == 200
        assert count(database_url, "dead_letter") == 1


def keep(database_url: str, topic: str, payload: bytes) -> int:
    """A dead letter, as if the message had been refused; its id."""
    with psycopg.connect(database_url) as connection:
        ((letter_id,),) = connection.execute(
            "INSERT INTO dead_letter (received_at, source, stream, topic, payload, reason, detail)"
            " VALUES (now(), 'mqtt', 'meter', %s, %s, 'timestamp-out-of-range', '') RETURNING id",
            (topic, payload),
        ).fetchall()
    return int(letter_id)


def test_many_are_replayed_by_the_api_by_pages_of_a_filter(broker: PrivateMosquitto, database_url: str) -> None:
    with Daemon(mqtt_url=broker.url, database_url=database_url, flush_interval=0.1, max_age="200d") as daemon:
        daemon.wait_healthy()
        kept = [keep(database_url, *meter_message(f"late-{number}", OLD)) for number in range(5)]
        bad = keep(database_url, "meters/late-9/telemetry", b"nonsense")
        path, only = "/v1/dead-letters/replay", {"reason": "timestamp-out-of-range", "limit": 3}

        first = daemon.request("POST", path, body=only).json()
        assert (first["stored"], [one["id"] for one in first["rejected"]], first["next"]) == (2, [bad], kept[3])
        second = daemon.request("POST", path, body={**only, "before": first["next"]}).json()
        assert second == {"stored": 3, "duplicates": 0, "rejected": [], "next": kept[0]}
        last = daemon.request("POST", path, body={"device": "late-9", "endTime": rfc3339(OLD)}).json()
        assert last == {"stored": 0, "duplicates": 0, "rejected": [], "next": None}
        assert count(database_url, "meter_history") == 5

        for wrong in (
            {"reason": "bad-luck"},
            {"device": "a/b"},
            {"startTime": "yesterday"},
            {"startTime": rfc3339(NOW), "endTime": rfc3339(NOW)},
            {"limit": 1001},
            {"before": 0},
            {"colour": "blue"},
        ):
            assert_problem(daemon.request("POST", path, body=wrong), 400, parameter=list(wrong)[-1])


def test_what_is_replayed_into_closed_quarters_counts_at_once_and_within_seconds_in_the_ledger(
    bad_daemon: Daemon, database_url: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        made = "SELECT min(made_until) > %s FROM ledger_share WHERE stream = 'meter'"
        until(lambda: connection.execute(made, (NOW - timedelta(hours=2),)).fetchall() == [(True,)])

    window = f"startTime={rfc3339(OLD - timedelta(days=2))}&endTime={rfc3339(NOW)}"

    def of_device() -> list[float | None]:
        found = bad_daemon.request("GET", f"/v1/analytics/meter/late-1/totals?by=year&{window}").json()
        return [total["kwh"] for total in found["totals"] if total["samples"]]

    def of_fleet() -> object:
        anew = {"Cache-Control": "no-cache"}
        return bad_daemon.request("GET", f"/v1/analytics/fleet?{window}", headers=anew).json()["energy"]["acConsumed"]

    assert command(database_url, "replay", INGESTD_MAX_AGE="200d").startswith("2 stored")

    assert of_device() == [0.5]
    until(lambda: of_fleet() == 2 * 0.5, within=10.0)
    assert count(database_url, "meter_stale") == 0
    assert count(database_url, "meter_quarter") == 2


@pytest.mark.usefixtures("bad_daemon")
def test_a_letter_whose_reading_is_there_already_is_a_duplicate(database_url: str) -> None:
    mended = {"INGESTD_MAX_AGE": "200d"}
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO dead_letter (received_at, source, stream, topic, payload, reason, detail)"
            " SELECT received_at, source, stream, topic, payload, reason, detail FROM dead_letter"
        )
    assert command(database_url, "replay", **mended) == "2 stored, 2 were there already, 2 still bad\n"


@pytest.mark.usefixtures("bad_daemon")
def test_list_and_show_tell_all_about_a_letter(database_url: str) -> None:
    lines = command(database_url, "list", "--reason", "not-json").splitlines()
    assert len(lines) == 2
    letter_id, _, source, reason, topic, _ = lines[1].split("\t")
    assert (source, reason, topic) == ("mqtt", "not-json", "meters/mad/telemetry")
    shown = command(database_url, "show", letter_id)
    assert "reason: not-json\n" in shown
    assert shown.endswith("payload: \\xff\\x00 nonsense\n")


@pytest.mark.usefixtures("bad_daemon")
def test_purge_deletes_what_the_filter_names(database_url: str) -> None:
    assert command(database_url, "purge", "--yes", "--device", "mad") == "1 deleted\n"
    tomorrow = (NOW + timedelta(days=1)).isoformat()
    assert command(database_url, "purge", "--yes", "--since", tomorrow) == "0 deleted\n"
    assert command(database_url, "purge", "--yes", "--until", tomorrow) == "2 deleted\n"
    assert count(database_url, "dead_letter") == 0


def test_letters_older_than_the_retention_go_at_the_next_start(bad_daemon: Daemon, database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE dead_letter SET stored_at = stored_at - interval '91 days' WHERE topic ~ 'late'")
    bad_daemon.terminate()
    bad_daemon.start()
    until(lambda: count(database_url, "dead_letter") == 1)

    (left,) = bad_daemon.request("GET", "/v1/dead-letters").json()["deadLetters"]
    assert left["topic"] == "meters/mad/telemetry"
