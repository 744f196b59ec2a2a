# ruff: noqa: SIM300 - expected == actual
"""Reads that take too long, and clients that do not wait for them: nobody else notices."""

from __future__ import annotations

import asyncio
import random
import socket
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg
import pytest

from ingestd.errors import TransientStoreError
from ingestd.store.pool import CONNECTIONS, CUT_SECONDS, Pool
from ingestd.store.queries import Statement
from tests.faults.scene import frozen
from tests.support.daemon import Daemon
from tests.support.polling import until
from tests.support.readings import count, meter_message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingestd.demo.servers import PrivateMosquitto, PrivatePostgres

SECONDS = 0.3
CANCELLING_SECONDS = 6
READING = b"SELECT nextval('begun'), pg_sleep(60)"
PERFORMANCE = "/v1/analytics/performance/EV-1"
FLEET = "/v1/analytics/fleet"
WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'ingestd-reads' AND state = 'active'
"""


@contextmanager
def locked(database_url: str, table: str) -> Iterator[psycopg.Connection]:
    """Whoever reads or writes the table waits until this ends."""
    with psycopg.connect(database_url) as connection:
        connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
        yield connection


def reads_under_way(database_url: str) -> int:
    with psycopg.connect(database_url) as connection:
        ((number,),) = connection.execute(WAITING).fetchall()
    return int(number)


@contextmanager
def asked(
    daemon: Daemon, path: str, *, source: str = "127.0.0.1", method: str = "GET", body: bytes = b""
) -> Iterator[socket.socket]:
    """A client at `source` that has sent its request, and hangs up in the end."""
    host, port = daemon.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), source_address=(source, 0)) as client:
        headers = ["Host: localhost", "Content-Type: application/json", f"Content-Length: {len(body)}"]
        client.sendall("\r\n".join([f"{method} {path} HTTP/1.1", *headers, "", ""]).encode() + body)
        yield client


def watched(database_url: str, task: str = "dead-letter-rate") -> datetime | None:
    """When the alert watcher last did this task."""
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT watched_at FROM alert_watch WHERE task = %s", [task]).fetchall()
    return rows[0][0] if rows else None


# The limit


async def begun(database_url: str, pool: Pool) -> int:
    """How often a read that fails was begun."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE SEQUENCE begun")
        with pytest.raises(TransientStoreError):
            await pool.fetch(Statement(text=READING, parameters=()), {})
        ((number,),) = connection.execute("SELECT last_value FROM begun").fetchall()
    return int(number)


async def test_a_read_that_reaches_its_limit_is_ended_by_the_server_and_runs_once(database_url: str) -> None:
    pool = Pool(database_url, seconds=SECONDS)
    await pool.open()
    try:
        async with asyncio.timeout(CUT_SECONDS):
            assert 1 == await begun(database_url, pool)
        assert [(1,)] == await pool.fetch(Statement(text=b"SELECT 1", parameters=()), {})
    finally:
        await pool.close()


async def test_a_read_of_a_frozen_server_is_cut_a_little_after_the_limit(
    own_postgres: PrivatePostgres, own_database_url: str
) -> None:
    pool = Pool(own_database_url, seconds=SECONDS)
    await pool.open()
    loop = asyncio.get_running_loop()

    async def read() -> None:
        async with pool.transaction() as connection:
            with frozen(own_postgres):
                await connection.execute("SELECT 1")

    begin = loop.time()
    with pytest.raises(TransientStoreError):
        await read()
    assert SECONDS + CUT_SECONDS <= loop.time() - begin <= SECONDS + 3 * CUT_SECONDS
    await pool.close()


async def test_connections_that_died_while_idle_cost_no_read(database_url: str) -> None:
    pool = Pool(database_url)
    await pool.open()
    try:
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'ingestd-reads'"
            )
        assert [(1,)] == await pool.fetch(Statement(text=b"SELECT 1", parameters=()), {})
    finally:
        await pool.close()


# Clients that hang up


async def test_reads_that_are_cancelled_at_any_moment_keep_no_connection(database_url: str) -> None:
    chance = random.Random(7)  # noqa: S311 - a test repeats itself
    pool = Pool(database_url)
    await pool.open()
    statements = (b"SELECT 1", b"SELECT pg_sleep(0.01)", b"SELECT 1 / 0", b"SELECT generate_series(1, 3000)")

    async def read(text: bytes) -> None:
        await pool.fetch(Statement(text=text, parameters=()), {})

    try:
        end = asyncio.get_running_loop().time() + CANCELLING_SECONDS
        while asyncio.get_running_loop().time() < end:
            asked = [asyncio.create_task(read(chance.choice(statements))) for _ in range(chance.randint(1, 20))]
            for _ in range(30):
                await asyncio.sleep(chance.choice((0, chance.random() * 0.004)))
                task = chance.choice(asked)
                if not task.cancelling():
                    task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        # Where one is lost, the last of these waits for another to end.
        async with asyncio.timeout(1.9), asyncio.TaskGroup() as tasks:
            for _ in range(CONNECTIONS):
                tasks.create_task(read(b"SELECT pg_sleep(1)"))
    finally:
        await pool.close()


def test_a_client_that_hangs_up_ends_its_read(broker: PrivateMosquitto, database_url: str) -> None:
    with Daemon(mqtt_url=broker.url, database_url=database_url) as daemon:
        daemon.wait_healthy()
        with locked(database_url, "vehicle_history"):
            with asked(daemon, PERFORMANCE):
                until(lambda: reads_under_way(database_url) == 1)
            until(lambda: reads_under_way(database_url) == 0)


def test_requests_that_nobody_waits_for_stop_neither_health_nor_alerts(
    broker: PrivateMosquitto, database_url: str
) -> None:
    with (
        Daemon(mqtt_url=broker.url, database_url=database_url, alert_min_duration="1s") as daemon,
        ExitStack() as stack,
    ):
        daemon.wait_healthy()
        # Until the efficiencies are looked at, which themselves read the history.
        until(lambda: watched(database_url, "retirement") is not None)
        with locked(database_url, "vehicle_history"):
            for _ in range(8):
                stack.enter_context(asked(daemon, PERFORMANCE))
            until(lambda: reads_under_way(database_url) == 4)

            assert 200 == daemon.request("GET", "/health", timeout=5.0).status
            looked = watched(database_url)
            until(lambda: watched(database_url) != looked)


def test_a_change_is_carried_through_though_the_client_hangs_up(broker: PrivateMosquitto, database_url: str) -> None:
    mapping = b'{"meterId":"m-1"}'
    _, reading = meter_message("m-1", datetime.now(UTC))
    with Daemon(mqtt_url=broker.url, database_url=database_url) as daemon:
        daemon.wait_healthy()
        with (
            locked(database_url, "vehicle_meter_mapping"),
            asked(daemon, "/v1/analytics/mappings/EV-1", method="PUT", body=mapping),
        ):
            until(lambda: reads_under_way(database_url) == 1)
        until(lambda: count(database_url, "vehicle_meter_mapping") == 1)
        with locked(database_url, "meter_live"), asked(daemon, "/v1/telemetry", method="POST", body=reading):
            until(lambda: daemon.metric("ingestd_in_flight") == 1)
        until(lambda: count(database_url, "meter_history") == 1)


def test_a_stop_ends_in_good_order_though_neither_reads_nor_writes_come_to_an_end(
    broker: PrivateMosquitto, database_url: str
) -> None:
    _, reading = meter_message("m-1", datetime.now(UTC))
    with Daemon(mqtt_url=broker.url, database_url=database_url, flush_interval=0.1) as daemon:
        daemon.wait_healthy()
        with (
            locked(database_url, "meter_live"),
            asked(daemon, "/v1/analytics/meter/m-1/live"),
            asked(daemon, "/v1/telemetry", method="POST", body=reading),
        ):
            until(lambda: reads_under_way(database_url) == 1)
            until(lambda: daemon.metric("ingestd_in_flight") == 1)
            assert 0 == daemon.terminate(within=10.0)


# Heavy reads


def test_two_heavy_reads_at_a_time_and_one_of_each_client(broker: PrivateMosquitto, database_url: str) -> None:
    with Daemon(mqtt_url=broker.url, database_url=database_url) as daemon:
        daemon.wait_healthy()
        with locked(database_url, "vehicle_live"), ExitStack() as first, ExitStack() as others:
            for _ in range(2):
                first.enter_context(asked(daemon, "/v1/vehicles", source="127.0.0.2"))
            until(lambda: reads_under_way(database_url) == 1)
            for last in (3, 4, 5):
                others.enter_context(asked(daemon, "/v1/vehicles", source=f"127.0.0.{last}"))
            until(lambda: reads_under_way(database_url) == 2)
            answer = daemon.request("GET", FLEET, timeout=15.0)
            assert (503, "5") == (answer.status, answer.headers["retry-after"])
            assert 2 == reads_under_way(database_url)
            assert 404 == daemon.request("GET", "/v1/analytics/mappings/EV-1", timeout=5.0).status
        assert 200 == daemon.request("GET", FLEET).status
