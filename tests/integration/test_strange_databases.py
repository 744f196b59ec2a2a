# ruff: noqa: SIM300 - expected == actual
"""Databases as they are in the field: other date styles, encodings, limits, hosts that are silent."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from ingestd.errors import OperatorStoreError
from ingestd.store.connection import SESSION_SETTINGS, connect, cut
from ingestd.store.migrations import migrate
from ingestd.store.pool import Pool
from ingestd.store.queries import Statement
from tests.support.daemon import ROOT, Daemon
from tests.support.devices import Device
from tests.support.polling import until
from tests.support.readings import count, meter_message, vehicle_message

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ingestd.demo.servers import PrivateMosquitto, PrivatePostgres

STRANGE = {
    "datestyle": "German, DMY",
    "intervalstyle": "iso_8601",
    "timezone": "Asia/Kathmandu",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "default_transaction_isolation": "serializable",
    "statement_timeout": "20ms",
    "lock_timeout": "1ms",
    "idle_in_transaction_session_timeout": "1ms",
    "idle_session_timeout": "200ms",
    "transaction_timeout": "100ms",
}
NOW = datetime.now(UTC)


@contextmanager
def database(server: PrivatePostgres, *, encoding: str = "UTF8") -> Iterator[str]:
    """An empty database with that encoding."""
    name = f"test_{uuid4().hex}"
    create = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LOCALE 'C'")
    with psycopg.connect(server.dsn(), autocommit=True) as administrator:
        administrator.execute(create.format(sql.Identifier(name), sql.Literal(encoding)))
        yield server.dsn(name)
        administrator.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def exercise(daemon: Daemon, broker: PrivateMosquitto, database_url: str) -> None:
    """Readings, a redelivery, a dead letter with a topic beyond ASCII, alerts, and what reads them."""
    daemon.wait_healthy()
    with Device(broker.url) as device:
        device.publish_many([meter_message("m-1", NOW), vehicle_message("EV-1", NOW), meter_message("m-1", NOW)])
        device.publish("meters/⚡/telemetry", b"{}")
    until(lambda: count(database_url, "dead_letter") == 1)
    until(lambda: count(database_url, "vehicle_history") == 1)
    assert [("meters/⚡/telemetry",)] == rows(database_url, "SELECT topic FROM dead_letter")
    assert 0.5 == daemon.request("GET", "/v1/analytics/meter/m-1/live").json()["kwhConsumedAc"]
    for path in ("fleet", "performance/EV-1", "vehicle/EV-1/series", "vehicle/EV-1/sessions", "vehicle/EV-1/totals"):
        answer = daemon.request("GET", f"/v1/analytics/{path}")
        assert 200 == answer.status, (path, answer.body)
    assert 200 == daemon.request("GET", "/v1/vehicles").status
    assert b"m-1," in daemon.request("GET", "/v1/export/meters.csv").body
    assert 201 == daemon.request("POST", "/v1/analytics/mappings", body={"vehicleId": "EV-1", "meterId": "m-1"}).status
    assert None is daemon.exit_code
    assert "unexpected_error" not in daemon.log.read_text()
    assert "timeout" not in daemon.log.read_text()


def rows(database_url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(database_url) as connection:
        return connection.execute(statement.encode()).fetchall()


@contextmanager
def role(url: str) -> Iterator[str]:
    """The database for a role that has all the strange settings."""
    name = f"strange_{uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN SUPERUSER").format(sql.Identifier(name)))
        for setting, value in STRANGE.items():
            connection.execute(
                sql.SQL("ALTER ROLE {} SET {} = {}").format(*map(sql.Identifier, (name, setting)), value)
            )
        yield url.replace("postgres@", f"{name}@")
        connection.execute(sql.SQL("REASSIGN OWNED BY {} TO postgres").format(sql.Identifier(name)))
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def test_settings_of_the_database_change_nothing(broker: PrivateMosquitto, postgres_server: PrivatePostgres) -> None:
    with (
        database(postgres_server) as url,
        role(url) as of_role,
        Daemon(mqtt_url=broker.url, database_url=of_role, flush_interval=0.1) as daemon,
    ):
        exercise(daemon, broker, url)


def test_settings_of_the_environment_change_nothing(
    broker: PrivateMosquitto, postgres_server: PrivatePostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGDATESTYLE", "SQL, DMY")
    monkeypatch.setenv("PGTZ", "America/St_Johns")
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    monkeypatch.setenv("PGOPTIONS", "-c intervalstyle=sql_standard -c bytea_output=escape")
    with database(postgres_server) as url, Daemon(mqtt_url=broker.url, database_url=url, flush_interval=0.1) as daemon:
        monkeypatch.undo()
        exercise(daemon, broker, url)


async def test_every_connection_has_the_settings_the_code_relies_on(database_url: str) -> None:
    names = [statement.split()[1] for statement in SESSION_SETTINGS.decode().split(";")]
    statement = "SELECT name, setting FROM pg_settings WHERE name = ANY(string_to_array('{}', ','))"
    text = statement.format(",".join({"timezone": "TimeZone", "datestyle": "DateStyle"}.get(n, n) for n in names))
    own = await connect(f"{database_url}?options=-cdatestyle%3DSQL", application_name="test")
    async with own:
        expected: dict[str, str] = dict(await (await own.execute(text.encode())).fetchall())
    pool = Pool(f"{database_url}?options=-cdatestyle%3DSQL", seconds=60)
    await pool.open()
    pooled = dict(await pool.fetch(Statement(text=text.encode(), parameters=()), {}))
    await pool.close()

    assert ("ISO, MDY", "UTC", "0") == (expected["DateStyle"], expected["TimeZone"], expected["statement_timeout"])
    assert expected | {"statement_timeout": "60000"} == pooled


# Encodings


async def test_a_connection_that_the_server_has_reset_may_be_cut_and_one_that_is_closed(database_url: str) -> None:
    connection = await connect(database_url, application_name="test")
    with socket.socket(fileno=os.dup(connection.fileno())) as line, psycopg.connect(database_url) as administrator:
        administrator.execute("SELECT pg_terminate_backend(%s::int, 5000)", [connection.info.backend_pid])
        line.send(b"S")  # the answer to that is a reset
        until(lambda: not _connected(line))

        cut(connection)

    await connection.close()
    cut(connection)
    assert connection.closed


def _connected(line: socket.socket) -> bool:
    try:
        line.getpeername()
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise
        return False
    return True


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_is_not_utf8_is_refused_with_one_line(
    broker: PrivateMosquitto, postgres_server: PrivatePostgres, tmp_path: Path, encoding: str
) -> None:
    with database(postgres_server, encoding=encoding) as url:
        for command in (["run"], ["check-config", "--connect"], ["migrate"]):
            refused = run(*command, directory=tmp_path, INGESTD_DATABASE_URL=url, INGESTD_MQTT_URL=broker.url)
            assert 1 == refused.returncode
            (line,) = [line for line in refused.stderr.splitlines() if line.startswith("ingestd: ")]
            assert f"is {encoding}; ingestd needs one made with ENCODING 'UTF8'" in line
            assert "Traceback" not in refused.stderr


async def test_a_database_that_is_not_utf8_is_refused_by_the_pool_too(postgres_server: PrivatePostgres) -> None:
    with database(postgres_server, encoding="LATIN1") as url, pytest.raises(OperatorStoreError, match="is LATIN1"):
        await migrate(url)


def test_a_dead_letter_the_database_refuses_stops_nothing(broker: PrivateMosquitto, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE dead_letter ADD CHECK (topic NOT LIKE '%⚡%')")
        connection.execute("ALTER TABLE dead_letter ADD CHECK (payload <> 'poison')")
    with (
        Daemon(mqtt_url=broker.url, database_url=database_url, flush_interval=0.1, log_level="debug") as daemon,
        Device(broker.url) as device,
    ):
        daemon.wait_healthy()
        device.publish("meters/⚡/telemetry", b"kept")
        device.publish("meters/m-1/telemetry", b"poison")
        device.publish("meters/m-1/telemetry", b"bad")
        device.publish_many([meter_message("m-1", NOW)])
        until(lambda: count(database_url, "meter_history") == 1)
        until(lambda: count(database_url, "dead_letter") == 3)
        kept = rows(database_url, "SELECT topic, payload FROM dead_letter ORDER BY 1, 2")
        assert [
            ("meters/\\u26a1/telemetry", b"kept"),
            ("meters/m-1/telemetry", b""),
            ("meters/m-1/telemetry", b"bad"),
        ] == kept
        with_payload = [line for line in daemon.log.read_text().splitlines() if b"poison".hex() in line]
        assert ["debug"] == [json.loads(line)["level"] for line in with_payload]
        daemon.wait_healthy()


# Several hosts


@contextmanager
def silent_port() -> Iterator[int]:
    """Takes no connection: its backlog is full, so that a SYN gets no answer."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = []
        try:
            for _ in range(4):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
                fillers.append(filler)
            yield port
        finally:
            for filler in fillers:
                filler.close()


def test_a_silent_first_host_is_passed_over(broker: PrivateMosquitto, database_url: str) -> None:
    with silent_port() as port:
        several = database_url.replace("@127.0.0.1:", f"@127.0.0.1:{port},127.0.0.1:")
        with Daemon(mqtt_url=broker.url, database_url=several, flush_interval=0.1) as daemon:
            daemon.wait_healthy(within=60)
            with Device(broker.url) as device:
                device.publish_many([meter_message("m-1", NOW)])
            until(lambda: count(database_url, "meter_history") == 1)


def run(*arguments: str, directory: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("INGESTD_")}
    return subprocess.run(
        [sys.executable, "-m", "ingestd", *arguments],
        cwd=directory,
        env={**inherited, "PYTHONPATH": str(ROOT), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
