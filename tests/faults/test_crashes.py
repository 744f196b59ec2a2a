"""The daemon, the database and the network fail under load; what was acknowledged must be in the table, once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import psycopg

from tests.faults.load import assert_all_stored_once, load, wait_for_connection, wait_for_more
from tests.support.daemon import Daemon
from tests.support.polling import until
from tests.support.proxy import Proxy
from tests.support.readings import count, keys_stored

if TYPE_CHECKING:
    from ingestd.demo.servers import PrivateMosquitto, PrivatePostgres


def test_ten_kills_under_load_lose_and_double_nothing(broker: PrivateMosquitto, database_url: str) -> None:
    with Daemon(mqtt_url=broker.url, database_url=database_url, flush_interval=0.2) as daemon:
        daemon.wait_healthy()
        with load(broker, rate=500) as published:
            for _ in range(10):
                wait_for_more(database_url, 50)
                daemon.kill()
                daemon.start()
            daemon.wait_healthy()
        assert len(published.acknowledged) >= 1000
        assert_all_stored_once(published, database_url)


def test_database_stopped_for_ten_seconds_loses_nothing_and_shows_in_health(
    broker: PrivateMosquitto, own_postgres: PrivatePostgres, own_database_url: str
) -> None:
    with Daemon(mqtt_url=broker.url, database_url=own_database_url, flush_interval=0.2) as daemon:
        daemon.wait_healthy()
        pid = daemon.pid
        with load(broker, rate=500) as published:
            until(lambda: count(own_database_url, "meter_history") > 100)
            own_postgres.stop()
            until(lambda: daemon.request("GET", "/health").status == 503)
            threading.Event().wait(10)  # the outage itself
            assert daemon.request("GET", "/livez").status == 200
            own_postgres.start()
            daemon.wait_healthy()
        assert daemon.pid == pid
        assert daemon.exit_code is None
        assert_all_stored_once(published, own_database_url)


def test_database_killed_under_load_loses_nothing(
    broker: PrivateMosquitto, own_postgres: PrivatePostgres, own_database_url: str
) -> None:
    with Daemon(mqtt_url=broker.url, database_url=own_database_url, flush_interval=0.1) as daemon:
        daemon.wait_healthy()
        with load(broker, rate=1000) as published:
            for _ in range(3):
                wait_for_more(own_database_url, 100)
                own_postgres.kill()
                own_postgres.start()
                daemon.wait_healthy()
        assert_all_stored_once(published, own_database_url)


def test_sigterm_under_load_commits_what_is_buffered_and_exits_cleanly(
    broker: PrivateMosquitto, database_url: str
) -> None:
    with Daemon(mqtt_url=broker.url, database_url=database_url, flush_interval=60) as daemon:
        daemon.wait_healthy()
        with load(broker, rate=500) as published:
            until(lambda: daemon.metric("ingestd_in_flight") > 200)
            assert count(database_url, "meter_history") == 0
            assert daemon.terminate(within=10) == 0
            assert count(database_url, "meter_history") > 100
            daemon.start()
            daemon.wait_healthy()
        daemon.terminate()
        # What the broker has left to deliver by now fills no batch, and would wait for the long interval.
        daemon.start(flush_interval=0.5)
        assert_all_stored_once(published, database_url)


def test_cut_broker_connections_bring_redeliveries_that_become_duplicates(
    broker: PrivateMosquitto, database_url: str
) -> None:
    with (
        Proxy(broker.url) as proxy,
        Daemon(mqtt_url=proxy.url, database_url=database_url, flush_interval=0.3) as daemon,
    ):
        daemon.wait_healthy()
        with load(broker, rate=500) as published:
            for connections in range(2, 7):
                until(lambda: daemon.metric("ingestd_in_flight") > 50)
                proxy.cut()
                wait_for_connection(daemon, connections)
        assert_all_stored_once(published, database_url)
        until(lambda: daemon.metric("ingestd_in_flight") == 0)
        assert daemon.metric("ingestd_stale_acks_total") > 0
        assert daemon.metric("ingestd_received_total") == (
            daemon.metric("ingestd_committed_total") + daemon.metric("ingestd_duplicate_total")
        )
        assert daemon.metric("ingestd_committed_total") == len(keys_stored(database_url))


def test_broker_restart_that_loses_the_session_is_survived(broker: PrivateMosquitto, database_url: str) -> None:
    with Daemon(mqtt_url=broker.url, database_url=database_url, flush_interval=0.3) as daemon:
        daemon.wait_healthy()
        for _ in range(2):
            broker.kill()
            until(lambda: daemon.request("GET", "/health").status == 503)
            broker.start()
            daemon.wait_healthy()
        with load(broker, rate=500) as published:
            until(lambda: count(database_url, "meter_history") > 100)
        assert_all_stored_once(published, database_url)


def test_full_buffer_stops_reading_and_keeps_every_reading(broker: PrivateMosquitto, database_url: str) -> None:
    with Daemon(mqtt_url=broker.url, database_url=database_url, flush_interval=0.1, buffer_max_messages=500) as daemon:
        daemon.wait_healthy()
        with load(broker, rate=3000) as published:
            with psycopg.connect(database_url) as connection:
                connection.execute("LOCK TABLE meter_history IN ACCESS EXCLUSIVE MODE")
                until(lambda: daemon.metric("ingestd_in_flight") >= 500)
                threading.Event().wait(2)
                held = daemon.metric("ingestd_in_flight")
            until(lambda: daemon.metric("ingestd_committed_total") > held)
        # One read from the socket may come on top of the bound.
        assert held < 500 + 256 * 1024 / 120
        assert_all_stored_once(published, database_url)
