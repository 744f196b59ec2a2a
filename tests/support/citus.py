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


PLAIN: Final = {
    "test_plans": "the plans are PostgreSQL's own",
}
"""Modules whose tests do not run on Citus, and why."""
FOLDERS: Final = ("tests.integration.", "tests.e2e.", "tests.faults.")


def runs(metafunc: pytest.Metafunc) -> bool:
    """Whether a test with a database runs on Citus, too."""
    name = metafunc.module.__name__
    uses_server = {"postgres_server", "own_postgres"} & set(metafunc.fixturenames)
    return not uses_server and name.startswith(FOLDERS) and name.rpartition(".")[2] not in PLAIN


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
        self.coordinator = Node(str(self._given["host"]), int(self._given.get("port") or 5432))
        with psycopg.connect(url) as connection:
            found = connection.execute("SELECT nodename, nodeport FROM pg_dist_node WHERE groupid > 0 ORDER BY nodeid")
            self.workers = [Node(*row) for row in found.fetchall()]

    def dsn(self, database: str, node: Node | None = None) -> str:
        host, port = node or self.coordinator
        user = self._given["user"]
        return f"postgresql://{user}@{host}:{port}/{database}"

    def create(self, database: str) -> None:
        """Make a database that has all workers."""
        for node in (self.coordinator, *self.workers):
            self._run(node, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
            with psycopg.connect(self.dsn(database, node), autocommit=True) as connection:
                connection.execute("CREATE EXTENSION citus")
        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            connection.execute("SELECT citus_set_coordinator_host(%s, %s)", self.coordinator)
            for worker in self.workers:
                connection.execute("SELECT citus_add_node(%s, %s)", worker)

    def freeze(self, database: str) -> None:
        """Make it a template: nobody can connect any more, not even the maintenance daemon of Citus."""
        for node in (self.coordinator, *self.workers):
            self._run(node, sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(database)))
            with self._administrator(node) as connection:
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
        for node in (self.coordinator, *self.workers):
            self._run(node, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))

    def _run(self, node: Node, statement: sql.Composed) -> None:
        with self._administrator(node) as connection:
            connection.execute(statement)

    @contextmanager
    def _administrator(self, node: Node) -> Iterator[psycopg.Connection]:
        host, port = node
        with psycopg.connect(make_conninfo("", **self._given | {"host": host, "port": port}), autocommit=True) as it:
            yield it
