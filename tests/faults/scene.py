"""What faults act on: the servers, the proxies before them, and the supervised daemon."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import psutil
import psycopg

from tests.support.polling import until

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Mapping, Sequence

    from ingestd.demo.servers import PrivateMosquitto, PrivatePostgres
    from tests.faults.supervisor import Supervisor
    from tests.support.proxy import Proxy

KILL_ON_TOP: Final = 0.4
"""The probability that the daemon is killed during another fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A supervised daemon, and its network."""

    to_postgres: Proxy
    to_broker: Proxy
    supervisor: Supervisor


@dataclass(slots=True, kw_only=True)
class Scene:
    """The servers, the network between them and the daemons, and the source of chance."""

    random: random.Random
    postgres: PrivatePostgres
    broker: PrivateMosquitto
    units: Sequence[Unit]
    settings: Mapping[str, str | float]
    """What all daemons have in common."""
    unit: Unit
    """The one that the present fault is for."""
    on_top: Counter[str] = field(default_factory=Counter)
    """Faults that came while another was in force."""

    @property
    def supervisor(self) -> Supervisor:
        return self.unit.supervisor

    @property
    def to_postgres(self) -> Proxy:
        return self.unit.to_postgres

    @property
    def to_broker(self) -> Proxy:
        return self.unit.to_broker

    def hold(self, low: float, high: float) -> None:
        """Wait while a fault lasts; perhaps kill the daemon meanwhile."""
        seconds = self.random.uniform(low, high)
        if self.random.random() < KILL_ON_TOP:
            pause(seconds / 2)
            self.supervisor.kill()
            self.on_top["daemon: kill -9 during another fault"] += 1
            pause(seconds / 2)
        else:
            pause(seconds)

    @contextmanager
    def database(self) -> Iterator[psycopg.Connection]:
        """A superuser's connection past the proxy, in autocommit mode; it can write also to a read-only server."""
        with psycopg.connect(
            self.postgres.dsn(), autocommit=True, options="-c default_transaction_read_only=off"
        ) as connection:
            yield connection


@contextmanager
def frozen(server: PrivatePostgres) -> Iterator[None]:
    """All processes of the server are stopped by SIGSTOP; their connections stay open."""
    postmaster = psutil.Process(server.pid)
    postmaster.send_signal(signal.SIGSTOP)  # first, so that it makes no more children
    processes = [postmaster, *postmaster.children(recursive=True)]
    try:
        _send(processes, signal.SIGSTOP)
        yield
    finally:
        _send(processes, signal.SIGCONT)


def terminate_backends(connection: psycopg.Connection, application: str = "ingestd%") -> None:
    """Terminate backends of the connection's database whose application name is LIKE `application`."""
    connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name LIKE %s",
        [application],
    )


def writer_waits_for_lock(connection: psycopg.Connection) -> bool:
    """Whether the writer waits for a lock within five seconds."""
    waiting = (
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'ingestd-writer' AND wait_event_type = 'Lock'"
    )
    with suppress(AssertionError):
        return until(lambda: connection.execute(waiting).fetchone() is not None, within=5.0)
    return False


def deadlocks(connection: psycopg.Connection) -> int:
    """The number of deadlocks that the database has found. Its statistics follow with a short delay."""
    found = connection.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").fetchone()
    assert found is not None
    return int(found[0])


def pause(seconds: float) -> None:
    """Let a fault last; there is no event to wait for."""
    threading.Event().wait(seconds)


def _send(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


@contextmanager
def refusing_trigger(
    connection: psycopg.Connection, *, table: str, state: str, level: str = "STATEMENT", when: str = ""
) -> Iterator[None]:
    """A trigger that raises SQLSTATE `state` at every insert, or at rows WHEN (`when`)."""
    name = f"refuse_{table}"
    condition = f"WHEN ({when})" if when else ""
    connection.execute(
        f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION 'refused by a test' USING ERRCODE = '{state}'; END $$".encode()
    )
    _insist(
        connection,
        f"CREATE TRIGGER {name} BEFORE INSERT ON {table} FOR EACH {level} {condition} EXECUTE FUNCTION {name}()",
    )
    try:
        yield
    finally:
        _insist(connection, f"DROP TRIGGER {name} ON {table}")


def _insist(connection: psycopg.Connection, statement: str) -> None:
    """Execute the statement until it is not the victim of a deadlock. Otherwise the trigger would stay for ever."""
    while True:
        try:
            connection.execute(statement.encode())
        except psycopg.errors.DeadlockDetected:
            continue
        return
