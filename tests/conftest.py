"""Real servers, started once where they may be shared, and a fresh database and broker for every test."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from ingestd.demo.servers import PrivateMosquitto, PrivatePostgres
from tests.support import citus
from tests.support.citus import CitusCluster, Databases

if TYPE_CHECKING:
    from collections.abc import Iterator

QUICK = {"fsync": "off", "full_page_writes": "off", "max_connections": "200"}
"""Settings of a server that is deleted after the test run; not for a server that a test kills."""
MEMORY = Path("/dev/shm")  # noqa: S108 - a private directory is made in it
ROOM = 2 * 2**30
"""Bytes that have to be free for databases to be kept in memory."""


def pytest_configure() -> None:
    """Started in the background, pytest ignores SIGINT, and so would whatever a test starts to interrupt it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with a database runs on PostgreSQL, and once more on Citus if there is one (tests/support/citus.py)."""
    if citus.URL and "databases" in metafunc.fixturenames and citus.runs(metafunc):
        metafunc.parametrize("databases", ["postgresql", "citus"], indirect=True, scope="session")


@pytest.fixture(scope="session", autouse=True)
def _no_setting_of_the_tests() -> None:
    """Programs that tests start take each INGESTD_ variable for a setting of theirs."""
    for name in [name for name in os.environ if name.startswith("INGESTD_TEST_")]:
        del os.environ[name]


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PrivatePostgres]:
    """One server for all tests; a test that stops or kills takes `own_postgres`."""
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM
    with (
        TemporaryDirectory(prefix="ingestd-databases-", dir=MEMORY if roomy else None) as databases,
        PrivatePostgres(settings=QUICK) as server,
    ):
        account = server.directory.stat()
        os.chown(databases, account.st_uid, account.st_gid)
        with _administrator(server) as connection:
            connection.execute(sql.SQL("CREATE TABLESPACE quick LOCATION {}").format(sql.Literal(databases)))
        yield server


@pytest.fixture(scope="session")
def template_database(postgres_server: PrivatePostgres) -> str:
    """The name of a migrated database, to be cloned, never connected to."""
    _create_database(postgres_server, "ingestd_template")
    _migrate(postgres_server.dsn("ingestd_template"))
    return "ingestd_template"


@pytest.fixture(scope="session")
def databases(request: pytest.FixtureRequest) -> Databases:
    """Where tests get their databases: PostgreSQL, and Citus too for those that `pytest_generate_tests` says."""
    found: Databases = request.getfixturevalue(f"{getattr(request, 'param', 'postgresql')}_databases")
    return found


@pytest.fixture(scope="session")
def postgresql_databases(postgres_server: PrivatePostgres, template_database: str) -> Databases:
    return Databases(
        migrated=lambda: _cloned(postgres_server, template_database), empty=lambda: _empty(postgres_server)
    )


@pytest.fixture(scope="session")
def citus_databases() -> Iterator[Databases]:
    cluster, template = CitusCluster(citus.URL), f"template_{uuid4().hex}"
    try:
        cluster.create(template)
        _migrate(cluster.dsn(template), shard_count=citus.SHARD_COUNT)
        cluster.freeze(template)
        yield Databases(migrated=lambda: cluster.cloned(template), empty=cluster.empty)
    finally:
        cluster.drop(template)


@pytest.fixture
def database_url(databases: Databases) -> Iterator[str]:
    """A migrated, empty database of the test's own."""
    with databases.migrated() as url:
        yield url


@pytest.fixture(scope="module")
def shared_database_url(databases: Databases) -> Iterator[str]:
    """A migrated database for all tests of a file, each with devices of its own."""
    with databases.migrated() as url:
        yield url


@pytest.fixture
def empty_database_url(databases: Databases) -> Iterator[str]:
    """A database of the test's own that nobody has migrated yet."""
    with databases.empty() as url:
        yield url


@pytest.fixture
def own_postgres() -> Iterator[PrivatePostgres]:
    """A server that one test may stop, kill and start; with fsync, as in production."""
    with PrivatePostgres() as server:
        yield server


@pytest.fixture
def own_database_url(own_postgres: PrivatePostgres) -> str:
    """A migrated, empty database in `own_postgres`."""
    _create_database(own_postgres, "ingestd")
    _migrate(own_postgres.dsn("ingestd"))
    return own_postgres.dsn("ingestd")


@pytest.fixture
def broker() -> Iterator[PrivateMosquitto]:
    """A broker of the test's own, without sessions and retained messages of others. It starts in about 20 ms."""
    with PrivateMosquitto() as server:
        yield server


@contextmanager
def _administrator(server: PrivatePostgres) -> Iterator[psycopg.Connection]:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        yield connection


@contextmanager
def _cloned(server: PrivatePostgres, template: str) -> Iterator[str]:
    name = f"test_{uuid4().hex}"
    # A copy of the files in memory: 17 ms instead of 49 to 290 on a disk. The default logs every page of the template.
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy TABLESPACE quick")
    with _administrator(server) as connection:
        connection.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
    yield server.dsn(name)
    with _administrator(server) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def _empty(server: PrivatePostgres) -> Iterator[str]:
    name = f"test_{uuid4().hex}"
    _create_database(server, name)
    yield server.dsn(name)
    with _administrator(server) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _create_database(server: PrivatePostgres, name: str) -> None:
    with _administrator(server) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def _migrate(dsn: str, **options: int) -> None:
    from ingestd.store.migrations import migrate  # noqa: PLC0415 - tests of the servers do without the store

    asyncio.run(migrate(dsn, **options))
