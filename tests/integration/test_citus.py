# ruff: noqa: SIM300 - expected == actual
"""What is only on Citus: what `ingestd migrate` distributes, and what a worker that is away does not lose."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from ingestd.errors import OperatorStoreError
from ingestd.store.migrations import available, migrate
from tests.faults.load import assert_all_stored_once, assert_counters_balance, load, wait_for_more
from tests.faults.scene import pause
from tests.support import citus
from tests.support.citus import CitusCluster
from tests.support.daemon import Daemon
from tests.support.polling import until
from tests.support.proxy import Proxy
from tests.support.readings import count
from tests.support.roles import Cluster, do_all_its_work

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingestd.demo.servers import PrivateMosquitto
    from tests.support.citus import Databases

if not citus.URL:
    pytest.skip(
        "INGESTD_TEST_CITUS names no coordinator of Citus: all tests ran on PostgreSQL only", allow_module_level=True
    )

TABLES = {
    f"{stream}_{kind}" for stream in ("meter", "vehicle") for kind in ("history", "live", "quarter", "hour", "stale")
}
SYNCED = "SELECT bool_and(metadatasynced) FROM pg_dist_node WHERE hasmetadata"
COPIED = {"vehicle_meter_mapping", "device_setting"}


@pytest.fixture
def url(citus_databases: Databases) -> Iterator[str]:
    with citus_databases.migrated() as url:
        yield url


def distribution(url: str) -> dict[str, tuple[str, int]]:
    """By table: `h` for distributed or `n` for a copy on each worker, and the colocation."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT logicalrelid::text, partmethod::text, colocationid FROM pg_dist_partition"
            " JOIN pg_class ON oid = logicalrelid WHERE NOT relispartition"
        ).fetchall()
    return {table: (method, colocation) for table, method, colocation in rows}


# What is distributed


def test_tables_of_a_stream_are_together_and_each_worker_has_the_small_ones(url: str) -> None:
    found = distribution(url)

    assert TABLES == {table for table, (method, _) in found.items() if method == "h"}
    assert COPIED == {table for table, (method, _) in found.items() if method == "n"}
    colocations = {
        stream: {found[table][1] for table in TABLES if table.startswith(stream)} for stream in ("meter", "vehicle")
    }
    assert [1, 1] == [len(its) for its in colocations.values()]
    with psycopg.connect(url) as connection:
        assert [(citus.SHARD_COUNT,)] == connection.execute(
            "SELECT count(*) FROM pg_dist_shard WHERE logicalrelid = 'meter_live'::regclass"
        ).fetchall()


async def test_what_is_distributed_stays_as_it_is(url: str) -> None:
    before = distribution(url)

    assert [] == await migrate(url, shard_count=2 * citus.SHARD_COUNT)
    assert before == distribution(url)


async def test_a_database_that_has_rows_already_keeps_them_and_nothing_is_left_behind() -> None:
    cluster, name = CitusCluster(citus.URL), f"test_{uuid4().hex}"
    tables = ("meter_history", "meter_live", "vehicle_meter_mapping")
    try:
        cluster.create_plain(name)
        url = cluster.dsn(name)
        assert len(available()) == len(await migrate(url))
        with psycopg.connect(url) as connection:
            connection.execute("SELECT ingestd_make_partition('meter_history', current_date)")
            connection.execute(
                "INSERT INTO meter_history SELECT 'm-' || n, current_date + n * interval '1 minute', now(), 0.1, 230"
                " FROM generate_series(1, 500) AS n"
            )
            connection.execute("INSERT INTO meter_live SELECT * FROM meter_history")
            connection.execute("INSERT INTO vehicle_meter_mapping VALUES ('v', now(), NULL, 'm-1')")
        cluster.extend(name)

        assert sorted(f"distributed {table}" for table in TABLES | COPIED) == await migrate(url)

        assert [500, 500, 1] == [count(url, table) for table in tables]
        with psycopg.connect(url) as connection:
            kept_here = connection.execute(
                "SELECT sum(pg_relation_size(logicalrelid)) FROM pg_dist_partition"
            ).fetchall()
            assert [(0,)] == kept_here
            assert connection.execute(
                "SELECT ingestd_table_size(oid::regclass) > 8192 FROM pg_class"
                " WHERE relkind = 'r' AND relname ~ '^meter_history_2'"
            ).fetchall() == [(True,)]
    finally:
        cluster.drop(name)


async def test_a_worker_is_no_place_for_ingestd(url: str) -> None:
    cluster = CitusCluster(citus.URL)

    with pytest.raises(OperatorStoreError, match="address of the coordinator"):
        await migrate(cluster.dsn(urlsplit(url).path[1:], cluster.workers[0]))


@pytest.fixture
def with_roles() -> Iterator[Cluster]:
    """A migrated database that belongs to ingestd_owner."""
    cluster, name = CitusCluster(citus.URL), f"test_{uuid4().hex}"
    there = roles_of(cluster)
    try:
        cluster.create(name)
        its = Cluster(lambda _: cluster.dsn(name), superuser=cluster.superuser)
        its.make_roles()
        its.migrate("ingestd_owner", shard_count=citus.SHARD_COUNT)
        yield its
    finally:
        cluster.drop(name)
        with psycopg.connect(citus.URL, autocommit=True) as connection:
            for role in roles_of(cluster) - there:
                connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def roles_of(cluster: CitusCluster) -> set[str]:
    with psycopg.connect(cluster.dsn("postgres")) as connection:
        return {role for (role,) in connection.execute("SELECT rolname FROM pg_roles").fetchall()}


def test_the_daemon_does_all_its_work_there_without_the_rights_of_the_owner(
    with_roles: Cluster, broker: PrivateMosquitto
) -> None:
    do_all_its_work(with_roles, broker)


# A worker away


@contextmanager
def worker_behind_proxy(url: str) -> Iterator[tuple[Proxy, int]]:
    """The first worker of the database, which the others reach through a proxy, and the proxy's port."""
    worker = CitusCluster(citus.URL).workers[0]
    with Proxy(f"postgresql://{worker.host}:{worker.port}") as proxy:
        port = urlsplit(proxy.url).port
        assert port is not None
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "SELECT citus_update_node(nodeid, '127.0.0.1', %s) FROM pg_dist_node WHERE nodeport = %s",
                (port, worker.port),
            )
            # Citus tells the workers of it in the background. Until then it refuses changes of all of them.
            until(lambda: (True,) == connection.execute(SYNCED).fetchone(), within=30)
        yield proxy, port


def meters_by_worker(url: str, port: int) -> dict[bool, str]:
    """A meter with its rows on the worker of this port (True), and one with its rows on another."""
    with psycopg.connect(url) as connection:
        return dict(
            connection.execute(
                "SELECT nodeport = %s, min(meter_id) FROM meter_live JOIN pg_dist_shard_placement"
                " ON shardid = get_shard_id_for_distribution_column('meter_live', meter_id) GROUP BY 1",
                (port,),
            ).fetchall()
        )


@contextmanager
def under_load(broker: PrivateMosquitto, url: str) -> Iterator[tuple[Daemon, Proxy, int]]:
    """A daemon under load, with a worker behind a proxy. In the end each reading is stored, once."""
    with (
        worker_behind_proxy(url) as (proxy, port),
        Daemon(mqtt_url=broker.url, database_url=url, flush_interval=0.1) as daemon,
    ):
        daemon.wait_healthy()
        with load(broker, rate=200) as published:
            wait_for_more(url, 300)
            yield daemon, proxy, port
        assert_all_stored_once(published, url)
        assert_counters_balance(daemon)
        assert 0 == count(url, "dead_letter")


def test_while_a_worker_is_away_the_batch_waits_and_questions_about_other_devices_are_answered(
    broker: PrivateMosquitto, url: str
) -> None:
    with under_load(broker, url) as (daemon, proxy, port):
        meters = meters_by_worker(url, port)

        proxy.refuse()
        proxy.cut()
        until(lambda: daemon.metric("ingestd_flush_retries_total") > 2)

        here = daemon.request("GET", f"/v1/analytics/meter/{meters[False]}/live")
        there = daemon.request("GET", f"/v1/analytics/meter/{meters[True]}/live")
        fleet = daemon.request("GET", "/v1/analytics/fleet")
        assert [200, 503, 503] == [here.status, there.status, fleet.status]
        assert there.json()["detail"].startswith("a worker of the database does not answer")
        assert 200 == daemon.request("GET", "/v1/alerts").status
        health = daemon.request("GET", "/health")
        assert 503 == health.status
        assert "remote node" in health.json()["database"]

        proxy.accept()
        daemon.wait_healthy()
        wait_for_more(url, 100)


def test_a_worker_that_hangs_holds_the_batch_up_and_loses_nothing(broker: PrivateMosquitto, url: str) -> None:
    with under_load(broker, url) as (daemon, proxy, port):
        meters = meters_by_worker(url, port)

        proxy.black_hole()
        until(lambda: daemon.metric("ingestd_in_flight") > 400)
        here = daemon.request("GET", f"/v1/analytics/meter/{meters[False]}/live")
        there = daemon.request("GET", f"/v1/analytics/meter/{meters[True]}/live")
        assert [200, 503] == [here.status, there.status]

        proxy.resume()
        wait_for_more(url, 100)
        daemon.wait_healthy()


def test_a_worker_that_is_lost_in_the_middle_of_transactions_loses_no_reading(
    broker: PrivateMosquitto, url: str
) -> None:
    with under_load(broker, url) as (_, proxy, _):
        for _ in range(8):
            proxy.cut()
            pause(0.3)
        cut = proxy.cut_next(b"PREPARE TRANSACTION")
        # The worker keeps what it has prepared until Citus decides about it, by itself within a minute. One of the cuts
        # above may have left something, too.
        until(lambda: decided(url) and cut.is_set(), within=30)
        until(lambda: decided(url), within=30)


def decided(url: str) -> bool:
    """Have Citus decide about prepared transactions; whether none is left on any worker."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT recover_prepared_transactions()")
        left = connection.execute(
            "SELECT result FROM run_command_on_workers($$SELECT count(*) FROM pg_prepared_xacts"
            " WHERE database = current_database() AND prepared < now() - interval '1 second'$$)"
        ).fetchall()
    return all(result == "0" for (result,) in left)
