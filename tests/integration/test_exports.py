# ruff: noqa: SIM300 - expected == actual
"""History as CSV over HTTP: exactly what is stored, in little memory, and for nobody longer than he takes it."""

from __future__ import annotations

import csv
import http.client
import io
import re
import socket
import time
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import psutil
import psycopg
import pytest

from ingestd.demo.servers import PrivateMosquitto
from ingestd.model.stream import METER, STREAMS, VEHICLE, Stream
from ingestd.store import queries
from tests.support.api import Names, assert_problem
from tests.support.daemon import Daemon, Response
from tests.support.polling import until
from tests.support.readings import rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterator

NOON = datetime(2026, 10, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
MICROSECOND = timedelta(microseconds=1)
MANY = 300_000
MANY_FROM = datetime(2026, 9, 1, tzinfo=UTC)
MIB = 1024 * 1024
OF_EXPORTS = "datname = current_database() AND application_name = 'ingestd-export'"


@pytest.fixture(scope="module")
def broker() -> Iterator[PrivateMosquitto]:
    with PrivateMosquitto() as server:
        yield server


@pytest.fixture(scope="module")
def database(shared_database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(shared_database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def daemon(broker: PrivateMosquitto, shared_database_url: str) -> Iterator[Daemon]:
    with Daemon(mqtt_url=broker.url, database_url=shared_database_url) as daemon:
        daemon.wait_healthy()
        yield daemon


@pytest.fixture
def names() -> Names:
    return Names()


@pytest.fixture(scope="module")
def many(database: psycopg.Connection) -> str:
    """The query of an export of 300,000 readings over two days, which is 30 MB of CSV."""
    for day in range(2):
        database.execute("SELECT ingestd_make_partition('meter_history', %s::date + %s)", (MANY_FROM, day))
    database.execute(
        "INSERT INTO meter_history (meter_id, ts, kwh_consumed_ac, voltage, received_at)"
        " SELECT 'many-' || i %% 10, %(start)s + i * interval '0.5 seconds', 1.0 / (i + 3), 230 + 1.0 / (i + 7),"
        " %(start)s FROM generate_series(0, %(rows)s - 1) AS i",
        {"start": MANY_FROM, "rows": MANY},
    )
    return urlencode({"startTime": rfc3339(MANY_FROM), "endTime": rfc3339(MANY_FROM + timedelta(days=2))})


def store(database: psycopg.Connection, stream: Stream, *rows: tuple[Any, ...]) -> None:
    """Rows of history in the order of the stream's columns; the device of the first becomes known."""
    columns, places = ", ".join(stream.row_columns), ", ".join(["%s"] * len(stream.row_columns))
    for row in rows:
        database.execute("SELECT ingestd_make_partition(%s, %s::date)", (stream.history, row[1]))
    with database.cursor() as cursor:
        cursor.executemany(f"INSERT INTO {stream.history} ({columns}) VALUES ({places})", rows)  # noqa: S608
        cursor.execute(f"INSERT INTO {stream.live} ({columns}) VALUES ({places})", rows[0])  # noqa: S608


def row(stream: Stream, device_id: str, at: datetime, *figures: float | None) -> tuple[Any, ...]:
    """All figures are 1 where none are given."""
    return (device_id, at, *(figures or [1.0] * len(stream.columns)), at)


def export(daemon: Daemon, stream: Stream, method: str = "GET", **query: str) -> Response:
    return daemon.request(method, f"/v1/export/{stream.topic_root}.csv?{urlencode(query)}")


def hour(start: datetime = NOON) -> dict[str, str]:
    return {"startTime": rfc3339(start), "endTime": rfc3339(start + HOUR)}


def readings(answer: Response) -> list[dict[str, str]]:
    assert 200 == answer.status, answer.body
    return list(csv.DictReader(io.StringIO(answer.body.decode())))


# What is handed out


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
def test_every_value_comes_back_as_it_is_stored(
    daemon: Daemon, database: psycopg.Connection, names: Names, stream: Stream
) -> None:
    figures = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, 123456789.12345679, 1e-7, 0.0, 85.0]
    stored = [
        (names.meter, NOON + number * MICROSECOND, *([figure] * len(stream.columns)), NOON - number * MICROSECOND)
        for number, figure in enumerate(figures)
    ]
    store(database, stream, *stored)

    exported = readings(export(daemon, stream, id=names.meter, **hour()))

    keys = [stream.id_key, "timestamp", *stream.columns, "receivedAt"]
    assert [keys] * len(stored) == [list(reading) for reading in exported]
    assert stored == [
        (
            reading[stream.id_key],
            datetime.fromisoformat(reading["timestamp"]),
            *(float(reading[key]) for key in stream.columns),
            datetime.fromisoformat(reading["receivedAt"]),
        )
        for reading in exported
    ]


def test_a_line_looks_like_this(daemon: Daemon, database: psycopg.Connection, names: Names) -> None:
    """What was not sent is empty; fractions of a second only where there are any."""
    at = NOON + timedelta(milliseconds=250)
    by_column = dict.fromkeys(METER.columns.values()) | {"voltage": 230.0, "kwh_consumed_ac": 0.42}
    store(database, METER, (names.meter, at, *by_column.values(), NOON))

    answer = export(daemon, METER, id=names.meter, **hour())

    assert (
        f"meterId,timestamp,kwhConsumedAc,voltage,kwhConsumedAcRegister,receivedAt\n"
        f"{names.meter},2026-10-20T12:00:00.25Z,0.42,230,,2026-10-20T12:00:00Z\n"
    ) == answer.body.decode()
    assert "text/csv; charset=utf-8" == answer.headers["content-type"]
    name = f"{names.meter}_20261020T120000Z_20261020T130000Z.csv"
    assert f'attachment; filename="{name}"' == answer.headers["content-disposition"]


def test_the_window_has_its_start_and_not_its_end(daemon: Daemon, database: psycopg.Connection, names: Names) -> None:
    inside = [NOON, NOON + HOUR - MICROSECOND]
    outside = [NOON - MICROSECOND, NOON + HOUR]
    store(database, VEHICLE, *(row(VEHICLE, names.vehicle, at) for at in inside + outside))

    exported = readings(export(daemon, VEHICLE, id=names.vehicle, **hour()))

    assert inside == [datetime.fromisoformat(reading["timestamp"]) for reading in exported]


def test_the_last_day_is_exported_where_nothing_else_is_said(
    daemon: Daemon, database: psycopg.Connection, names: Names
) -> None:
    now = datetime.now(UTC)
    store(database, METER, *(row(METER, names.meter, now - age * HOUR) for age in (1, 23, 25)))

    exported = readings(export(daemon, METER, id=names.meter))

    assert [now - 23 * HOUR, now - HOUR] == [datetime.fromisoformat(reading["timestamp"]) for reading in exported]


def test_one_device_comes_in_order_of_time_over_days(
    daemon: Daemon, database: psycopg.Connection, names: Names
) -> None:
    moments = [NOON + number * HOUR for number in (30, 2, 50, 0, 26)]
    store(database, METER, *(row(METER, device, at) for device in (names.meter, names.other_meter) for at in moments))

    window = {"startTime": rfc3339(NOON), "endTime": rfc3339(NOON + 72 * HOUR)}
    exported = readings(export(daemon, METER, id=names.meter, **window))

    assert [(names.meter, at) for at in sorted(moments)] == [
        (reading["meterId"], datetime.fromisoformat(reading["timestamp"])) for reading in exported
    ]


def test_all_devices_come_in_order_of_days(daemon: Daemon, database: psycopg.Connection, names: Names) -> None:
    start = NOON - timedelta(days=80)  # when no other test's devices were about
    hours = (26, 50, 0, 27, 1)
    store(database, VEHICLE, *(row(VEHICLE, f"{names.vehicle}-{number}", start + number * HOUR) for number in hours))

    exported = readings(export(daemon, VEHICLE, startTime=rfc3339(start), endTime=rfc3339(start + 72 * HOUR)))

    days = [reading["timestamp"][:10] for reading in exported]
    assert sorted(days) == days
    assert {f"{names.vehicle}-{number}" for number in hours} == {reading["vehicleId"] for reading in exported}


def test_a_known_device_without_readings_in_the_window_is_a_line_of_names(
    daemon: Daemon, database: psycopg.Connection, names: Names
) -> None:
    store(database, VEHICLE, row(VEHICLE, names.vehicle, NOON))

    answer = export(daemon, VEHICLE, id=names.vehicle, **hour(NOON - 2 * HOUR))

    assert b"vehicleId,timestamp,soc,kwhDeliveredDc,batteryTemp,kwhDeliveredDcRegister,receivedAt\n" == answer.body


def test_head_is_answered_without_the_readings(daemon: Daemon, many: str) -> None:
    answer = daemon.request("HEAD", f"/v1/export/meters.csv?{many}")

    assert (200, b"") == (answer.status, answer.body)
    assert answer.headers["content-disposition"].startswith("attachment; filename=")


@pytest.mark.parametrize(("device_id", "in_order"), [(None, False), ("many-3", False), ("many-3", True)])
def test_nothing_is_sorted_and_one_device_is_read_along_its_key(
    shared_database_url: str, many: str, device_id: str | None, *, in_order: bool
) -> None:
    """Or it would not be in constant memory."""
    assert many
    blocks = queries.load("exports.sql")
    (select,) = re.findall(
        r"COPY \((.*)\) TO STDOUT", queries.for_stream(blocks["export"], METER).as_string(), re.DOTALL
    )
    parameters = {
        "start": MANY_FROM,
        "end": MANY_FROM + timedelta(days=30),
        "device_id": device_id,
        "in_order": in_order,
    }
    with psycopg.connect(shared_database_url, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute(blocks["prepare_export"])
        plan = "\n".join(line for (line,) in connection.execute("EXPLAIN " + select, parameters))

    assert "Sort" not in plan
    assert (device_id is not None) == ("Index Scan" in plan), plan
    assert (device_id is None) == ("Seq Scan" in plan), plan


# What is refused


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("startTime=2026-11-20T10:00:00Z&endTime=2026-11-20T10:00:00Z", "endTime"),
        ("startTime=1926-11-20T10:00:00Z&endTime=2026-11-20T10:00:00Z", "startTime"),
        ("startTime=yesterday", "startTime"),
        ("id=EV%20101", "id"),
        ("id=", "id"),
        ("id=a&id=b", "id"),
        ("limit=3", "limit"),
    ],
)
@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
def test_a_bad_parameter_is_400_and_named(daemon: Daemon, stream: Stream, query: str, parameter: str) -> None:
    answer = daemon.request("GET", f"/v1/export/{stream.topic_root}.csv?{query}")

    assert assert_problem(answer, 400, parameter=parameter).startswith(f"{parameter}: ")


def test_an_unknown_device_is_404_and_named(daemon: Daemon, database: psycopg.Connection, names: Names) -> None:
    store(database, METER, row(METER, names.meter, NOON))

    assert names.meter in assert_problem(export(daemon, VEHICLE, id=names.meter), 404)


def test_a_database_that_fails_before_the_first_byte_is_503(daemon: Daemon, database: psycopg.Connection) -> None:
    database.execute("ALTER TABLE vehicle_history RENAME TO vehicle_history_of_old")
    try:
        answer = export(daemon, VEHICLE)
    finally:
        database.execute("ALTER TABLE vehicle_history_of_old RENAME TO vehicle_history")

    assert_problem(answer, 503)
    assert "5" == answer.headers["retry-after"]


# Clients and servers that leave


def exporting(database: psycopg.Connection) -> int:
    """How many connections of exports there are to this database."""
    ((count,),) = database.execute(
        f"SELECT count(*) FROM pg_stat_activity WHERE {OF_EXPORTS}"  # noqa: S608
    ).fetchall()
    return int(count)


def waits_for_the_client(database: psycopg.Connection) -> bool:
    """PostgreSQL has an export's data, and nobody takes it."""
    found = database.execute(f"SELECT FROM pg_stat_activity WHERE {OF_EXPORTS} AND wait_event = 'ClientWrite'")
    return found.fetchone() is not None


@contextmanager
def frozen_client(
    daemon: Daemon, query: str, version: str = "1.1", source: str = "127.0.0.1"
) -> Iterator[socket.socket]:
    """Has asked for the meters, and has taken in a little of the answer."""
    address = urlsplit(daemon.url)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)  # or the kernel takes megabytes for us
        client.bind((source, 0))
        client.connect((address.hostname, address.port))
        client.sendall(f"GET /v1/export/meters.csv?{query} HTTP/{version}\r\nHost: localhost\r\n\r\n".encode())
        assert client.recv(4096).startswith(f"HTTP/{version} 200 ".encode())
        yield client


def read_to_the_end(client: socket.socket) -> None:
    while client.recv(MIB):
        pass


def test_a_client_that_leaves_frees_the_connection(daemon: Daemon, database: psycopg.Connection, many: str) -> None:
    with frozen_client(daemon, many):
        until(lambda: exporting(database) == 1)

    until(lambda: exporting(database) == 0, within=2)
    assert 0 == exporting(database)


def test_a_third_export_is_503_until_another_has_ended(
    daemon: Daemon, database: psycopg.Connection, many: str, names: Names
) -> None:
    store(database, METER, row(METER, names.meter, NOON))
    with ExitStack() as clients:
        for number in (2, 3):
            clients.enter_context(frozen_client(daemon, many, source=f"127.0.0.{number}"))

        answer = export(daemon, METER, id=names.meter)
        live = daemon.request("GET", f"/v1/analytics/meter/{names.meter}/live")

    assert "2 exports" in assert_problem(answer, 503)
    assert "5" == answer.headers["retry-after"]
    assert 200 == live.status
    until(lambda: 200 == export(daemon, METER, id=names.meter).status)


def test_a_client_has_one_export_at_a_time(
    daemon: Daemon, database: psycopg.Connection, many: str, names: Names
) -> None:
    store(database, METER, row(METER, names.meter, NOON))
    with frozen_client(daemon, many):
        answer = export(daemon, METER, id=names.meter)
        with frozen_client(daemon, many, source="127.0.0.2"):
            pass

    assert "an export of this client is under way already" == assert_problem(answer, 503)
    until(lambda: 200 == export(daemon, METER, id=names.meter).status)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_database_that_fails_later_on_leaves_nobody_with_half_a_file_taken_for_a_whole(
    daemon: Daemon, database: psycopg.Connection, many: str, version: str
) -> None:
    """Not even with HTTP/1.0, where a connection that just ends is the ordinary end of an answer."""
    with frozen_client(daemon, many, version) as client:
        database.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OF_EXPORTS}"  # noqa: S608
        )

        with pytest.raises(ConnectionResetError):
            read_to_the_end(client)


def test_a_large_export_takes_little_memory(daemon: Daemon, database: psycopg.Connection, many: str) -> None:
    """Neither while nobody takes it, nor when it is taken as fast as it comes."""
    process = psutil.Process(daemon.pid)
    before = process.memory_info().rss
    peak = 0
    with frozen_client(daemon, many, source="127.0.0.2"):
        until(lambda: waits_for_the_client(database))
        peak = process.memory_info().rss
    until(lambda: exporting(database) == 0)
    connection = http.client.HTTPConnection(urlsplit(daemon.url).netloc, timeout=30)
    connection.request("GET", f"/v1/export/meters.csv?{many}")
    answer = connection.getresponse()
    size = lines = 0
    while part := answer.read(MIB):
        size, lines = size + len(part), lines + part.count(b"\n")
        peak = max(peak, process.memory_info().rss)
    connection.close()

    assert MANY + 1 == lines
    assert size > 20 * MIB
    assert peak - before < 6 * MIB


def test_the_daemon_does_not_wait_for_a_frozen_client_when_it_stops(
    broker: PrivateMosquitto, shared_database_url: str, database: psycopg.Connection, many: str
) -> None:
    settings = {"mqtt_client_id": "about-to-stop"}
    with Daemon(mqtt_url=broker.url, database_url=shared_database_url, **settings) as daemon:
        daemon.wait_healthy()
        with frozen_client(daemon, many) as client:
            until(lambda: waits_for_the_client(database))
            started = time.monotonic()
            assert 0 == daemon.terminate()
            assert time.monotonic() - started < 5

            with pytest.raises(ConnectionResetError):
                read_to_the_end(client)
    assert 0 == exporting(database)
