# ruff: noqa: SIM300 - expected == actual
"""The roles of the database, on a server, and a daemon that does all its work with them."""

from __future__ import annotations

import asyncio
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import sql

from bench.stage import find_psql
from ingestd.store.migrations import migrate, roles
from tests.support.daemon import Daemon
from tests.support.devices import Device
from tests.support.polling import until
from tests.support.readings import count, meter_message, vehicle_message

if TYPE_CHECKING:
    from collections.abc import Callable

    from ingestd.demo.servers import PrivateMosquitto

NOW: Final = datetime.now(UTC)


def psql(url: str, script: str) -> None:
    done = subprocess.run(
        [find_psql(), "--no-psqlrc", "--quiet", url],
        input=script,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)


class Cluster:
    """A server with the roles, and databases for them."""

    def __init__(self, dsn: Callable[[str], str], *, superuser: str = "postgres") -> None:
        """`dsn` gives the superuser's URL of a database."""
        self._dsn = dsn
        self.superuser = superuser

    def url(self, role: str, database: str = "ingestd") -> str:
        return self._dsn(database).replace(f"//{self.superuser}@", f"//{role}@")

    def create(self, database: str, *, owner: str = "postgres") -> None:
        """An empty database."""
        create = sql.SQL("CREATE DATABASE {} OWNER {}")
        with psycopg.connect(self._dsn("postgres"), autocommit=True) as connection:
            connection.execute(create.format(sql.Identifier(database), sql.Identifier(owner)))

    def make_roles(self, database: str = "ingestd", *, by: str | None = None) -> None:
        """As docs/operations.md says: `ingestd roles` into psql."""
        psql(self.url(by or self.superuser, database), roles())

    def migrate(self, role: str, database: str = "ingestd", **options: int) -> list[str]:
        """The names of what was applied."""
        return asyncio.run(migrate(self.url(role, database), **options))

    def ask(self, role: str, *statements: str, database: str = "ingestd") -> list[tuple[object, ...]]:
        """The rows of the last statement; all of them are one transaction."""
        with psycopg.connect(self.url(role, database)) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def refused(self, role: str, *statements: str) -> list[str]:
        """Which of these the role may not execute."""
        found = []
        with psycopg.connect(self.url(role), autocommit=True) as connection:
            for statement in statements:
                try:
                    connection.execute(statement.encode())
                except psycopg.errors.InsufficientPrivilege:
                    found.append(statement)
                finally:
                    connection.rollback()
        return found


def do_all_its_work(cluster: Cluster, broker: PrivateMosquitto) -> None:
    """Intake, redeliveries, dead letters, the ledger, mappings, settings, answers, exports, retention."""
    old = NOW.date() - timedelta(days=200)
    cluster.ask("ingestd_app", f"SELECT ingestd_make_partition('meter_history', '{old}')")
    cluster.ask("ingestd_app", "UPDATE ledger SET closed_until = now()", "UPDATE ledger_share SET made_until = now()")
    readings = [
        message
        for number in range(30)
        for at in [NOW - timedelta(days=40) + timedelta(minutes=number)]
        for message in (meter_message("m-9", at), vehicle_message("v-9", at))
    ]
    with Daemon(
        mqtt_url=broker.url,
        database_url=cluster.url("ingestd_app"),
        owner_database_url=cluster.url("ingestd_owner"),
        flush_interval=0.1,
        retention="90d",
    ) as daemon:
        daemon.wait_healthy()
        with Device(broker.url) as device:
            device.publish_many([*readings, *readings])
            device.publish("meters/m-9/telemetry", b"bad")
        url = cluster.url("ingestd_read")
        until(lambda: (count(url, "vehicle_history"), count(url, "dead_letter")) == (30, 1))
        posted = {"meterId": "m-9", "kwhConsumedAc": 1, "voltage": 230, "timestamp": f"{NOW:%FT%TZ}"}
        assert 201 == daemon.request("POST", "/v1/telemetry", body=posted).status
        mapping = {"vehicleId": "v-9", "meterId": "m-9", "validFrom": f"{NOW - timedelta(days=41):%FT%TZ}"}
        assert 201 == daemon.request("POST", "/v1/analytics/mappings", body=mapping).status
        assert 200 == daemon.request("PUT", "/v1/devices/meter/m-9/settings", body={"maxKw": 500}).status
        until(lambda: count(url, "vehicle_hour") > 0, within=60)
        dropped = f"SELECT FROM pg_class WHERE relname = 'meter_history_{old:%Y%m%d}'"
        until(lambda: not cluster.ask(cluster.superuser, dropped))
        for path in ("performance/v-9", "fleet", "vehicle/v-9/series", "vehicle/v-9/sessions", "vehicle/v-9/totals"):
            assert 200 == daemon.request("GET", f"/v1/analytics/{path}").status, path
        assert 200 == daemon.request("GET", "/v1/export/meters.csv").status
        assert "attached" in daemon.command("partitions")
        assert "nothing to do" in daemon.command("migrate")
        assert "still bad" in daemon.command("dead-letters", "replay")
        assert "1 deleted" in daemon.command("dead-letters", "purge", "--yes")
        assert 200 == daemon.request("GET", "/health").status
        for sign in ("permission denied", "42501", "must be owner", "unexpected_error"):
            assert sign not in daemon.log.read_text()
    owners = "SELECT DISTINCT relowner::regrole::text FROM pg_inherits JOIN pg_class ON oid = inhrelid"
    assert [("ingestd_owner",)] == cluster.ask(cluster.superuser, f"{owners} WHERE relkind = 'r'")
