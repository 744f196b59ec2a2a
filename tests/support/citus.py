"""Tests on Citus: which tests, and databases on a cluster that is there already.

`INGESTD_TEST_CITUS` is the URL of its coordinator; the role in it has to be a superuser, on the workers too. With it,
each test that has a database runs once more on Citus, except those of `PLAIN`.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    import pytest

URL: Final = os.environ.get("INGESTD_TEST_CITUS", "")
SHARD_COUNT: Final = 4


_PLANS: Final = "looks at plans, locks or statistics of PostgreSQL, which the coordinator has none of"
_DETACH: Final = "Citus does not detach concurrently, so nothing is left half detached; the drop is another"
_TRIGGER: Final = "makes a trigger; Citus takes none on distributed tables"
_ROWS_LOCKED: Final = "locks rows of many devices, or waits for a lock that Citus takes on a worker"
_PLACES: Final = "asks for the partition of rows by tableoid, which is a shard of it on Citus"
_ORDER: Final = "relies on the order of rows without an order"
_SOCKETS: Final = "looks at the server's sockets, and the coordinator may be on another machine"
_NULL: Final = "explains statements with NULL for each parameter, which Citus cannot plan; other tests run them"
PLAIN: Final = {
    "test_plans": _PLANS,
    "test_performance_plans": _PLANS,
    "test_bench": "measures the private server",
    "test_statements": _NULL,
    "test_refused_devices": _TRIGGER,
    "test_alerts_never_read_history": _PLANS,
    "test_a_look_takes_no_lock_and_reads_each_table_once_a_page": _PLANS,
    "test_many_clients_cost_the_database_no_more_than_one": _PLANS,
    "test_nothing_is_sorted_and_one_device_is_read_along_its_key": _PLANS,
    "test_new_readings_are_copied_straight_into_history_and_redeliveries_by_way_of_a_staging_table": _TRIGGER,
    "test_rows_of_another_rule_are_deleted_day_by_day_and_a_daemon_that_was_stopped_goes_on": _ROWS_LOCKED,
    "test_a_closing_waits_for_the_batches_under_way": _ROWS_LOCKED,
    "test_two_writers_of_the_same_devices_do_not_deadlock": _ROWS_LOCKED,
    "test_the_first_readings_of_a_device_may_come_by_two_writers_at_once": _ROWS_LOCKED,
    "test_a_deadlock_with_a_foreign_writer_is_repeated": _ROWS_LOCKED,
    "test_a_full_disk_holds_readings_up_and_loses_none": _TRIGGER,
    "test_dead_letters_that_cannot_be_kept_are_not_acknowledged": _TRIGGER,
    "test_a_device_the_database_refuses_for_no_known_reason_costs_its_neighbours_nothing": _TRIGGER,
    "test_a_partition_is_a_utc_day_wherever_the_server_is": _PLACES,
    "test_a_partition_of_the_ledger_is_a_utc_month_wherever_the_server_is": _PLACES,
    "test_the_writer_puts_readings_into_utc_days_wherever_the_server_is": _PLACES,
    "test_a_partition_is_made_for_a_late_day": _PLACES,
    "test_devices_that_come_back_do_not_make_room_for_others_until_the_summary_is_cleared": _ORDER,
    "test_the_server_soon_asks_a_silent_connection_whether_our_machine_is_still_there": _SOCKETS,
    "test_every_day_is_listed_with_its_size_and_age": "Citus estimates no number of rows",
    "test_what_is_no_partition_any_more_is_listed_as_such": _DETACH,
    "test_what_a_crash_left_undone_is_finished": _DETACH,
    "test_what_somebody_else_has_half_detached_is_theirs_to_finish": _DETACH,
    "test_a_table_that_others_depend_on_stays_and_holds_up_no_other": _DETACH,
    "test_a_reader_keeps_a_day_for_as_long_as_it_likes_and_nobody_else_waits": _DETACH,
    "test_a_reading_on_its_way_to_a_half_dropped_day_has_no_place_until_it_is_gone": _DETACH,
}
"""Modules and tests that do not run on Citus, and why."""
FOLDERS: Final = ("tests.integration.", "tests.e2e.", "tests.faults.")


def runs(metafunc: pytest.Metafunc) -> bool:
    """Whether a test with a database runs on Citus, too. Not if it takes the private server as well."""
    name = metafunc.module.__name__
    uses_server = {"postgres_server", "own_postgres"} & set(metafunc.fixturenames)
    plain = PLAIN.keys() & {name.rpartition(".")[2], metafunc.function.__name__}
    return not uses_server and name.startswith(FOLDERS) and not plain


class Databases(NamedTuple):
    """Each call makes a database, and drops it at the end."""

    migrated: Callable[[], AbstractContextManager[str]]
    empty: Callable[[], AbstractContextManager[str]]


class Node(NamedTuple):
    host: str
    port: int


class CitusCluster:
    """A coordinator and its workers, as the coordinator knows them."""

    def __init__(self, url: str) -> None:
        self._given = conninfo_to_dict(url)
        self.superuser = str(self._given["user"])
        self.coordinator = Node(str(self._given["host"]), int(self._given.get("port") or 5432))
        with psycopg.connect(url) as connection:
            found = connection.execute("SELECT nodename, nodeport FROM pg_dist_node WHERE groupid > 0 ORDER BY nodeid")
            self.workers = [Node(*row) for row in found.fetchall()]

    def dsn(self, database: str, node: Node | None = None) -> str:
        host, port = node or self.coordinator
        return f"postgresql://{self.superuser}@{host}:{port}/{database}"

    def create(self, database: str) -> None:
        """Make a database that has all workers."""
        self.create_plain(database)
        self.extend(database)

    def create_plain(self, database: str) -> None:
        """Make a database on each node, without the extension."""
        with self._administrator(self.coordinator) as connection:
            # Of two that copy template1 at the same time, PostgreSQL refuses one.
            connection.execute("SELECT pg_advisory_lock(hashtext('tests of ingestd'))")
            for node in (self.coordinator, *self.workers):
                self._run(node, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))

    def extend(self, database: str) -> None:
        """Make the extension, and give the workers to the coordinator."""
        for node in (self.coordinator, *self.workers):
            with psycopg.connect(self.dsn(database, node), autocommit=True) as connection:
                connection.execute("CREATE EXTENSION citus")
        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            connection.execute("SELECT citus_set_coordinator_host(%s, %s)", self.coordinator)
            for worker in self.workers:
                connection.execute("SELECT citus_add_node(%s, %s)", worker)

    def freeze(self, database: str) -> None:
        """Let nobody connect any more, not even the maintenance daemon of Citus: for a template, and to be dropped."""
        for node in (self.coordinator, *self.workers):
            with self._administrator(node) as connection:
                there = connection.execute("SELECT FROM pg_database WHERE datname = %s", [database]).fetchone()
                if there is None:
                    continue
                alter = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false")
                connection.execute(alter.format(sql.Identifier(database)))
                connection.execute(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", [database]
                )

    @contextmanager
    def cloned(self, template: str) -> Iterator[str]:
        """The URL of a copy. What the copy knows of shards and workers is in its own catalogs."""
        name = f"test_{uuid4().hex}"
        for node in (self.coordinator, *self.workers):
            self._run(
                node, sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
            )
        try:
            yield self.dsn(name)
        finally:
            self.drop(name)

    @contextmanager
    def empty(self) -> Iterator[str]:
        """The URL of a database that nobody has migrated yet."""
        name = f"test_{uuid4().hex}"
        try:
            self.create(name)
            yield self.dsn(name)
        finally:
            self.drop(name)

    def drop(self, database: str) -> None:
        nodes = (self.coordinator, *self.workers)
        for node in nodes:
            self._roll_back_prepared(database, node)
        self.freeze(database)
        for node in nodes:
            self._run(node, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))

    def _roll_back_prepared(self, database: str, node: Node) -> None:
        """A database with prepared transactions cannot be dropped. Only a session of its own can end them."""
        with self._administrator(node) as connection:
            prepared = connection.execute("SELECT gid FROM pg_prepared_xacts WHERE database = %s", [database])
            identifiers = [gid for (gid,) in prepared]
        if identifiers:
            with psycopg.connect(self.dsn(database, node), autocommit=True) as connection:
                for gid in identifiers:
                    connection.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)))

    def _run(self, node: Node, statement: sql.Composed) -> None:
        with self._administrator(node) as connection:
            connection.execute(statement)

    @contextmanager
    def _administrator(self, node: Node) -> Iterator[psycopg.Connection]:
        host, port = node
        with psycopg.connect(make_conninfo("", **self._given | {"host": host, "port": port}), autocommit=True) as it:
            yield it
