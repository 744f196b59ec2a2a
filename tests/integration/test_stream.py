# ruff: noqa: SIM300 - expected == actual
"""Live values as clients of GET /v1/stream get them: from a real daemon, its broker and its database."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from threading import Event as Flag
from threading import Thread
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

import psutil
import psycopg
import pytest

from bench.load import Load
from bench.report import percentile
from ingestd.demo.servers import PrivateMosquitto
from ingestd.http.event_streams import EventStreamLimits
from ingestd.model.stream import STREAMS, VEHICLE
from tests.support.api import Names, answer_on, assert_problem, connected
from tests.support.daemon import Daemon
from tests.support.devices import Device
from tests.support.event_streams import EventReader
from tests.support.lag import publish_to_commit, undisturbed
from tests.support.polling import until
from tests.support.readings import meter_message, vehicle_message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingestd.demo.servers import PrivatePostgres
    from ingestd.model.stream import Stream

LIMITS: Final = EventStreamLimits()
MANY: Final = 20_000
"""Devices whose events do not fit into the buffers between the daemon and a client."""
MOST_SECONDS: Final = 3.0
"""The contract: 99 of 100 readings are committed within this time."""


@pytest.fixture(scope="module")
def broker() -> Iterator[PrivateMosquitto]:
    with PrivateMosquitto() as server:
        yield server


@pytest.fixture(scope="module")
def daemon(broker: PrivateMosquitto, shared_database_url: str) -> Iterator[Daemon]:
    with Daemon(mqtt_url=broker.url, database_url=shared_database_url, flush_interval=0.1) as daemon:
        daemon.wait_healthy()
        yield daemon
        until(lambda: 0 == daemon.metric("ingestd_http_event_streams"))


@pytest.fixture(scope="module")
def device(broker: PrivateMosquitto) -> Iterator[Device]:
    with Device(broker.url) as device:
        yield device


@pytest.fixture
def names() -> Names:
    return Names()


def message(stream: Stream, device_id: str) -> tuple[str, bytes]:
    make = vehicle_message if stream is VEHICLE else meter_message
    return make(device_id, datetime.now(UTC))


def named(kind: str, *devices: str) -> str:
    return urlencode([("kind", kind), *(("device", device) for device in devices)])


# What comes


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
def test_a_reading_comes_as_the_live_route_shows_it(
    daemon: Daemon, device: Device, names: Names, stream: Stream
) -> None:
    with EventReader(daemon, named(stream.name, names.meter)) as reader:
        device.publish(*message(stream, names.meter))
        until(lambda: reader.events)
        live = daemon.request("GET", f"/v1/analytics/{stream.name}/{names.meter}/live").json()

        assert [(stream.name, live)] == [(event.kind, event.data) for event in reader.events]
        device.publish(*message(stream, names.meter))
        until(lambda: 2 == len(reader.events))


def test_the_newest_readings_come_at_first(daemon: Daemon, device: Device, names: Names) -> None:
    device.publish(*meter_message(names.meter, datetime.now(UTC), voltage=229))
    device.publish(*meter_message(names.meter, datetime.now(UTC), voltage=231))
    until(lambda: daemon.request("GET", f"/v1/analytics/meter/{names.meter}/live").status == 200)
    with EventReader(daemon) as reader:
        until(lambda: reader.of(names.meter))

        until(lambda: 231 == reader.of(names.meter)[-1].data["voltage"])
        assert len(set(reader.devices)) == len({(event.kind, event.device) for event in reader.events})


def test_the_answer_is_an_event_stream_that_nobody_keeps(daemon: Daemon) -> None:
    answer = EventReader(daemon).head()
    head = daemon.request("HEAD", "/v1/stream")

    expected = ("text/event-stream", "no-store", "nosniff")
    for one in (answer, head):
        assert 200 == one.status
        assert expected == tuple(
            one.headers[name] for name in ("content-type", "cache-control", "x-content-type-options")
        )
    with EventReader(daemon) as reader:
        until(lambda: [2000] == reader.retries)


def test_only_the_kind_or_the_devices_come_that_are_asked_for(daemon: Daemon, device: Device, names: Names) -> None:
    """A meter and a vehicle may have the same id."""
    meters, vehicles = {names.meter, names.other_meter}, {names.meter, names.vehicle}
    with (
        EventReader(daemon, "kind=vehicle") as of_kind,
        EventReader(daemon, named("meter", names.meter)) as of_one,
        EventReader(daemon, named("meter", *meters, "nobody")) as of_two,
    ):
        for meter in meters:
            device.publish(*meter_message(meter, datetime.now(UTC)))
        for vehicle in vehicles:
            device.publish(*vehicle_message(vehicle, datetime.now(UTC)))
        until(lambda: vehicles <= set(of_kind.devices))
        until(lambda: meters == set(of_two.devices))
        until(lambda: [names.meter] == of_one.devices)

        assert ({"vehicle"}, {"meter"}) == ({one.kind for one in of_kind.events}, {one.kind for one in of_two.events})
        assert 0 == sum(one.heartbeats for one in (of_one, of_two))


def test_a_device_that_was_forgotten_does_not_come_again(
    daemon: Daemon, device: Device, shared_database_url: str, names: Names
) -> None:
    device.publish(*meter_message(names.meter, datetime.now(UTC)))
    device.publish(*meter_message(names.other_meter, datetime.now(UTC)))
    with EventReader(daemon, "kind=meter") as reader:
        until(lambda: {names.meter, names.other_meter} <= set(reader.devices))
    with psycopg.connect(shared_database_url) as database:
        database.execute("DELETE FROM meter_live WHERE meter_id = %s", (names.meter,))
    with EventReader(daemon, named("meter", names.meter, names.other_meter)) as reader:
        until(lambda: reader.of(names.other_meter))
        device.publish(*meter_message(names.other_meter, datetime.now(UTC)))
        until(lambda: 2 == len(reader.of(names.other_meter)))

        assert [] == reader.of(names.meter)


# Clients that come back


def test_a_client_that_comes_back_has_missed_nothing_while_readings_go_on(
    daemon: Daemon, broker: PrivateMosquitto, shared_database_url: str, names: Names
) -> None:
    """It comes back again and again, and knows the newest reading of each device in the end."""
    devices = [f"{names.meter}-{number}" for number in range(30)]
    stop, known = Flag(), dict[str, str]()

    def publish() -> None:
        with Device(broker.url) as device:
            number = 0
            while not stop.is_set():
                number += 1
                device.publish_many([meter_message(devices[number % 25], datetime.now(UTC))], rate=200)

    with Device(broker.url) as device:
        device.publish_many(meter_message(one, datetime.now(UTC)) for one in devices)
    until(lambda: _newest(shared_database_url, names.meter).keys() == set(devices))
    publisher, last_id = Thread(target=publish), ""
    publisher.start()
    returns: list[list[str]] = []
    try:
        for turn in range(8):
            headers = {"Last-Event-ID": last_id} if last_id else {}
            with EventReader(daemon, named("meter", *devices), headers=headers) as reader:
                until(lambda: len(reader.events) > (len(devices) if turn == 0 else 5))  # noqa: B023
            known |= {event.device: event.data["timestamp"] for event in reader.events}
            returns.append(reader.devices)
            last_id = reader.events[-1].id
    finally:
        stop.set()
        publisher.join()
    with EventReader(daemon, named("meter", *devices), headers={"Last-Event-ID": last_id}) as reader:

        def is_complete() -> bool:
            told = known | {event.device: event.data["timestamp"] for event in reader.events}
            newest = _newest(shared_database_url, names.meter)
            return {device: datetime.fromisoformat(at) for device, at in told.items()} == newest

        until(is_complete)

    silent = set(devices[25:])
    assert silent <= set(returns[0])
    assert set() == silent & {device for one in returns[1:] for device in one}, "what has not changed came again"


def _newest(url: str, prefix: str) -> dict[str, datetime]:
    with psycopg.connect(url) as database:
        return dict(
            database.execute(
                "SELECT meter_id, ts FROM meter_live WHERE starts_with(meter_id, %s)", (prefix,)
            ).fetchall()
        )


@pytest.mark.parametrize(
    "last_id", ["", "nonsense", "00000000-1", "0" * 5000, "-", "{epoch}-999999999999999", "{epoch}-99999999999999999"]
)
def test_with_a_last_event_id_of_nobody_all_comes_once_more(
    daemon: Daemon, device: Device, names: Names, last_id: str
) -> None:
    device.publish(*meter_message(names.meter, datetime.now(UTC)))
    with EventReader(daemon, named("meter", names.meter)) as reader:
        until(lambda: reader.events)
    epoch = reader.events[0].id.partition("-")[0]
    headers = {"Last-Event-ID": last_id.replace("{epoch}", epoch)}
    with EventReader(daemon, named("meter", names.meter), headers=headers) as reader:
        until(lambda: [names.meter] == reader.devices)


def test_after_a_restart_all_comes_once_more(broker: PrivateMosquitto, shared_database_url: str, names: Names) -> None:
    with Daemon(mqtt_url=broker.url, database_url=shared_database_url, mqtt_client_id="restarted") as daemon:
        daemon.wait_healthy()
        with Device(broker.url) as device:
            device.publish(*meter_message(names.meter, datetime.now(UTC)))
        with EventReader(daemon, named("meter", names.meter)) as reader:
            until(lambda: reader.events)
            assert 0 == daemon.terminate()
            until(lambda: reader.is_ended)
            assert not reader.was_cut, "the daemon ends streams in good order"
        daemon.start()
        daemon.wait_healthy()
        headers = {"Last-Event-ID": reader.events[-1].id}
        with EventReader(daemon, named("meter", names.meter), headers=headers) as reader:
            until(lambda: [names.meter] == reader.devices)


# What is refused


def test_a_last_event_id_with_a_nul_is_400(daemon: Daemon) -> None:
    with connected(daemon) as client:
        client.sendall(b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: a\0b\r\n\r\n")

        assert 400 == answer_on(client).status


def test_a_client_has_so_many_streams_and_all_have_so_many(daemon: Daemon) -> None:
    with ExitStack() as held:
        for number in range(LIMITS.total):
            if number == LIMITS.of_client:
                one_more = EventReader(daemon).head()
                assert f"{LIMITS.of_client} streams" in assert_problem(one_more, 503)
                assert int(one_more.headers["retry-after"]) > 0
            held.enter_context(EventReader(daemon, source=f"127.0.0.{1 + number // LIMITS.of_client}"))
        assert LIMITS.total == daemon.metric("ingestd_http_event_streams")
        assert f"{LIMITS.total} clients" in assert_problem(EventReader(daemon, source="127.0.0.99").head(), 503)
        assert 200 == daemon.request("GET", "/livez").status

    with EventReader(daemon) as reader:
        until(lambda: reader.retries)


def test_a_thousand_streams_leave_nothing_behind(daemon: Daemon) -> None:
    process = psutil.Process(daemon.pid)
    before = daemon.metric("ingestd_http_requests_total", route="/v1/stream", status="2xx")
    files = process.num_fds()
    for _ in range(1000):
        with connected(daemon) as client:
            client.sendall(b"GET /v1/stream?kind=meter HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(15) in {b"HTTP/1.1 200 OK", b"HTTP/1.1 503 Se"}
    until(lambda: 0 == daemon.metric("ingestd_http_event_streams"))
    answered = daemon.metric("ingestd_http_requests_total", route="/v1/stream", status="2xx") - before

    assert answered > 500
    until(lambda: process.num_fds() <= files + 2)


# What it costs, and whom


def test_a_stream_counts_as_a_request_when_its_answer_begins(daemon: Daemon) -> None:
    """Its length is no time of an answer, and a client that leaves is no error."""
    labels = {"route": "/v1/stream", "method": "GET"}

    def counted() -> tuple[float, float, float]:
        return (
            daemon.metric("ingestd_http_requests_total", status="2xx", **labels),
            daemon.metric("ingestd_http_requests_total", status="4xx", **labels),
            daemon.metric("ingestd_http_request_seconds_sum", **labels),
        )

    good, bad, seconds = counted()
    with EventReader(daemon):
        until(lambda: counted()[0] == good + 1)
        time.sleep(1.1)
    until(lambda: 0 == daemon.metric("ingestd_http_event_streams"))

    assert (good + 1, bad) == counted()[:2]
    assert counted()[2] - seconds < 1


def test_many_clients_cost_the_database_no_more_than_one(daemon: Daemon, shared_database_url: str) -> None:
    def looks_in(seconds: float) -> int:
        before = _reads(shared_database_url)
        time.sleep(seconds)
        return _reads(shared_database_url) - before

    none = looks_in(3)
    with EventReader(daemon):
        one = looks_in(3)
    with ExitStack() as held:
        for number in range(60):
            held.enter_context(EventReader(daemon, source=f"127.0.0.{10 + number // LIMITS.of_client}"))
        sixty = looks_in(3)

    assert none < one / 2, "nobody listens, and there are looks"
    assert sixty < 2 * one


def _reads(url: str) -> int:
    """Scans of the live tables so far, whichever way."""
    with psycopg.connect(url) as database:
        ((scans,),) = database.execute(
            "SELECT sum(coalesce(seq_scan, 0) + coalesce(idx_scan, 0))::bigint FROM pg_stat_user_tables"
            " WHERE relname IN ('meter_live', 'vehicle_live')"
        ).fetchall()
        return int(scans)


def test_a_client_that_takes_nothing_is_dropped_and_nobody_else_notices(
    daemon: Daemon, broker: PrivateMosquitto, shared_database_url: str
) -> None:
    with psycopg.connect(shared_database_url) as database:
        database.execute(
            "INSERT INTO meter_live (meter_id, ts, received_at, voltage)"
            " SELECT 'filler-' || number, now(), now(), 230 FROM generate_series(1, %s) AS number",
            (MANY,),
        )
    try:
        worst = undisturbed(
            lambda: p99_beside_a_frozen_client(daemon, broker, shared_database_url),
            is_good=lambda p99: p99 < MOST_SECONDS,
        )
    finally:
        with psycopg.connect(shared_database_url) as database:
            database.execute("DELETE FROM meter_live WHERE starts_with(meter_id, 'filler-')")

    assert worst < MOST_SECONDS


def p99_beside_a_frozen_client(daemon: Daemon, broker: PrivateMosquitto, url: str) -> float:
    """Seconds from publication to commit, from when it is frozen until it is dropped."""
    before = daemon.metric("ingestd_http_event_streams_dropped_total")
    memory = psutil.Process(daemon.pid).memory_info().rss
    with connected(daemon) as frozen, Load(broker.url, rate=200, devices=100) as load:
        frozen.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        frozen.sendall(b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with EventReader(daemon) as other:
            published = publish_to_commit(
                load,
                url,
                is_over=lambda: daemon.metric("ingestd_http_event_streams_dropped_total") > before,
                within=LIMITS.client_seconds + 60,
            )
            until(lambda: len({one for one in other.devices if one.startswith("filler-")}) == MANY)
            assert [one for one in other.devices if one.startswith("meter-")], "and what was published meanwhile"
            taken = _taken(frozen)
    p99 = percentile(published, 0.99)
    grown = (psutil.Process(daemon.pid).memory_info().rss - memory) / 2**20
    print(f"p99 {p99:.2f} s of {len(published)}; the frozen client was sent {taken} bytes; {grown:.0f} MiB more")  # noqa: T201
    return p99


def _taken(client: socket.socket) -> int:
    """Bytes that had been sent before the connection was reset."""
    taken = 0
    client.settimeout(10)
    try:
        while part := client.recv(65536):
            taken += len(part)
    except ConnectionResetError:
        pass
    return taken


# When the database or the daemon stops


def test_a_stream_outlives_an_outage_of_the_database_and_misses_nothing(
    broker: PrivateMosquitto, own_postgres: PrivatePostgres, own_database_url: str, names: Names
) -> None:
    with (
        Daemon(mqtt_url=broker.url, database_url=own_database_url, mqtt_client_id="outage") as daemon,
        Device(broker.url) as device,
    ):
        daemon.wait_healthy()
        device.publish(*meter_message(names.meter, datetime.now(UTC)))
        with EventReader(daemon) as reader:
            until(lambda: [names.meter] == reader.devices)
            own_postgres.stop()
            for voltage in (231, 232):
                device.publish(*meter_message(names.meter, datetime.now(UTC), voltage=voltage))
                device.publish(*meter_message(names.other_meter, datetime.now(UTC), voltage=voltage))
            until(lambda: reader.heartbeats > 0, within=30)
            with EventReader(daemon) as newcomer:
                until(lambda: newcomer.retries)
                own_postgres.start()

                for one in (reader, newcomer):
                    for meter in (names.meter, names.other_meter):
                        until(lambda: 232 == one.of(meter)[-1].data["voltage"], within=60)  # noqa: B023
                assert not reader.is_ended
        assert 1 == daemon.log.read_text().count('"look_for_changes_failed"')
        assert 1 == daemon.log.read_text().count('"look_for_changes_recovered"')


def test_the_daemon_stops_in_time_with_clients_that_read_and_clients_that_do_not(
    broker: PrivateMosquitto, shared_database_url: str
) -> None:
    settings = {"mqtt_client_id": "about-to-stop"}
    with Daemon(mqtt_url=broker.url, database_url=shared_database_url, **settings) as daemon, ExitStack() as held:
        daemon.wait_healthy()
        readers = [held.enter_context(EventReader(daemon)) for _ in range(10)]
        frozen = held.enter_context(connected(daemon))
        frozen.sendall(b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until(lambda: 11 == daemon.metric("ingestd_http_event_streams"))

        assert 0 == daemon.terminate()
        until(lambda: all(reader.is_ended for reader in readers))
        assert [] == [reader for reader in readers if reader.was_cut]


@pytest.mark.usefixtures("daemon")
def test_a_standby_tells_what_the_active_daemon_stores(
    device: Device, broker: PrivateMosquitto, shared_database_url: str, names: Names
) -> None:
    with Daemon(mqtt_url=broker.url, database_url=shared_database_url) as standby:
        until(lambda: _is_standby(standby), within=30)
        with EventReader(standby, named("meter", names.meter)) as reader:
            device.publish(*meter_message(names.meter, datetime.now(UTC)))
            until(lambda: [names.meter] == reader.devices)


def _is_standby(daemon: Daemon) -> bool:
    try:
        return bool(daemon.request("GET", "/health").json()["status"] == "standby")
    except OSError:
        return False
