# ruff: noqa: SIM300 - expected == actual
"""The roles of the database: each logs in, does its work, and is refused everything else.

With one role for everything, which was the only way before, whoever got hold of the daemon's connection could change
and delete all readings.
"""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg
import pytest
from click.testing import CliRunner

from ingestd.cli import commands
from ingestd.commands.sql import all_statements
from ingestd.demo.servers import PrivatePostgres
from ingestd.errors import DataStoreError, OperatorStoreError
from ingestd.model.timestamps import to_microseconds
from ingestd.pipeline.delivery import Batch
from ingestd.store.migrations import available, migrate, roles
from ingestd.store.writer import Writer
from tests.fakes import FakeOrigin
from tests.support.commands import finished, many_finished
from tests.support.daemon import ROOT, Daemon
from tests.support.debian import BINARIES, MISSING, DebianPostgres
from tests.support.deliveries import delivery_of
from tests.support.polling import until
from tests.support.readings import count
from tests.support.roles import Cluster, do_all_its_work, psql

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingestd.demo.servers import PrivateMosquitto

is_query: Final = re.compile(r"(SELECT|WITH|INSERT|UPDATE|DELETE|MERGE)\b").match
PARAMETER: Final = re.compile(r"(?<!:):[a-z_]+")
NAMES: Final = [f"{migration.version:04}_{migration.name}" for migration in available()]
FAR_AWAY: Final = to_microseconds(datetime(9000, 1, 1, tzinfo=UTC))
NOW: Final = datetime.now(UTC)
TODAY: Final = f"{NOW:%Y%m%d}"


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(PrivatePostgres, id="wheel"),
        pytest.param(DebianPostgres, id="debian", marks=pytest.mark.skipif(BINARIES is None, reason=MISSING)),
    ],
)
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """With a migrated database, where each table has a row."""
    with request.param(settings={"fsync": "off"}) as server:
        cluster = Cluster(server.dsn)
        cluster.create("ingestd")
        cluster.make_roles()
        cluster.migrate("ingestd_owner")
        cluster.ask(
            "ingestd_app",
            "SELECT ingestd_make_partition('meter_history', current_date)",
            "INSERT INTO meter_history VALUES ('m-1', now(), now(), 1, 230, NULL)",
            "INSERT INTO meter_live VALUES ('m-1', now(), now(), 1, 230, NULL)",
        )
        yield cluster


# What each may do


def test_the_rights_of_each_role_are_these_and_no_others(cluster: Cluster) -> None:
    granted = cluster.ask(
        "postgres",
        "SELECT grantee::regrole::text, relname::text, array_agg(privilege_type ORDER BY privilege_type) FROM pg_class,"
        " aclexplode(relacl) WHERE relnamespace = 'public'::regnamespace AND grantee <> relowner GROUP BY 1, 2",
    )

    all_but_ddl = ["DELETE", "INSERT", "SELECT", "UPDATE"]
    of_app = {
        **{key: ["INSERT", "SELECT"] for key in ["meter_history", "vehicle_history"]},
        **{
            f"{stream}_{kind}": all_but_ddl
            for stream in ("meter", "vehicle")
            for kind in ("live", "quarter", "hour", "stale")
        },
        **{key: ["SELECT", "UPDATE"] for key in ["ledger", "ledger_share"]},
        **dict.fromkeys(
            ["vehicle_meter_mapping", "device_setting", "broker_session", "alert", "alert_outbox"], all_but_ddl
        ),
        "dead_letter": ["DELETE", "INSERT", "SELECT"],
        "alert_watch": ["INSERT", "SELECT", "UPDATE"],
        "audit": ["SELECT"],  # and INSERT, but for the columns that the database fills
        **{key: ["SELECT"] for key in ["stream", "ingestd_migration"]},
    }
    rights = {(role, table): rights for role, table, rights in granted}
    assert {("ingestd_app", table): rights for table, rights in of_app.items()} | {
        ("ingestd_read", table): ["SELECT"] for table in of_app
    } == rights


def test_no_table_was_forgotten_and_all_belong_to_the_owner(cluster: Cluster) -> None:
    found = cluster.ask(
        "postgres",
        "SELECT relname, relowner::regrole::text, has_table_privilege('ingestd_app', oid, 'SELECT'),"
        " has_table_privilege('ingestd_read', oid, 'SELECT') FROM pg_class"
        " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition",
    )

    assert 20 <= len(found)
    assert {("ingestd_owner", True, True)} == {tuple(row[1:]) for row in found}


OF_ALL: Final = [
    "UPDATE meter_history SET voltage = 0",
    "DELETE FROM meter_history",
    "TRUNCATE meter_history",
    "MERGE INTO meter_history AS h USING meter_live AS l ON h.meter_id = l.meter_id WHEN MATCHED THEN DELETE",
    (
        "INSERT INTO meter_history SELECT * FROM meter_history"
        " ON CONFLICT (meter_id, ts) DO UPDATE SET voltage = excluded.voltage"
    ),
    "SELECT FROM meter_history FOR UPDATE",
    "BEGIN; LOCK TABLE meter_history IN EXCLUSIVE MODE",
    f"SELECT FROM meter_history_{TODAY}",
    f"INSERT INTO meter_history_{TODAY} VALUES ('m-2', now(), now(), 1, 230, NULL)",  # noqa: S608
    f"UPDATE meter_history_{TODAY} SET voltage = 0",  # noqa: S608
    f"DELETE FROM meter_history_{TODAY}",  # noqa: S608
    f"DROP TABLE meter_history_{TODAY}",
    f"ALTER TABLE meter_history DETACH PARTITION meter_history_{TODAY}",
    "ALTER TABLE meter_history DROP COLUMN voltage",
    "ALTER TABLE meter_history DISABLE TRIGGER ALL",
    "CREATE INDEX ON meter_history (voltage)",
    "CREATE RULE mine AS ON INSERT TO meter_history DO INSTEAD NOTHING",
    "DROP TABLE dead_letter",
    "TRUNCATE dead_letter",
    "UPDATE dead_letter SET reason = ''",
    "INSERT INTO stream VALUES ('pg', true)",
    "UPDATE ingestd_migration SET version = version + 100",
    "CREATE TABLE mine (id integer)",
    "CREATE VIEW mine AS SELECT 1",
    "CREATE FUNCTION ingestd_timestamp(microseconds integer) RETURNS timestamptz LANGUAGE sql AS 'SELECT now()'",
    (
        "CREATE OR REPLACE FUNCTION ingestd_make_partition(parent text, day date) RETURNS boolean LANGUAGE sql"
        " AS 'SELECT true'"
    ),
    "ALTER FUNCTION ingestd_make_partition SET search_path = pg_temp",
    "SELECT ingestd_attach_partition('meter_history', 'x', 'ts', '1990-01-01', '1990-01-02')",
    "SELECT ingestd_create_stream('mine', 'a integer')",
    "SELECT nextval('dead_letter_id_seq')",
]
OF_NO_SUPERUSER: Final = [
    "CREATE SCHEMA mine",
    "GRANT ingestd_owner TO CURRENT_USER",
    "CREATE ROLE mine",
    "CREATE DATABASE mine",
    "ALTER ROLE CURRENT_USER SUPERUSER",
    "ALTER ROLE postgres PASSWORD 'mine'",
    "SET ROLE postgres",
    "SET SESSION AUTHORIZATION postgres",
    "SET session_replication_role = replica",
    "ALTER SYSTEM SET fsync = off",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "COPY (SELECT 1) TO '/tmp/mine'",
    "SELECT pg_read_file('postgresql.conf')",
    "SELECT rolpassword FROM pg_authid",
]


OF_READER: Final = [
    "INSERT INTO meter_history VALUES ('m-3', now(), now(), 1, 230, NULL)",
    "COPY meter_history FROM STDIN",
    "UPDATE meter_live SET voltage = 0",
    "DELETE FROM meter_quarter",
    "INSERT INTO vehicle_meter_mapping VALUES ('v', now(), NULL, 'm')",
    "UPDATE ledger SET closed_until = 'infinity'",
    "DELETE FROM alert",
    "CREATE TEMPORARY TABLE mine (id integer)",
    "SELECT ingestd_make_partition('meter_history', current_date)",
    "SELECT ingestd_make_month('meter_hour', current_date)",
]
OF_OTHERS: Final = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'ingestd_owner'"


def test_one_role_for_everything_can_do_all_of_it(cluster: Cluster) -> None:
    for statement in OF_ALL:
        with psycopg.connect(cluster.url("ingestd_owner")) as connection:
            connection.execute(statement.encode())
            connection.rollback()


@pytest.mark.parametrize("role", ["ingestd_app", "ingestd_read"])
def test_neither_changes_history_nor_makes_or_drops_anything(cluster: Cluster, role: str) -> None:
    statements = [*OF_ALL, *OF_NO_SUPERUSER, "SET ROLE ingestd_owner", OF_OTHERS]
    before = count(cluster.url("postgres"), "meter_history")

    with psycopg.connect(cluster.url("ingestd_owner")):  # whom OF_OTHERS is about
        assert statements == cluster.refused(role, *statements)

    assert before == count(cluster.url("postgres"), "meter_history") > 0


def test_the_app_adds_to_the_audit_and_chooses_neither_number_nor_time(cluster: Cluster) -> None:
    """Before, one entry with the highest number ended `ingestd reload`, and one of a time without end the route."""
    forged = [
        "INSERT INTO audit (id, who, action, subject) OVERRIDING SYSTEM VALUE VALUES (2^62, 'x', 'reload-asked', 'x')",
        "INSERT INTO audit (at, who, action, subject) VALUES ('infinity', 'x', 'reload-asked', 'x')",
        "UPDATE audit SET who = 'nobody'",
        "DELETE FROM audit",
    ]

    assert forged == cluster.refused("ingestd_app", *forged)
    cluster.ask("ingestd_app", "INSERT INTO audit (who, action, subject) VALUES ('x', 'reloaded', 'x')")


def test_who_reads_writes_nothing(cluster: Cluster) -> None:
    assert OF_READER == cluster.refused("ingestd_read", *OF_READER)


def test_the_owner_owns_its_tables_and_nothing_else(cluster: Cluster) -> None:
    assert OF_NO_SUPERUSER == cluster.refused("ingestd_owner", *OF_NO_SUPERUSER)


def test_nobody_else_gets_into_the_database(cluster: Cluster) -> None:
    cluster.ask("postgres", "CREATE ROLE somebody LOGIN")

    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        cluster.ask("somebody", "SELECT 1")


# Partitions, which the app makes with the rights of the owner


def test_partitions_are_made_of_no_other_table(cluster: Cluster) -> None:
    of_history = [
        *("meter_live", "meter_hour", "dead_letter", "pg_class", "_history", "public.meter_history"),
        *("pg_temp.meter_history", '"meter_history"', "meter_history (LIKE alert); DROP TABLE alert; --"),
    ]
    calls = [f"SELECT ingestd_make_partition($${table}$$, current_date)" for table in of_history]
    calls += [f"SELECT ingestd_make_month('{table}', current_date)" for table in ("meter_history", "meter_stale")]

    assert calls == cluster.refused("ingestd_app", *calls)


@pytest.mark.parametrize(
    "call", ["ingestd_make_partition('meter_history', {})", "ingestd_make_month('meter_hour', {})"]
)
def test_partitions_are_made_of_no_time_that_readings_do_not_have(cluster: Cluster, call: str) -> None:
    for day in ("'9000-01-01'", "'0001-01-01'", "'4000-01-01 BC'", "'infinity'", "'-infinity'", "current_date + 367"):
        with pytest.raises(psycopg.errors.DatetimeFieldOverflow, match="is too far from today to have a partition"):
            cluster.ask("ingestd_app", f"SELECT {call.format(day)}")


async def test_a_reading_of_such_a_time_is_at_fault_by_itself(cluster: Cluster) -> None:
    """So it becomes a dead letter, and others are stored."""
    writer = Writer(cluster.url("ingestd_app"))
    await writer.open()

    with pytest.raises(DataStoreError, match="9000-01-01 is too far from today"):
        await writer.write(Batch.of([delivery_of(FakeOrigin(), meters=[("m", FAR_AWAY, 0.4, 230.0, None, FAR_AWAY)])]))

    await writer.close()


def test_tables_of_the_caller_do_not_stand_in_for_those_of_ingestd(cluster: Cluster) -> None:
    """Else the owner would do what it is told: its functions look for tables by name."""
    day = NOW.date() - timedelta(days=7)
    with psycopg.connect(cluster.url("ingestd_app"), autocommit=True) as connection:
        connection.execute("CREATE TEMPORARY TABLE stream (name text, has_energy boolean)")
        connection.execute("INSERT INTO stream VALUES ('mine', true)")
        connection.execute("CREATE TEMPORARY TABLE mine_history (ts timestamptz) PARTITION BY RANGE (ts)")
        connection.execute("CREATE TEMPORARY TABLE meter_history (ts timestamptz) PARTITION BY RANGE (ts)")
        connection.execute("SET search_path = pg_temp, public")

        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="mine_history is no partitioned table"):
            connection.execute("SELECT ingestd_make_partition('mine_history', current_date)")
        assert (True,) == connection.execute(
            "SELECT public.ingestd_make_partition('meter_history', %s)", (day,)
        ).fetchone()

    assert [("public.meter_history", "ingestd_owner")] == cluster.ask(
        "postgres",
        "SET search_path = pg_catalog",
        "SELECT inhparent::regclass::text, relowner::regrole::text FROM pg_inherits JOIN pg_class ON oid = inhrelid"  # noqa: S608
        f" WHERE relname = 'meter_history_{day:%Y%m%d}'",
    )


def test_the_search_path_of_what_runs_with_the_owners_rights_is_fixed(cluster: Cluster) -> None:
    assert [
        ("ingestd_make_month", ["search_path=public, pg_temp"]),
        ("ingestd_make_partition", ["search_path=public, pg_temp"]),
    ] == cluster.ask("postgres", "SELECT proname::text, proconfig FROM pg_proc WHERE prosecdef ORDER BY 1")


# The daemon


def test_every_statement_may_be_executed_by_the_app(cluster: Cluster) -> None:
    """EXPLAIN checks the rights of the role, too."""
    with psycopg.connect(cluster.url("ingestd_app"), autocommit=True) as connection:
        for statement in all_statements():
            if statement.block.startswith("prepare_session"):
                connection.execute(statement.text.encode())
            elif is_query(statement.text):
                connection.execute(f"EXPLAIN {PARAMETER.sub('NULL', statement.text)}".encode())


def test_the_daemon_does_all_its_work_without_the_rights_of_the_owner(
    cluster: Cluster, broker: PrivateMosquitto
) -> None:
    do_all_its_work(cluster, broker)


# Migrations


def test_the_app_runs_on_a_schema_that_is_up_to_date(cluster: Cluster, broker: PrivateMosquitto) -> None:
    assert [] == cluster.migrate("ingestd_app")
    with Daemon(mqtt_url=broker.url, database_url=cluster.url("ingestd_app")) as daemon:
        daemon.wait_healthy()


def test_who_may_not_migrate_says_who_has_to(cluster: Cluster, tmp_path: Path) -> None:
    cluster.create("empty")
    cluster.make_roles("empty")
    for role in ("ingestd_app", "ingestd_read"):
        expected = (
            f"ingestd: the role {role} may not bring the schema up to date (permission denied for schema public):"
            " run `ingestd migrate` as the owner of the tables, with INGESTD_OWNER_DATABASE_URL\n"
        )
        settings = {"database_url": cluster.url(role, "empty")}
        done = many_finished(tmp_path, [("migrate", settings), ("run", settings)])
        assert [(1, "", expected)] * 2 == [(one.returncode, one.stdout, one.stderr) for one in done]


def test_the_owner_migrates_where_it_has_an_address(cluster: Cluster, tmp_path: Path) -> None:
    cluster.create("owned")
    cluster.make_roles("owned")
    url = {role: cluster.url(f"ingestd_{role}", "owned") for role in ("owner", "app")}

    done = finished(tmp_path, "migrate", database_url=url["app"], owner_database_url=url["owner"])

    assert 0 == done.returncode, done.stderr
    assert [] == cluster.migrate("ingestd_app", "owned")
    cluster.ask("ingestd_owner", "DELETE FROM ingestd_migration WHERE version = 4", database="owned")
    with pytest.raises(OperatorStoreError, match="may not bring the schema up to date"):
        cluster.migrate("ingestd_app", "owned")


def test_a_stream_that_a_later_migration_adds_gets_its_rights(cluster: Cluster) -> None:
    cluster.create("more")
    cluster.make_roles("more")
    cluster.migrate("ingestd_owner", "more")
    cluster.ask("ingestd_owner", "SELECT ingestd_create_stream('charger', 'current_a real')", database="more")

    cluster.migrate("ingestd_owner", "more")

    for statement in (
        "SELECT ingestd_make_partition('charger_history', current_date)",
        "INSERT INTO charger_history VALUES ('c', now(), now(), 16)",
        "SELECT ingestd_make_month('charger_hour', current_date)",
        "DELETE FROM charger_hour",
    ):
        cluster.ask("ingestd_app", statement, database="more")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        cluster.ask("ingestd_app", "DELETE FROM charger_history", database="more")


def test_rights_are_given_while_others_use_the_tables(cluster: Cluster) -> None:
    with psycopg.connect(cluster.url("ingestd_app")) as busy:
        busy.execute("INSERT INTO meter_history SELECT meter_id, clock_timestamp(), ts, 1, 230, NULL FROM meter_live")
        busy.execute("UPDATE meter_live SET voltage = 231")
        busy.execute("SELECT FROM ledger_share FOR UPDATE")

        assert [] == cluster.migrate("ingestd_owner")


def test_retention_without_the_owner_says_what_to_set(cluster: Cluster, broker: PrivateMosquitto) -> None:
    old = NOW.date() - timedelta(days=300)
    cluster.ask("ingestd_app", f"SELECT ingestd_make_partition('meter_history', '{old}')")
    cluster.ask("ingestd_app", "UPDATE ledger_share SET made_until = now()")

    with Daemon(mqtt_url=broker.url, database_url=cluster.url("ingestd_app"), retention="100d") as daemon:
        daemon.wait_healthy()
        until(lambda: "housekeeping_failed" in daemon.log.read_text())
        assert (
            f"the role ingestd_app may not drop meter_history_{old:%Y%m%d}, which is past its retention:"
            " set INGESTD_OWNER_DATABASE_URL"
        ) in daemon.log.read_text()


def test_a_database_of_one_role_is_handed_over(cluster: Cluster) -> None:
    """The roles are made after the tables; and again, which changes nothing."""
    cluster.ask("postgres", "CREATE ROLE single LOGIN")
    cluster.create("single", owner="single")
    cluster.migrate("single", "single")
    cluster.ask("postgres", "REASSIGN OWNED BY single TO ingestd_owner", database="single")

    for _ in range(2):
        cluster.make_roles("single")
        assert [] == cluster.migrate("ingestd_owner", "single")

    assert [] == cluster.migrate("ingestd_app", "single")
    made = "SELECT ingestd_make_partition('meter_history', current_date)"
    assert [(True,)] == cluster.ask("ingestd_app", made, database="single")


def test_the_roles_get_no_rights_in_a_database_of_one_role(cluster: Cluster) -> None:
    """Roles are of the whole server, and so are their passwords."""
    cluster.create("other")
    cluster.migrate("postgres", "other")

    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        cluster.ask("ingestd_app", "SELECT FROM meter_history", database="other")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        cluster.ask("ingestd_app", "SELECT ingestd_make_partition('meter_history', current_date)", database="other")


def test_the_owner_of_the_database_may_make_the_roles() -> None:
    with PrivatePostgres(settings={"fsync": "off"}) as server:
        cluster = Cluster(server.dsn)
        cluster.ask("postgres", "CREATE ROLE boss LOGIN CREATEROLE", database="postgres")
        cluster.create("ingestd", owner="boss")

        cluster.make_roles(by="boss")

        cluster.migrate("ingestd_owner")
        assert [] == cluster.migrate("ingestd_app")


def test_the_command_prints_the_script_without_any_setting() -> None:
    assert roles() == CliRunner().invoke(commands, ["roles"]).stdout
    assert "password" not in re.sub(r"--.*", "", roles(), flags=re.IGNORECASE)


# Docker Compose


def test_the_scripts_of_compose_make_roles_with_passwords(tmp_path: Path) -> None:
    """As the image of PostgreSQL runs them: psql as its superuser, in order of their names."""
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    scripts = re.findall(r"- \./(\S+):/docker-entrypoint-initdb\.d/(\S+):ro", compose)
    assert ["1-roles.sql", "2-passwords.sql"] == sorted(name for _, name in scripts)
    for role in ("owner", "app", "read"):
        (tmp_path / f"{role}_password").write_text(f"of-the-{role}\n")
    with PrivatePostgres(settings={"fsync": "off"}) as server:
        cluster = Cluster(server.dsn)
        cluster.create("ingestd")
        for script, _ in sorted(scripts, key=itemgetter(1)):
            text = (ROOT / script).read_text(encoding="utf-8")
            psql(server.dsn("ingestd"), text.replace("/run/secrets", str(tmp_path)))
        ask_for_passwords(server)

        for role in ("owner", "app"):
            url = cluster.url(f"ingestd_{role}").replace("@", f":of-the-{role}@")
            assert asyncio.run(migrate(url)) == (NAMES if role == "owner" else [])
        with psycopg.connect(cluster.url("ingestd_read").replace("@", ":of-the-read@")) as connection:
            assert (0,) == connection.execute("SELECT count(*) FROM meter_live").fetchone()
        for wrong in ("ingestd_app@", "ingestd_app:of-the-owner@", "ingestd_read@", "ingestd_read:@"):
            with pytest.raises(psycopg.OperationalError, match="password"):
                psycopg.connect(cluster.url("postgres").replace("postgres@", wrong))


def ask_for_passwords(server: PrivatePostgres) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        (file,) = connection.execute("SHOW hba_file").fetchone() or ()
        Path(file).write_text("host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        connection.execute("SELECT pg_reload_conf()")
        until(lambda: connection.execute("SELECT count(*) FROM pg_hba_file_rules").fetchone() == (2,))
