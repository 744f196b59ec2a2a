# ruff: noqa: SIM300 - expected == actual
"""A machine whose clock is wrong by months or years: it deletes nothing, and what it refused comes back."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg
import pytest

from tests.faults.load import assert_counters_balance
from tests.support.daemon import Daemon
from tests.support.devices import Device
from tests.support.polling import until
from tests.support.readings import count, meter_message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingestd.demo.servers import PrivateMosquitto

LIBRARY: Final = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
NOW: Final = datetime.now(UTC)
READINGS: Final = 20

pytestmark = pytest.mark.skipif(
    LIBRARY is None, reason="libfaketime is not installed (make test installs it on Debian)"
)


@contextmanager
def daemon_at(
    shift: str, broker: PrivateMosquitto, database_url: str, monkeypatch: pytest.MonkeyPatch, **settings: str
) -> Iterator[Daemon]:
    """A daemon whose clock is shifted, such as by +1000d; the database's is right."""
    given = {"flush_interval": "100ms", "retention": "90d", "alert_min_duration": "1s"} | settings
    with monkeypatch.context() as environment:
        environment.setenv("LD_PRELOAD", str(LIBRARY))
        environment.setenv("FAKETIME", shift)
        environment.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        daemon = Daemon(mqtt_url=broker.url, database_url=database_url, **given)
    with daemon:
        daemon.wait_healthy()
        yield daemon


def ask(database_url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(database_url) as connection:
        return connection.execute(statement.encode()).fetchall()


def store_letter(database_url: str, topic: str, *, received: str, stored: str) -> None:
    """A dead letter that came and was stored so long ago."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO dead_letter (received_at, stored_at, source, stream, topic, payload, reason, detail)"
            " VALUES (now() - %s::interval, now() - %s::interval, 'mqtt', 'meter', %s, '', 'schema', '')",
            [received, stored, topic],
        )


def days(database_url: str) -> set[str]:
    rows = ask(database_url, "SELECT right(relname, 8) FROM pg_class WHERE relname ~ '^meter_history_[0-9]{8}$'")
    return {str(row[0]) for row in rows}


def test_a_clock_years_ahead_deletes_nothing(
    broker: PrivateMosquitto, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = NOW - timedelta(days=30)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SELECT ingestd_make_partition('meter_history', %s::date)", [day])
        connection.execute("UPDATE ledger SET closed_until = now()")
        connection.execute("UPDATE ledger_share SET made_until = now()")
    store_letter(database_url, "recent", received="0 s", stored="0 s")
    with daemon_at("+1000d", broker, database_url, monkeypatch) as daemon:
        until(lambda: "clocks_differ" in daemon.log.read_text(), within=20)
        alerts = "/v1/alerts?state=active&kind=clock-difference"
        until(lambda: daemon.request("GET", alerts).json()["alerts"], within=20)
        (alert,) = daemon.request("GET", alerts).json()["alerts"]

        assert (None, 300) == (alert["deviceId"], alert["limit"])
        assert pytest.approx(1000 * 86_400, abs=60) == daemon.metric("ingestd_clock_difference_seconds")
        assert f"{day:%Y%m%d}" in days(database_url)
        assert 1 == count(database_url, "dead_letter")
        assert f"{NOW + timedelta(days=10):%Y%m%d}" > max(days(database_url))
        assert [] == ask(database_url, "SELECT FROM ledger WHERE closed_until > now() + interval '1 d'")
        assert [] == ask(database_url, "SELECT FROM ledger_share WHERE made_until > now()")


def test_good_readings_that_a_clock_far_behind_refused_come_back(
    broker: PrivateMosquitto, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = [meter_message("m-1", NOW - timedelta(seconds=number)) for number in range(READINGS)]
    with daemon_at("-120d", broker, database_url, monkeypatch) as daemon, Device(broker.url) as device:
        device.publish_many(messages)
        until(lambda: count(database_url, "dead_letter") == READINGS)
        assert_counters_balance(daemon)
    reasons = "SELECT DISTINCT reason, received_at < now() - interval '110 d', stored_at > now() - interval '1 h'"
    assert [("timestamp-out-of-range", True, True)] == ask(database_url, f"{reasons} FROM dead_letter")

    store_letter(database_url, "old", received="1 h", stored="91 d")  # so that housekeeping is seen to have been there
    with Daemon(mqtt_url=broker.url, database_url=database_url, dead_letter_retention="90d") as daemon:
        daemon.wait_healthy()
        until(lambda: [] == ask(database_url, "SELECT FROM dead_letter WHERE topic = 'old'"))
        assert READINGS == count(database_url, "dead_letter")
        assert f"{READINGS} stored, 0 were there already, 0 still bad" in daemon.command("dead-letters", "replay")

    assert 0 == count(database_url, "dead_letter")
    assert READINGS == count(database_url, "meter_history")


def test_dead_letters_are_kept_from_when_they_were_stored(broker: PrivateMosquitto, database_url: str) -> None:
    store_letter(database_url, "old", received="1 d", stored="91 d")
    store_letter(database_url, "new", received="120 d", stored="1 h")
    with Daemon(mqtt_url=broker.url, database_url=database_url, dead_letter_retention="90d") as daemon:
        daemon.wait_healthy()
        until(lambda: count(database_url, "dead_letter") == 1)

    assert [("new",)] == ask(database_url, "SELECT topic FROM dead_letter")
