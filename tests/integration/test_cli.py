# ruff: noqa: SIM300 - expected == actual
"""The commands as a user types them: what they do, and the one line they say when they cannot."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

import click
import psycopg
import pytest
from click.testing import CliRunner
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
from psycopg import sql

import ingestd
from ingestd.cli import commands
from ingestd.demo.process import LOOPBACK, LoopbackPort
from ingestd.demo.replay import Recording, ReplayError
from ingestd.store.migrations import available
from tests.support.command_line import commands_of
from tests.support.polling import until
from tests.support.readings import meter_message, rfc3339, vehicle_message

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ingestd.demo.servers import PrivateMosquitto, PrivatePostgres

ROOT = Path(__file__).parents[2]
SECRET = "hunter2"  # noqa: S105 - it is meant to be looked for
DEADLINE = 30.0


@dataclass(frozen=True, slots=True)
class Finished:
    """What a command left."""

    exit_code: int
    stdout: str
    stderr: str


class Shell:
    """Runs `ingestd` in a directory of its own, with nothing but `settings` in its environment."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def start(self, *arguments: str, settings: Mapping[str, str | int] | None = None) -> subprocess.Popen[str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("INGESTD_")}
        given = {"INGESTD_LOG_LEVEL": "error", **(settings or {})}
        return subprocess.Popen(
            [sys.executable, "-m", "ingestd", *arguments],
            cwd=self.directory,
            env={**inherited, "PYTHONPATH": str(ROOT), **{name: str(value) for name, value in given.items()}},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )

    def run(self, *arguments: str, **settings: str | int) -> Finished:
        """`settings` are environment variables by their names without INGESTD_, in small letters."""
        environment = {f"INGESTD_{name.upper()}": value for name, value in settings.items()}
        with self.start(*arguments, settings=environment) as process:
            try:
                stdout, stderr = process.communicate(timeout=DEADLINE)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return Finished(process.returncode, stdout, stderr)

    def write(self, name: str, text: str) -> str:
        (self.directory / name).write_text(text)
        return name


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def refusing_port() -> Iterator[int]:
    """Nobody listens there, nor will."""
    port = LoopbackPort()
    yield port.number
    port.close()


def assert_refused(finished: Finished, *lines: str) -> None:
    """Ended with 1 and nothing said but these lines, each a pattern of what follows `ingestd: `."""
    said = finished.stderr.splitlines()
    assert (1, "", len(lines)) == (finished.exit_code, finished.stdout, len(said)), finished
    for pattern, line in zip(lines, said, strict=True):
        assert re.search(f"^ingestd: .*{pattern}", line), line


# Servers that are not there, or do not let us in


def test_a_broker_out_of_reach_is_one_line(shell: Shell, database_url: str, refusing_port: int) -> None:
    finished = shell.run("run", database_url=database_url, mqtt_url=f"mqtt://{LOOPBACK}:{refusing_port}", http_port=0)

    assert_refused(finished, f"{LOOPBACK}:{refusing_port}")


def test_a_database_out_of_reach_is_one_line_without_the_password(shell: Shell, refusing_port: int) -> None:
    finished = shell.run("run", database_url=f"postgresql://me:{SECRET}@{LOOPBACK}:{refusing_port}/ingestd")

    assert_refused(finished, f"port {refusing_port}.*refused")
    assert SECRET not in finished.stderr


def test_a_database_that_does_not_exist_is_one_line(shell: Shell, postgres_server: PrivatePostgres) -> None:
    assert_refused(shell.run("run", database_url=postgres_server.dsn("of_nobody")), '"of_nobody" does not exist')


@pytest.fixture
def guarded_url(postgres_server: PrivatePostgres, database_url: str) -> Iterator[str]:
    """A role of the database that has to give its password, which this URL does not."""
    role = f"guarded_{uuid4().hex[:8]}"
    rules = postgres_server.directory / "data" / "pg_hba.conf"
    before = rules.read_text()
    url = database_url.replace("postgres@", f"{role}:{SECRET}@")
    with psycopg.connect(database_url, autocommit=True) as administrator:
        administrator.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), sql.Literal(SECRET[::-1]))
        )
        rules.write_text(f"host all {role} {LOOPBACK}/32 scram-sha-256\n{before}")
        administrator.execute("SELECT pg_reload_conf()")

        def is_guarded() -> bool:
            try:
                psycopg.connect(url).close()
            except psycopg.OperationalError:
                return True
            return False

        until(is_guarded)
        yield url
        rules.write_text(before)
        administrator.execute("SELECT pg_reload_conf()")
        administrator.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def test_a_wrong_password_is_one_line_that_does_not_repeat_it(shell: Shell, guarded_url: str) -> None:
    finished = shell.run("run", database_url=guarded_url)

    assert_refused(finished, "password authentication failed")
    assert SECRET not in finished.stderr


def test_a_port_in_use_is_one_line(shell: Shell, database_url: str) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]

        finished = shell.run("run", database_url=database_url, http_port=port)

    assert_refused(finished, f"cannot listen on {LOOPBACK}:{port}")


@pytest.mark.parametrize("host", ["a..b", "a" * 64], ids=["dots", "long"])
def test_a_host_that_can_be_no_name_is_one_clear_error(
    shell: Shell, database_url: str, host: str, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens"  # without, only loopback addresses are taken
    tokens.touch(mode=0o600)
    own = shell.run("run", database_url=database_url, http_host=host, http_port=8080, tokens_file=str(tokens))
    database = shell.run("run", database_url=f"postgresql://u@{host}/d")

    assert_refused(own, f"cannot listen on {host}:8080: .*label")
    assert_refused(database, "the host of the database can be no name: .*label")


# Both servers


def test_check_config_connects_to_both_servers_and_says_so(
    shell: Shell, broker: PrivateMosquitto, database_url: str
) -> None:
    finished = shell.run("check-config", "--connect", database_url=database_url, mqtt_url=broker.url)

    assert 0 == finished.exit_code, finished.stderr
    role = urlsplit(database_url).username
    assert [f"the database can be used as {role}", "the broker takes our account"] == finished.stdout.splitlines()[-2:]


def test_check_config_names_the_broker_that_cannot_be_reached(
    shell: Shell, database_url: str, refusing_port: int
) -> None:
    finished = shell.run(
        "check-config", "--connect", database_url=database_url, mqtt_url=f"mqtt://{LOOPBACK}:{refusing_port}"
    )

    assert 1 == finished.exit_code
    assert f"ingestd: cannot reach {LOOPBACK}:{refusing_port}: Connection refused\n" == finished.stderr


# Settings


def test_every_setting_that_is_wrong_is_named_wherever_it_stands(shell: Shell) -> None:
    shell.write("settings.toml", 'mqtt_ulr = "mqtt://127.0.0.1"')
    shell.write(".env", "INGESTD_FLUSH_INTERVAL=soon")

    finished = shell.run("--config", "settings.toml", "check-config", http_port="eighty")

    assert_refused(
        finished,
        "INGESTD_HTTP_PORT: .*'eighty'",
        "INGESTD_FLUSH_INTERVAL: .*'soon'",
        "INGESTD_MQTT_ULR: no such setting",
    )


def test_odd_files_are_one_line_and_no_traceback(shell: Shell) -> None:
    (shell.directory / ".env").write_bytes(b"INGESTD_MQTT_PASSWORD=\xe9t\xe9")

    assert_refused(shell.run("check-config"), r"\.env: no UTF-8 text")


def test_what_kubernetes_injects_is_told_at_debug_level_only(shell: Shell) -> None:
    injected = {"http_port": "tcp://10.0.0.1:8080", "service_host": "10.0.0.1"}

    quiet = shell.run("check-config", **injected)
    told = shell.run("check-config", **injected, log_level="debug", log_format="json")

    assert (0, "") == (quiet.exit_code, quiet.stderr)
    assert "INGESTD_HTTP_PORT=8080" in quiet.stdout.splitlines()
    assert ["INGESTD_HTTP_PORT", "INGESTD_SERVICE_HOST"] == json.loads(told.stderr)["variables"]


def test_check_config_shows_what_holds_and_no_secret(shell: Shell) -> None:
    shell.write("settings.toml", 'http_port = 8001\nflush_interval = "250ms"\nmqtt_client_id = "of-toml"')
    shell.write(".env", "INGESTD_HTTP_PORT=8002\nINGESTD_MQTT_CLIENT_ID=of-env-file\nPGPASSWORD=of-others")
    shell.write("password", f"{SECRET}\n")
    (shell.directory / "password").chmod(0o600)

    finished = shell.run(
        "--config",
        "settings.toml",
        "check-config",
        http_port=8003,
        database_url=f"postgresql://me:{SECRET}@db.example/telemetry?sslpassword={SECRET}",
        mqtt_password_file="password",  # noqa: S106 - the name of a file
    )

    assert (0, "") == (finished.exit_code, finished.stderr)
    shown = dict(line.split("=", 1) for line in finished.stdout.splitlines())
    assert {
        "INGESTD_HTTP_PORT": "8003",
        "INGESTD_MQTT_CLIENT_ID": "of-env-file",
        "INGESTD_FLUSH_INTERVAL": "0.25s",
        "INGESTD_MAX_AGE": "90d",
        "INGESTD_MQTT_PASSWORD": "********",
        "INGESTD_DATABASE_URL": "postgresql://me:********@db.example/telemetry?sslpassword=********",
    }.items() <= shown.items()
    assert SECRET not in finished.stdout


# Commands that need no server


@pytest.mark.parametrize("arguments", [["version"], ["--version"]], ids=" ".join)
def test_version_is_the_packages(arguments: list[str]) -> None:
    shown = CliRunner().invoke(commands, arguments)

    assert (0, ingestd.__version__) == (shown.exit_code, shown.stdout.split()[-1])


def every_command(group: click.Group, *path: str) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in commands_of(group):
        if isinstance(command, click.Group):
            yield from every_command(command, *path, name)
        else:
            yield (*path, name)


@pytest.mark.parametrize("path", list(every_command(commands)), ids=" ".join)
def test_every_command_has_help(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(commands, [*path, "--help"])

    assert 0 == shown.exit_code
    assert f"Usage: {' '.join(['commands', *path])}" in shown.stdout
    assert re.search(r"\n\n  [A-Z]\w+ \w+", shown.stdout), "it says what it is for"


# migrate, dead-letters, partitions


def test_migrate_says_what_it_has_applied_and_then_that_nothing_is_left(
    shell: Shell, postgres_server: PrivatePostgres
) -> None:
    name = sql.Identifier(f"test_{uuid4().hex}")
    url = postgres_server.dsn(name.as_string().strip('"'))
    with psycopg.connect(postgres_server.dsn(), autocommit=True) as administrator:
        administrator.execute(sql.SQL("CREATE DATABASE {}").format(name))
        try:
            names = "".join(f"{migration.version:04}_{migration.name}\n" for migration in available())
            assert Finished(0, names, "") == shell.run("migrate", database_url=url)
            assert Finished(0, "nothing to do\n", "") == shell.run("migrate", database_url=url)
        finally:
            administrator.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.mark.parametrize("command", ["migrate", "run"])
def test_a_database_of_another_schema_is_one_line(shell: Shell, database_url: str, command: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE ingestd_migration SET name = 'initial' WHERE version = 1")

    finished = shell.run(command, database_url=database_url)

    assert_refused(finished, r"\(migration 0001 is 'initial'\): use an empty database")


def test_run_without_migrating_says_what_is_missing(shell: Shell, postgres_server: PrivatePostgres) -> None:
    finished = shell.run("run", "--no-migrate", database_url=postgres_server.dsn())

    assert_refused(finished, 'relation "meter_history" does not exist')


def test_dead_letters_are_listed_the_newest_first_one_a_line(shell: Shell, database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        for detail, reason in [("first", "schema"), ("second,\ton\nlines", "not-json"), ("third", "schema")]:
            connection.execute(
                "INSERT INTO dead_letter (received_at, source, stream, topic, payload, reason, detail)"
                " VALUES ('2026-11-20T10:30:00Z', 'mqtt', 'meter', 'meters/m/telemetry', '{', %s, %s)",
                (reason, detail),
            )

    everything = shell.run("dead-letters", "list", database_url=database_url)
    some = shell.run("dead-letters", "list", "--reason", "schema", "--limit", "1", database_url=database_url)

    common = ["2026-11-20T10:30:00Z", "mqtt"]
    header = ["id", "received", "source", "reason", "topic", "detail"]
    expected = [
        header,
        ["3", *common, "schema", "meters/m/telemetry", "third"],
        ["2", *common, "not-json", "meters/m/telemetry", "second, on lines"],
        ["1", *common, "schema", "meters/m/telemetry", "first"],
    ]
    assert (0, "") == (everything.exit_code, everything.stderr)
    assert expected == [line.split("\t") for line in everything.stdout.splitlines()]
    assert (0, expected[:2]) == (some.exit_code, [line.split("\t") for line in some.stdout.splitlines()])


def test_partitions_are_listed_for_people_and_for_programs(shell: Shell, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        for day in ("2020-01-01", "2020-01-02"):
            connection.execute("SELECT ingestd_make_partition('meter_history', %s)", (day,))
        connection.execute("SELECT ingestd_make_partition('vehicle_history', '2020-01-01')")
        connection.execute("ANALYZE meter_history_20200101")
        connection.execute("ALTER TABLE meter_history DETACH PARTITION meter_history_20200102")
        age = (datetime.now(UTC) - datetime(2020, 1, 1, tzinfo=UTC)).days

    for_people = shell.run("partitions", database_url=database_url)
    for_programs = shell.run("partitions", "--json", database_url=database_url)

    assert (0, "") == (for_people.exit_code, for_people.stderr)
    shown = json.loads(for_programs.stdout)
    sizes = [day["bytes"] for day in shown["partitions"]]
    mib = [f"{size / 2**20:.1f}" for size in (*sizes, sizes[0] + sizes[1])]
    assert min(sizes) > 0
    assert [
        ["table", "day", "age", "MiB", "rows", "state"],
        ["meter_history", "2020-01-01", f"{age}d", mib[0], "0", "attached"],
        ["meter_history", "2020-01-02", f"{age - 1}d", mib[1], "?", "detached"],
        ["vehicle_history", "2020-01-01", f"{age}d", mib[2], "?", "attached"],
        ["meter_history", "2", "days", mib[3], "0", "total"],
        ["vehicle_history", "1", "days", mib[2], "0", "total"],
    ] == [line.split() for line in for_people.stdout.splitlines()]
    assert {
        "table": "meter_history",
        "partition": "meter_history_20200101",
        "day": "2020-01-01",
        "ageDays": age,
        "bytes": sizes[0],
        "rows": 0,
        "state": "attached",
    } == shown["partitions"][0]
    assert [None, None] == [day["rows"] for day in shown["partitions"][1:]]
    assert {"table": "meter_history", "partitions": 2, "bytes": sizes[0] + sizes[1], "rows": 0} == shown["totals"][0]


def test_a_day_that_has_not_begun_has_no_age(shell: Shell, database_url: str) -> None:
    tomorrow = f"{datetime.now(UTC) + timedelta(days=1):%F}"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SELECT ingestd_make_partition('meter_history', %s)", (tomorrow,))

    (line,) = [
        line for line in shell.run("partitions", database_url=database_url).stdout.splitlines() if tomorrow in line
    ]

    assert ["meter_history", tomorrow, "-"] == line.split()[:3]


# replay, simulate


@contextmanager
def subscribed(broker: PrivateMosquitto) -> Iterator[queue.SimpleQueue[tuple[str, dict[str, Any]]]]:
    """Topic and payload of all that is published meanwhile."""
    arrived: queue.SimpleQueue[tuple[str, dict[str, Any]]] = queue.SimpleQueue()
    granted = threading.Event()
    client = Client(CallbackAPIVersion.VERSION2)
    client.on_subscribe = lambda *_: granted.set()
    client.on_message = lambda _client, _userdata, message: arrived.put((message.topic, json.loads(message.payload)))
    client.connect(LOOPBACK, broker.port)
    client.loop_start()
    try:
        client.subscribe("#", qos=1)
        assert granted.wait(DEADLINE)
        yield arrived
    finally:
        client.disconnect()
        client.loop_stop()


def recording(*messages: tuple[str, bytes]) -> str:
    return "".join(json.dumps({"topic": topic, "payload": json.loads(payload)}) + "\n" for topic, payload in messages)


def test_replay_publishes_a_file_shifted_to_now_on_request(shell: Shell, broker: PrivateMosquitto) -> None:
    at = datetime(2021, 3, 4, 5, 6, 7, tzinfo=UTC)
    messages = [meter_message("m", at), vehicle_message("v", at - timedelta(minutes=1))]
    shell.write("day.jsonl", recording(*messages) + "\n")
    before = datetime.now(UTC)
    with subscribed(broker) as arrived:
        finished = shell.run("replay", "day.jsonl", "--shift-to-now", "--rate", "1000", mqtt_url=broker.url)

        assert (0, "") == (finished.exit_code, finished.stderr)
        assert "2 messages published" in finished.stdout
        replayed = dict(arrived.get(timeout=DEADLINE) for _ in messages)
    newest, older = (datetime.fromisoformat(replayed[topic].pop("timestamp")) for topic, _ in messages)
    assert before <= newest <= datetime.now(UTC)
    assert timedelta(minutes=1) == newest - older
    for topic, payload in messages:
        assert {**json.loads(payload), "timestamp": None} == {**replayed[topic], "timestamp": None}


def test_replay_names_the_file_and_line_that_is_bad_and_publishes_nothing(
    shell: Shell, broker: PrivateMosquitto
) -> None:
    good = recording(meter_message("m", datetime(2026, 11, 20, tzinfo=UTC)))
    shell.write("day.jsonl", good + "\n" + '{"topic": "meters/m/telemetry"}\n' + good)
    with subscribed(broker) as arrived:
        finished = shell.run("replay", "day.jsonl", mqtt_url=broker.url)

        assert_refused(finished, "day.jsonl:3: payload: .*required")
        assert arrived.empty()


def test_a_recording_is_played_as_it_is_where_no_shift_was_asked_for(tmp_path: Path) -> None:
    messages = [meter_message("m", datetime(2021, 3, 4, tzinfo=UTC)), ("meters/m/telemetry", b'{"no":"timestamp"}')]
    path = tmp_path / "day.jsonl"
    path.write_text(recording(*messages))

    played = Recording(path).play()

    assert [(topic, json.loads(payload)) for topic, payload in messages] == [
        (topic, json.loads(payload)) for topic, payload in played
    ]


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        pytest.param('{"topic": "meters/m/telemetry", "payload": {', "Invalid JSON", id="cut off"),
        pytest.param('{"topic": 7, "payload": {}}', "topic: ", id="a topic that is none"),
        pytest.param('{"topic": "t", "payload": [1]}', "payload: ", id="a payload that is no object"),
        pytest.param('{"topic": "t", "payload": {}, "qos": 1}', "qos: ", id="a key nobody knows"),
    ],
)
def test_a_line_that_is_no_message_is_told_by_its_number(tmp_path: Path, bad: str, says: str) -> None:
    path = tmp_path / "day.jsonl"
    path.write_text(f"\n{recording(meter_message('m', datetime(2026, 11, 20, tzinfo=UTC)))}{bad}\n")

    with pytest.raises(ReplayError, match=f"day.jsonl:3: {says}"):
        Recording(path)


def test_a_recording_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match=r"nowhere.jsonl: No such file"):
        Recording(tmp_path / "nowhere.jsonl")


def test_nobody_to_publish_to_is_one_line(shell: Shell, refusing_port: int) -> None:
    finished = shell.run("simulate", mqtt_url=f"mqtt://{LOOPBACK}:{refusing_port}")

    assert_refused(finished, f"cannot reach {LOOPBACK}:{refusing_port}: Connection refused")


def test_simulate_publishes_until_ctrl_c_and_leaves_quietly(shell: Shell, broker: PrivateMosquitto) -> None:
    arguments = ("simulate", "--interval", "0.2", "--meters", "2", "--vehicles", "1")
    before = datetime.now(UTC)
    with (
        subscribed(broker) as arrived,
        shell.start(*arguments, settings={"INGESTD_MQTT_URL": broker.url}) as process,
    ):
        try:
            messages = [arrived.get(timeout=DEADLINE) for _ in range(6)]  # two rounds
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=DEADLINE)
        finally:
            process.kill()

    topics = ["meters/meter-0001/telemetry", "meters/meter-0002/telemetry", "vehicles/EV-0001/telemetry"]
    assert topics == sorted(topic for topic, _ in messages[:3]) == sorted(topic for topic, _ in messages[3:])
    for topic, payload in messages:
        assert topic.split("/")[1] in payload.values()
        assert rfc3339(before)[:19] <= payload["timestamp"] <= rfc3339(datetime.now(UTC))
    assert "published 3 readings" in stdout
    assert "Traceback" not in stderr
    assert stderr == ""
    assert process.returncode == 0


# export


def test_export_writes_csv_to_standard_output_or_to_a_file(shell: Shell, database_url: str) -> None:
    at = datetime.now(UTC) - timedelta(hours=1)
    figures = {"vehicle_id": "EV-101", "ts": at, "soc": 85.5, "kwh_delivered_dc": 0.38, "battery_temp": 28.5}
    with psycopg.connect(database_url) as connection:
        connection.execute("SELECT ingestd_make_partition('vehicle_history', %s::date)", (at,))
        for table in ("vehicle_history", "vehicle_live"):
            connection.execute(
                f"INSERT INTO {table} (vehicle_id, ts, soc, kwh_delivered_dc, battery_temp, received_at)"  # noqa: S608
                " VALUES (%(vehicle_id)s, %(ts)s, %(soc)s, %(kwh_delivered_dc)s, %(battery_temp)s, %(ts)s)",
                figures,
            )

    piped = shell.run("export", "vehicles", "--id", "EV-101", database_url=database_url)
    saved = shell.run("export", "vehicles", "--output", "all.csv", database_url=database_url)

    names, line = piped.stdout.splitlines()
    assert "vehicleId,timestamp,soc,kwhDeliveredDc,batteryTemp,kwhDeliveredDcRegister,receivedAt" == names
    vehicle, timestamp, rest = line.split(",", 2)
    assert ("EV-101", at) == (vehicle, datetime.fromisoformat(timestamp))
    assert rest.startswith("85.5,0.38,28.5,,")
    assert Finished(0, piped.stdout, "") == piped
    assert Finished(0, "1 readings written to all.csv\n", "") == saved
    assert piped.stdout == (shell.directory / "all.csv").read_text()


def test_export_ended_by_ctrl_c_leaves_no_file(shell: Shell, database_url: str) -> None:
    with psycopg.connect(database_url) as blocker:
        blocker.execute("LOCK TABLE meter_history")

        def waits() -> bool:
            query = "SELECT FROM pg_locks WHERE relation = 'meter_history'::regclass AND NOT granted"
            return blocker.execute(query).fetchone() is not None

        arguments = ("export", "meters", "--output", "all.csv")
        with shell.start(*arguments, settings={"INGESTD_DATABASE_URL": database_url}) as process:
            try:
                until(waits)
                assert [shell.directory / "all.csv.part"] == list(shell.directory.iterdir())
                process.send_signal(signal.SIGINT)
                _, stderr = process.communicate(timeout=DEADLINE)
            finally:
                process.kill()

    assert (1, "Aborted!") == (process.returncode, stderr.strip())
    assert [] == list(shell.directory.iterdir())


def test_every_command_has_the_name_that_it_is_called_by() -> None:
    found = {name: command.name for name, command in commands_of(commands)}

    assert {name: name for name in found} == found
    assert 2 == CliRunner().invoke(commands, ["nothing"]).exit_code


def test_a_command_does_not_import_the_daemon_unless_it_runs_it() -> None:
    """`healthcheck` runs every few seconds: with the daemon's modules it took three times its CPU time."""
    code = "import sys, ingestd.cli; ingestd.cli.commands.get_command(None, 'healthcheck'); print(*sys.modules)"

    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert "ingestd.commands.healthcheck" in modules
    assert [] == [module for module in modules if module.startswith(("ingestd.daemon", "aiohttp", "psycopg", "mqtt5"))]


@pytest.mark.parametrize("words", [(), ("broker",), ("dead-letters",), ("devices",), ("token",)])
def test_help_says_what_each_command_does_and_cuts_nothing(shell: Shell, words: tuple[str, ...]) -> None:
    shown = shell.run(*words, "--help")

    assert (0, "") == (shown.exit_code, shown.stderr)
    summaries = shown.stdout.partition("\nCommands:\n")[2].splitlines()
    assert summaries
    assert [] == [line for line in summaries if line.endswith("...")]
