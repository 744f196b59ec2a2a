"""Two daemons of one client id: one is active, the other waits, and takes over."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg

from tests.faults.load import assert_all_stored_once, load, wait_for_more
from tests.faults.scene import terminate_backends
from tests.support.daemon import Daemon
from tests.support.polling import until
from tests.support.readings import count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingestd.demo.servers import PrivateMosquitto

TAKEOVER_SECONDS = 5.0


def health(daemon: Daemon) -> tuple[int, Any]:
    try:
        answer = daemon.request("GET", "/health")
    except OSError:
        return 0, None
    return answer.status, answer.json()["status"]


@contextmanager
def pair(broker: PrivateMosquitto, database_url: str) -> Iterator[tuple[Daemon, Daemon]]:
    """The first is active, the second on standby."""
    first, second = (Daemon(mqtt_url=broker.url, database_url=database_url, flush_interval=0.2) for _ in range(2))
    with first:
        first.wait_healthy()
        with second:
            until(lambda: health(second) == (503, "standby"), within=20)
            yield first, second


def test_the_second_waits_without_a_word_to_the_broker_and_takes_over(
    broker: PrivateMosquitto, database_url: str
) -> None:
    with pair(broker, database_url) as (first, second):
        with load(broker, rate=500) as published:
            wait_for_more(database_url, 200)
            assert health(first) == (200, "healthy")
            assert "another ingestd is active with the client id ingestd" in second.log.read_text()
            assert second.metric("ingestd_broker_connections_total") == 0
            assert first.metric("ingestd_broker_connections_total") == 1
            reading = {"meterId": "m-1", "kwhConsumedAc": 0.5, "voltage": 230.0, "timestamp": "2026-11-20T10:30:00Z"}
            assert second.request("POST", "/v1/telemetry", body=reading).status == 503
            killed_at = time.monotonic()
            first.kill()
            until(lambda: health(second) == (200, "healthy"), within=TAKEOVER_SECONDS)
            wait_for_more(database_url, 50)
            assert time.monotonic() - killed_at < TAKEOVER_SECONDS
            first.start()
            until(lambda: health(first) == (503, "standby"), within=20)
        assert_all_stored_once(published, database_url)
        assert second.metric("ingestd_broker_connections_total") == 1


def test_stopped_in_good_order_the_active_one_hands_over(broker: PrivateMosquitto, database_url: str) -> None:
    with pair(broker, database_url) as (first, second):
        with load(broker, rate=500) as published:
            wait_for_more(database_url, 50)
            assert first.terminate(within=10) == 0
            until(lambda: health(second) == (200, "healthy"), within=TAKEOVER_SECONDS)
        assert_all_stored_once(published, database_url)


def test_the_lock_lost_one_is_active_and_the_session_is_not_fought_over(
    broker: PrivateMosquitto, database_url: str
) -> None:
    with (
        pair(broker, database_url) as daemons,
        psycopg.connect(database_url, autocommit=True) as connection,
    ):
        with load(broker, rate=500) as published:
            for _ in range(4):
                terminate_backends(connection, "ingestd-active")
                wait_for_more(database_url, 100)
                until(lambda: sorted(status for status, _ in map(health, daemons)) == [200, 503])
        assert_all_stored_once(published, database_url)
        # One for each change at most; two that fight would connect several times a second.
        assert sum(daemon.metric("ingestd_broker_connections_total") for daemon in daemons) <= 5


def test_a_standby_stops_cleanly(broker: PrivateMosquitto, database_url: str) -> None:
    with pair(broker, database_url) as (first, second):
        assert second.terminate(within=10) == 0
        assert health(first) == (200, "healthy")
        assert first.metric("ingestd_broker_connections_total") == 1
    assert count(database_url, "meter_history") == 0
