"""Real recordings by way of `ingestd replay`; skipped where the recordings are not beside the repository."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.support.daemon import ROOT, Daemon
from tests.support.polling import until
from tests.support.readings import count

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ingestd.demo.servers import PrivateMosquitto

DATA = ROOT.parent / "shared" / "data"
CHARGING_DAY = DATA / "charging-day.jsonl"
SITE_MONTH = DATA / "site-month.jsonl"


@pytest.fixture
def daemon(broker: PrivateMosquitto, database_url: str) -> Iterator[Daemon]:
    """One that takes readings of decades ago."""
    with Daemon(mqtt_url=broker.url, database_url=database_url, flush_interval=0.1, max_age="20000d") as running:
        running.wait_healthy()
        yield running


def wait_settled(daemon: Daemon, readings: int) -> None:
    until(lambda: daemon.metric("ingestd_committed_total") + daemon.metric("ingestd_duplicate_total") == readings)


def replay(broker: PrivateMosquitto, file: Path, *options: str) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "ingestd", "replay", str(file), *options],
        env={**os.environ, "INGESTD_MQTT_URL": broker.url, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr


@pytest.mark.skipif(not CHARGING_DAY.exists(), reason="the recording is not here")
def test_charging_day_gives_the_known_efficiency_and_a_second_replay_changes_nothing(
    broker: PrivateMosquitto, database_url: str, daemon: Daemon
) -> None:
    mapping = {"vehicleId": "EV-2016", "meterId": "WALL-2016", "validFrom": "2016-01-01T00:00:00Z"}
    assert daemon.request("POST", "/v1/analytics/mappings", body=mapping).status == 201
    answers = []
    for settled in (1618, 3236):
        replay(broker, CHARGING_DAY)
        wait_settled(daemon, settled)
        assert count(database_url, "vehicle_history") == 809
        assert count(database_url, "meter_history") == 809
        assert count(database_url, "vehicle_live") == 1
        assert count(database_url, "meter_live") == 1
        window = "startTime=2016-06-26T00:00:00Z&endTime=2016-06-27T00:00:00Z"
        answers.append(daemon.request("GET", f"/v1/analytics/performance/EV-2016?{window}").json())
    first, second = answers
    assert pytest.approx(10.718, abs=0.0005) == first["energy"]["acConsumed"]
    assert pytest.approx(10.21, abs=0.0005) == first["energy"]["dcDelivered"]
    assert pytest.approx(0.9526, abs=0.00005) == first["energy"]["efficiencyRatio"]
    assert first["samples"] == {"vehicle": 785, "meter": 785}
    assert first["status"] == "ok"
    assert second == first


MONTH = "startTime=2023-02-28T23:00:00Z&endTime=2023-04-01T00:00:00Z"
"""The recorded one: its first reading, of midnight, tells what flowed before it."""


def of_fleet(daemon: Daemon) -> tuple[float, dict[str, int]]:
    answer = daemon.request("GET", f"/v1/analytics/fleet?{MONTH}", headers={"Cache-Control": "no-cache"}).json()
    return round(answer["energy"]["acConsumed"], 6), answer["devices"]


@pytest.mark.skipif(not SITE_MONTH.exists(), reason="the recording is not here")
def test_site_month_adds_up_to_the_meter_reading_and_a_second_replay_changes_nothing(
    broker: PrivateMosquitto, database_url: str, daemon: Daemon
) -> None:
    for settled in (8928, 17856):
        replay(broker, SITE_MONTH)
        wait_settled(daemon, settled)
        assert count(database_url, "meter_history") == 8928
        assert count(database_url, "meter_live") == 1
        with psycopg.connect(database_url) as connection:
            (total,) = connection.execute("SELECT sum(kwh_consumed_ac) FROM meter_history").fetchone() or (None,)
            (days,) = connection.execute(
                "SELECT count(*) FROM pg_inherits WHERE inhparent = 'meter_history'::regclass"
                " AND inhrelid::regclass::text LIKE 'meter_history_202303%'"
            ).fetchone() or (None,)
        assert pytest.approx(270.738) == total
        assert days == 31
        months = daemon.request("GET", f"/v1/analytics/meter/NMI1234567/totals?{MONTH}&by=month").json()["totals"]
        assert [pytest.approx(0.048), pytest.approx(270.738 - 0.048)] == [month["kwh"] for month in months]
        # Readings of years ago are late, and make their rows anew.
        until(lambda: of_fleet(daemon) == (270.738, {"meters": 1, "vehicles": 0}), within=60)


@pytest.mark.skipif(not CHARGING_DAY.exists(), reason="the recording is not here")
def test_shifted_replay_ends_now(broker: PrivateMosquitto, database_url: str, daemon: Daemon) -> None:
    replay(broker, CHARGING_DAY, "--shift-to-now")
    until(lambda: daemon.metric("ingestd_committed_total") == 1618)
    with psycopg.connect(database_url) as connection:
        (age,) = connection.execute("SELECT extract(epoch FROM now() - max(ts)) FROM vehicle_live").fetchone() or (
            None,
        )
    assert age is not None
    assert 0 <= age < 60
