"""A PostgreSQL standby: a copy of a running server, which follows it by streaming replication."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import psycopg

from ingestd.demo.process import DEADLINE, LOOPBACK, ServerError
from ingestd.demo.servers import PrivatePostgres
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator

WITHIN: Final = 30.0


class StandbyPostgres(PrivatePostgres):
    """A hot standby of `primary`, made by pg_basebackup when it is started first. It answers reads."""

    name = "PostgreSQL standby"

    def __init__(self, primary: PrivatePostgres, *, port: int | None = None, **settings: str) -> None:
        """It connects to `port` where one is given: that of a proxy before the primary."""
        super().__init__(settings=settings)
        self._primary_port = port or primary.port

    def promote(self) -> None:
        """Make it a primary; returns when it takes writes."""
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            connection.execute("SELECT pg_promote(wait => true, wait_seconds => 60)")

    def _set_up(self) -> None:
        self._binaries = self._find_binaries()
        self._hand_over()
        copying = self._spawn(
            [
                *(str(self._binaries / "pg_basebackup"), "--pgdata", str(self._data), "--write-recovery-conf"),
                *("--checkpoint=fast", "--no-sync"),
                *("--dbname", f"postgresql://postgres@{LOOPBACK}:{self._primary_port}/?application_name=standby"),
            ]
        )
        try:
            if copying.wait(DEADLINE):
                raise ServerError(self._story("could not copy its primary"))
        finally:
            copying.kill()
            copying.wait()


def several_hosts(*servers: PrivatePostgres, parameters: str = "target_session_attrs=read-write") -> str:
    """The URL of the database `ingestd` on whichever of the servers takes writes."""
    hosts = ",".join(f"{LOOPBACK}:{server.port}" for server in servers)
    return f"postgresql://postgres@{hosts}/ingestd?{parameters}"


def commit_on_both(primary: PrivatePostgres) -> None:
    """From now on the primary commits when a standby has the transaction on its disk as well."""
    configure(primary, synchronous_standby_names="*")
    until(lambda: "sync" in states(primary), within=WITHIN)


def configure(server: PrivatePostgres, **settings: str) -> None:
    """As an operator does it: it outlasts a restart of the server."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        for name, value in settings.items():
            connection.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
        connection.execute("SELECT pg_reload_conf()")


def states(primary: PrivatePostgres) -> list[str]:
    """How the standbys that stream follow: sync, async, …"""
    with psycopg.connect(primary.dsn(), autocommit=True) as connection:
        rows = connection.execute("SELECT sync_state FROM pg_stat_replication WHERE state = 'streaming'").fetchall()
    return [state for (state,) in rows]


@contextmanager
def standby_of(primary: PrivatePostgres, *, port: int | None = None, **settings: str) -> Iterator[StandbyPostgres]:
    """A standby that streams."""
    with StandbyPostgres(primary, port=port, **settings) as standby:
        until(lambda: states(primary), within=WITHIN)
        yield standby


@contextmanager
def replay_paused(standby: PrivatePostgres) -> Iterator[None]:
    """The standby still receives, and does not show, what the primary commits."""
    with psycopg.connect(standby.dsn(), autocommit=True) as connection:
        connection.execute("SELECT pg_wal_replay_pause()")
        until(lambda: connection.execute("SELECT pg_get_wal_replay_pause_state()").fetchone() == ("paused",))
        try:
            yield
        finally:
            connection.execute("SELECT pg_wal_replay_resume()")
