"""The database refuses, hangs, forgets and contradicts; the daemon keeps what it has until it is stored."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import sql

from tests.faults.load import assert_all_stored_once, assert_counters_balance, load, wait_for_more
from tests.faults.scene import deadlocks, frozen, pause, refusing_trigger, terminate_backends, writer_waits_for_lock
from tests.support.daemon import Daemon
from tests.support.devices import Device
from tests.support.polling import until
from tests.support.proxy import Proxy
from tests.support.readings import count, meter_message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingestd.demo.servers import PrivateMosquitto, PrivatePostgres

NOW = datetime.now(UTC).replace(microsecond=0)
TOUCH: Final = {table: f"UPDATE {table} SET ts = ts".encode() for table in ("meter_live", "vehicle_live")}  # noqa: S608


def test_a_frozen_server_costs_time_and_nothing_else(
    broker: PrivateMosquitto, own_postgres: PrivatePostgres, own_database_url: str
) -> None:
    with Daemon(mqtt_url=broker.url, database_url=own_database_url, flush_interval=0.2) as daemon:
        daemon.wait_healthy()
        with load(broker, rate=500) as published:
            wait_for_more(own_database_url, 50)
            with frozen(own_postgres):
                until(lambda: daemon.metric("ingestd_in_flight") > 1000)
                assert daemon.request("GET", "/livez", timeout=1.0).status == 200
                pause(3)
            daemon.wait_healthy()
        assert_all_stored_once(published, own_database_url)
        assert_counters_balance(daemon)


def test_backends_terminated_every_half_second_lose_nothing(broker: PrivateMosquitto, database_url: str) -> None:
    with (
        Daemon(mqtt_url=broker.url, database_url=database_url, flush_interval=0.1) as daemon,
        psycopg.connect(database_url, autocommit=True) as connection,
    ):
        daemon.wait_healthy()
        with load(broker, rate=1000) as published:
            for _ in range(8):
                terminate_backends(connection)
                pause(0.5)
            daemon.wait_healthy()
        assert daemon.metric("ingestd_flush_retries_total") > 0
        assert_all_stored_once(published, database_url)
        assert_counters_balance(daemon)


def test_a_locked_table_holds_readings_up_and_loses_none(broker: PrivateMosquitto, database_url: str) -> None:
    with Daemon(mqtt_url=broker.url, database_url=database_url, flush_interval=0.1) as daemon:
        daemon.wait_healthy()
        with load(broker, rate=500) as published:
            for table in ("meter_history", "vehicle_live"):
                wait_for_more(database_url, 50)
                with psycopg.connect(database_url) as connection:
                    connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
                    until(lambda: daemon.metric("ingestd_in_flight") > 700)
        assert_all_stored_once(published, database_url)
        assert_counters_balance(daemon)


def test_a_deadlock_with_a_foreign_writer_is_repeated(broker: PrivateMosquitto, database_url: str) -> None:
    """Which table a batch begins with is up to its first message: one of the two orders goes against it."""
    orders = itertools.cycle([tuple(TOUCH), tuple(reversed(TOUCH))])
    with (
        Daemon(mqtt_url=broker.url, database_url=database_url, flush_interval=0.1) as daemon,
        psycopg.connect(database_url, autocommit=True) as observer,
    ):
        daemon.wait_healthy()
        with load(broker, rate=500) as published:
            wait_for_more(database_url, 200)
            for first, second in itertools.islice(orders, 20):
                with psycopg.connect(database_url) as foreigner:
                    foreigner.execute("SET deadlock_timeout = '60s'")  # so that it is the daemon that finds out
                    foreigner.execute(TOUCH[first])
                    assert writer_waits_for_lock(observer)
                    foreigner.execute(TOUCH[second])
                if deadlocks(observer) > 1:
                    break
        until(lambda: deadlocks(observer) > 1)
        assert_all_stored_once(published, database_url)
        assert_counters_balance(daemon)


def test_a_full_disk_holds_readings_up_and_loses_none(broker: PrivateMosquitto, database_url: str) -> None:
    with (
        Daemon(mqtt_url=broker.url, database_url=database_url, flush_interval=0.1) as daemon,
        psycopg.connect(database_url, autocommit=True) as connection,
    ):
        daemon.wait_healthy()
        with load(broker, rate=500) as published:
            with refusing_trigger(connection, table="meter_history", state="53100"):
                until(lambda: daemon.metric("ingestd_flush_retries_total") > 3)
                health = daemon.request("GET", "/health")
                assert health.status == 503
                assert health.json()["database"].startswith("53100")
            daemon.wait_healthy()
        assert count(database_url, "dead_letter") == 0
        assert_all_stored_once(published, database_url)
        assert_counters_balance(daemon)


def test_a_database_that_turns_read_only_is_waited_for(broker: PrivateMosquitto, database_url: str) -> None:
    with (
        Daemon(mqtt_url=broker.url, database_url=database_url, flush_interval=0.1) as daemon,
        psycopg.connect(database_url, autocommit=True) as connection,
    ):
        daemon.wait_healthy()
        name = sql.Identifier(connection.info.dbname)
        with load(broker, rate=500) as published:
            wait_for_more(database_url, 50)
            connection.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
            terminate_backends(connection)
            until(lambda: "25006" in daemon.request("GET", "/health").json()["database"])
            connection.execute(sql.SQL("ALTER DATABASE {} RESET default_transaction_read_only").format(name))
            daemon.wait_healthy()
        assert_all_stored_once(published, database_url)
        assert_counters_balance(daemon)


def test_a_commit_whose_answer_was_cut_is_repeated_and_doubles_nothing(
    broker: PrivateMosquitto, database_url: str
) -> None:
    with (
        Proxy(database_url) as proxy,
        Daemon(mqtt_url=broker.url, database_url=proxy.url, flush_interval=0.2) as daemon,
    ):
        daemon.wait_healthy()
        with load(broker, rate=500) as published:
            for _ in range(5):
                assert proxy.cut_next_commit().wait(10)
            daemon.wait_healthy()
        assert_all_stored_once(published, database_url)
        assert_counters_balance(daemon)
        assert daemon.metric("ingestd_duplicate_total") > 0


def test_connections_reset_anywhere_in_a_transaction_lose_and_double_nothing(
    broker: PrivateMosquitto, database_url: str
) -> None:
    with (
        Proxy(database_url) as proxy,
        Daemon(mqtt_url=broker.url, database_url=proxy.url, flush_interval=0.1) as daemon,
    ):
        daemon.wait_healthy()
        with load(broker, rate=500) as published:
            for size in (1, 100, 700, 3000, 12_345, 30_000):
                assert proxy.reset_after(size, "to server").wait(10)
            for size in (1, 13, 77, 300, 1000):
                assert proxy.reset_after(size, "to client").wait(10)
            daemon.wait_healthy()
        assert_all_stored_once(published, database_url)
        assert_counters_balance(daemon)


def test_a_partition_dropped_behind_its_back_is_made_again(broker: PrivateMosquitto, database_url: str) -> None:
    day = NOW - timedelta(days=10)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SELECT ingestd_make_partition('meter_history', %s::date)", [day])
        with (
            Daemon(mqtt_url=broker.url, database_url=database_url, flush_interval=0.1) as daemon,
            Device(broker.url) as device,
        ):
            daemon.wait_healthy()
            connection.execute(f"DROP TABLE meter_history_{day:%Y%m%d}".encode())

            device.publish_many([meter_message("late", day), meter_message("new", NOW), meter_message("later", day)])

            until(lambda: count(database_url, "meter_history") == 3)
            assert daemon.metric("ingestd_flush_retries_total") == 0
            assert count(database_url, "dead_letter") == 0


def test_readings_of_a_detached_day_become_dead_letters_that_come_back_with_it(
    broker: PrivateMosquitto, database_url: str
) -> None:
    """Before and after a restart, which is when the daemon asks anew which days there are."""
    day = NOW - timedelta(days=10)
    table = f"meter_history_{day:%Y%m%d}"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SELECT ingestd_make_partition('meter_history', %s::date)", [day])
        connection.execute(f"ALTER TABLE meter_history DETACH PARTITION {table}".encode())
        with (
            Daemon(mqtt_url=broker.url, database_url=database_url, flush_interval=0.1) as daemon,
            Device(broker.url) as device,
        ):
            daemon.wait_healthy()
            for number in (1, 2):
                device.publish_many([meter_message("late", day + timedelta(seconds=number)), meter_message("new", NOW)])
                wait_for_rows(database_url, "dead_letter", number)
                assert daemon.request("GET", "/health").status == 200
                assert_counters_balance(daemon)
                daemon.terminate()
                daemon.start()
                daemon.wait_healthy()
            assert count(database_url, "meter_history") == 1
            assert connection.execute("SELECT DISTINCT reason, detail FROM dead_letter").fetchall() == [
                ("database", f"{table} is detached: it is no partition of meter_history")
            ]

            connection.execute(
                f"ALTER TABLE meter_history ATTACH PARTITION {table}"
                f" FOR VALUES FROM ('{day:%F} 00:00+00') TO ('{day + timedelta(days=1):%F} 00:00+00')".encode()
            )
            assert "2 stored" in daemon.command("dead-letters", "replay")
            assert count(database_url, "meter_history") == 3


def test_dead_letters_that_cannot_be_kept_are_not_acknowledged(broker: PrivateMosquitto, database_url: str) -> None:
    poison = [("meters/m-1/telemetry", b"volts: %d" % number) for number in range(20)]
    with Daemon(mqtt_url=broker.url, database_url=database_url, flush_interval=0.1) as daemon:
        daemon.wait_healthy()
        with psycopg.connect(database_url, autocommit=True) as connection, Device(broker.url) as device:
            with refusing_trigger(connection, table="dead_letter", state="42501"):
                device.publish_many([*poison, meter_message("m-1", NOW)])
                until(lambda: daemon.metric("ingestd_flush_retries_total") > 0)
                assert daemon.request("GET", "/health").json()["database"].startswith("42501")
                # Had they been acknowledged, they would not come again.
                daemon.kill()
                daemon.start()
                until(lambda: daemon.exit_code is None and _received(daemon) == 21, within=20)
            until(lambda: count(database_url, "dead_letter") == 20, within=20)
        until(lambda: count(database_url, "meter_history") == 1)
        assert_counters_balance(daemon)


def wait_for_rows(database_url: str, table: str, rows: int) -> None:
    until(lambda: count(database_url, table) == rows)


def _received(daemon: Daemon) -> float:
    try:
        return daemon.metric("ingestd_received_total")
    except OSError:
        return 0.0


def test_a_device_the_database_refuses_for_no_known_reason_costs_its_neighbours_nothing(
    broker: PrivateMosquitto, database_url: str
) -> None:
    def messages() -> Iterator[tuple[str, bytes]]:
        for number in range(300):
            yield meter_message(f"m-{number % 30}", NOW - timedelta(seconds=number))

    with (
        Daemon(mqtt_url=broker.url, database_url=database_url, flush_interval=0.1) as daemon,
        psycopg.connect(database_url, autocommit=True) as connection,
        Device(broker.url) as device,
        refusing_trigger(connection, table="meter_history", state="XX000", level="ROW", when="NEW.meter_id = 'm-7'"),
    ):
        daemon.wait_healthy()
        device.publish_many(messages())
        until(lambda: count(database_url, "meter_history") == 290, within=20)
        until(lambda: count(database_url, "dead_letter") == 10, within=20)
        kept = connection.execute("SELECT DISTINCT topic, reason, left(detail, 5) FROM dead_letter").fetchall()
        assert kept == [("meters/m-7/telemetry", "database", "XX000")]
        assert_counters_balance(daemon)
