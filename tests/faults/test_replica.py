"""Reads from a real replica: what it shows, how old that is, and what happens while it is away."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest

from ingestd.errors import ReplicaConflictError
from ingestd.store.pool import Pool
from ingestd.store.queries import Statement
from ingestd.store.replica import Replica, ReplicaPool
from tests.faults.load import assert_all_stored_once, assert_counters_balance, load, wait_for_more
from tests.support.daemon import Daemon
from tests.support.polling import eventually, until
from tests.support.readings import count
from tests.support.replication import replay_paused, standby_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingestd.demo.servers import PrivateMosquitto, PrivatePostgres
    from tests.support.replication import StandbyPostgres

METER: Final = "/v1/analytics/meter/m-1"
READS: Final = (
    "/v1/analytics/performance/v-0",
    f"{METER}/series?bucket=15m",
    f"{METER}/totals",
    f"{METER}/live",
    "/v1/analytics/vehicle/v-0/sessions",
    "/v1/analytics/fleet",
    "/v1/analytics/fleet/series?bucket=1h",
    "/v1/analytics/fleet/sessions",
    "/v1/meters",
    "/v1/vehicles",
    "/v1/export/meters.csv?startTime=2026-01-01T00:00:00Z",
    "/v1/dead-letters",
)
ON_PRIMARY: Final = ("/v1/analytics/mappings/v-0", "/v1/devices/meter/m-1/settings", "/v1/alerts", "/v1/audit")


@pytest.fixture
def replica(own_postgres: PrivatePostgres, own_database_url: str) -> Iterator[StandbyPostgres]:
    """One that follows at its own pace, of a migrated database."""
    assert own_database_url
    with standby_of(own_postgres) as server:
        yield server


@pytest.fixture
def daemon(broker: PrivateMosquitto, own_database_url: str, replica: StandbyPostgres) -> Iterator[Daemon]:
    url = replica.dsn("ingestd")
    with Daemon(
        mqtt_url=broker.url, database_url=own_database_url, read_database_url=url, flush_interval=0.1
    ) as running:
        running.wait_healthy()
        until(lambda: health(running)["status"] == "healthy")  # it knows how far the replica is
        yield running


def health(daemon: Daemon) -> dict[str, Any]:
    found: dict[str, Any] = daemon.request("GET", "/health").json()
    return found


def post(daemon: Daemon, meter: str, at: datetime) -> None:
    body = {"meterId": meter, "kwhConsumedAc": 1.5, "voltage": 230, "timestamp": at.isoformat()}
    assert daemon.request("POST", "/v1/telemetry", body=body).status == 201


def backends(url: str, application: str) -> int:
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", [application]
        ).fetchone()
    assert found is not None
    return int(found[0])


def test_answers_are_of_the_replica_and_say_how_old_they_are(
    daemon: Daemon, own_database_url: str, replica: StandbyPostgres
) -> None:
    post(daemon, "m-1", datetime.now(UTC))
    until(lambda: daemon.request("GET", f"{METER}/live").status == 200)
    with replay_paused(replica):
        paused_at = datetime.now(UTC)
        post(daemon, "m-2", datetime.now(UTC))
        assert count(own_database_url, "meter_history") == 2
        assert daemon.request("GET", "/v1/analytics/meter/m-2/live").status == 404
        assert [one["meterId"] for one in daemon.request("GET", "/v1/meters").json()["meters"]] == ["m-1"]
        until(lambda: health(daemon)["replicaLagSeconds"] > 1.5)
        for path in ("/v1/analytics/fleet", f"{METER}/totals", "/v1/analytics/fleet/sessions"):
            as_of = datetime.fromisoformat(daemon.request("GET", path).json()["asOf"])
            assert paused_at - timedelta(seconds=30) < as_of < paused_at, path
        assert daemon.metric("ingestd_replica_lag_seconds") > 1.5
    until(lambda: daemon.request("GET", "/v1/analytics/meter/m-2/live").status == 200)
    until(lambda: health(daemon)["replicaLagSeconds"] < 1.5)
    assert health(daemon)["replica"] == "connected"


def test_an_idle_primary_makes_the_replica_no_older(daemon: Daemon) -> None:
    """The time of the last transaction would; positions are compared instead."""
    first = datetime.fromisoformat(daemon.request("GET", "/v1/analytics/fleet").json()["asOf"])
    until(
        lambda: (
            datetime.fromisoformat(
                daemon.request("GET", "/v1/analytics/fleet", headers={"Cache-Control": "no-cache"}).json()["asOf"]
            )
            > first + timedelta(seconds=2)
        )
    )
    assert health(daemon)["replicaLagSeconds"] < 2


def test_changes_are_of_the_primary_and_seen_there_at_once(
    daemon: Daemon, own_database_url: str, replica: StandbyPostgres
) -> None:
    with replay_paused(replica):
        mapping = {"meterId": "m-1"}
        assert daemon.request("PUT", "/v1/analytics/mappings/v-0", body=mapping).status in {200, 201}
        assert daemon.request("GET", "/v1/analytics/mappings/v-0").status == 200
        assert daemon.request("PUT", "/v1/devices/meter/m-1/settings", body={"maxKw": 100}).status == 200
        assert daemon.request("GET", "/v1/devices/meter/m-1/settings").json()["maxKw"] == 100
        assert len(daemon.request("GET", "/v1/audit").json()["audit"]) == 2
    assert backends(own_database_url, "ingestd-reads") > 0


def test_a_replica_that_is_away_costs_its_answers_and_nothing_else(
    broker: PrivateMosquitto, daemon: Daemon, own_database_url: str, replica: StandbyPostgres
) -> None:
    with load(broker, rate=300) as published:
        wait_for_more(own_database_url, 300)
        until(lambda: daemon.request("GET", f"{METER}/live").status == 200)
        assert [200] * len(READS) == [daemon.request("GET", path).status for path in READS]
        replica.kill()
        until(lambda: health(daemon)["status"] == "degraded")
        assert daemon.metric("ingestd_replica_up") == 0
        for path in READS:
            answer = daemon.request("GET", path, headers={"Cache-Control": "no-cache"})
            assert (answer.status, answer.json()["detail"]) == (503, "the replica for reading does not answer"), path
        for path in ON_PRIMARY:
            assert daemon.request("GET", path).status in {200, 404}, path
        assert daemon.request("GET", "/readyz").status == 200
        wait_for_more(own_database_url, 300)
        replica.start()
        until(lambda: health(daemon)["status"] == "healthy", within=30)
        until(lambda: [200] * len(READS) == [daemon.request("GET", path).status for path in READS], within=30)
    assert_all_stored_once(published, own_database_url)
    assert_counters_balance(daemon)


def test_a_daemon_starts_without_its_replica(
    broker: PrivateMosquitto, own_database_url: str, replica: StandbyPostgres
) -> None:
    url = replica.dsn("ingestd")
    replica.stop()
    with Daemon(mqtt_url=broker.url, database_url=own_database_url, read_database_url=url) as daemon:
        daemon.wait_healthy()
        assert health(daemon)["status"] == "degraded"
        post(daemon, "m-1", datetime.now(UTC))
        replica.start()
        until(lambda: daemon.request("GET", f"{METER}/live").status == 200, within=30)


def test_reads_go_on_while_the_primary_is_away(
    daemon: Daemon, own_postgres: PrivatePostgres, replica: StandbyPostgres
) -> None:
    assert replica.running
    post(daemon, "m-1", datetime.now(UTC))
    until(lambda: daemon.request("GET", f"{METER}/live").status == 200)
    own_postgres.kill()
    killed_at = datetime.now(UTC)
    until(lambda: health(daemon)["status"] == "unhealthy")
    until(lambda: health(daemon)["replicaLagSeconds"] > 2)
    answer = daemon.request("GET", f"{METER}/totals")
    assert answer.status == 200
    assert datetime.fromisoformat(answer.json()["asOf"]) < killed_at
    own_postgres.start()
    daemon.wait_healthy()


async def test_a_query_that_replication_ends_is_told_from_an_outage(
    own_postgres: PrivatePostgres, own_database_url: str
) -> None:
    """The replica replays a TRUNCATE, which waits for nobody who reads the table."""
    slow = Statement(text=b"SELECT pg_sleep(20) FROM (SELECT count(*) FROM meter_live) AS counted", parameters=())
    with standby_of(own_postgres, max_standby_streaming_delay="0") as replica:
        async with Pool(own_database_url) as primary, AsyncExitStack() as opened, asyncio.TaskGroup() as tasks:
            looks = Replica(replica.dsn("ingestd"), primary=primary)
            opened.push_async_callback(looks.close)
            await looks.open()
            looking = tasks.create_task(looks.run())
            await eventually(lambda: looks.shown_until)
            pool = await opened.enter_async_context(ReplicaPool(replica.dsn("ingestd"), replica=looks))
            tasks.create_task(truncate_soon(own_database_url, replica.dsn("ingestd")))
            with pytest.raises(ReplicaConflictError):
                await in_snapshot(pool, slow)
            looking.cancel()


async def in_snapshot(pool: Pool, statement: Statement) -> None:
    async with pool.snapshot() as snapshot:
        await snapshot.fetch(statement, {})


async def truncate_soon(primary: str, replica: str) -> None:
    """As soon as the query runs there."""
    sleeping = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    async with await psycopg.AsyncConnection.connect(replica, autocommit=True) as connection:

        async def is_sleeping() -> bool:
            return await (await connection.execute(sleeping)).fetchone() is not None

        await eventually(is_sleeping)
    async with await psycopg.AsyncConnection.connect(primary, autocommit=True) as connection:
        await connection.execute("TRUNCATE meter_live")
