# ruff: noqa: SIM300 - expected == actual
"""Attacks on the broker that `ingestd broker init` sets up, by somebody who has the account of one device.

Each is tried on a real Mosquitto, and fails. docs/security.md has the figures of before.
"""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest

from ingestd.broker.certificates import Authority
from ingestd.demo.process import LOOPBACK
from tests.support.daemon import Daemon
from tests.support.devices import Device
from tests.support.polling import until
from tests.support.readings import keys_promised, keys_stored, meter_message
from tests.support.shipped_broker import DEADLINE, PASSWORDS, READINGS, WITH_CERTIFICATE, ShippedBroker, program

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.support.devices import Acknowledged

NOT_AUTHORIZED = 0x87
ATTACKER = "meter-002"
HONEST = "meter-001"
NUMBER = 300
CONNECT = bytes.fromhex("100d00044d51545405020000000000")
"""MQTT 5.0, Clean Start, no client id, no account."""
CONNACK = b"\x20"


@pytest.fixture
def broker() -> Iterator[ShippedBroker]:
    with ShippedBroker() as broker:
        yield broker


@pytest.fixture
def daemon(broker: ShippedBroker, database_url: str) -> Iterator[Daemon]:
    with Daemon(
        mqtt_url=broker.internal_url,
        mqtt_username="ingestd",
        mqtt_password=PASSWORDS["ingestd"],
        database_url=database_url,
        flush_interval=0.1,
    ) as daemon:
        daemon.wait_healthy()
        yield daemon


def readings(count: int = NUMBER) -> list[tuple[str, bytes]]:
    start = datetime.now(UTC) - timedelta(hours=1)
    return [meter_message(HONEST, start + timedelta(seconds=number)) for number in range(count)]


def take_session(broker: ShippedBroker) -> None:
    """What erased the session of the daemon before: its client id, with Clean Start, and no session afterwards."""
    with broker.device(ATTACKER, client_id="ingestd"):
        pass


def lost(acknowledged: Sequence[Acknowledged], database_url: str) -> int:
    return len(keys_promised(acknowledged) - set(keys_stored(database_url)))


# The session of the daemon ----------------------------------------------------------------------------------------


def test_nobody_erases_the_session_of_a_daemon_that_is_away(
    broker: ShippedBroker, daemon: Daemon, database_url: str
) -> None:
    daemon.terminate()
    with broker.device(HONEST) as device:
        acknowledged = device.publish_many(readings())
    assert NUMBER == len(keys_promised(acknowledged))

    take_session(broker)
    daemon.start()
    daemon.wait_healthy()

    until(lambda: len(keys_stored(database_url)) >= NUMBER)
    assert 0 == lost(acknowledged, database_url)
    assert 0 == daemon.metric("ingestd_broker_sessions_lost_total")


def test_nobody_takes_the_session_of_a_daemon_that_is_there(
    broker: ShippedBroker, daemon: Daemon, database_url: str
) -> None:
    done = threading.Event()
    taken = 0

    def attack() -> None:
        nonlocal taken
        while not done.is_set():
            take_session(broker)
            taken += 1

    attacker = threading.Thread(target=attack)
    attacker.start()
    try:
        with broker.device(HONEST) as device:
            acknowledged = device.publish_many(readings(), rate=150)
    finally:
        done.set()
        attacker.join()

    assert taken > 5
    until(lambda: len(keys_stored(database_url)) >= NUMBER)
    assert NUMBER == len(keys_promised(acknowledged))
    assert 0 == lost(acknowledged, database_url)
    assert 0 == daemon.metric("ingestd_broker_sessions_lost_total")
    assert "session_taken_over" not in daemon.log.read_text()
    assert "broker_connection_lost" not in daemon.log.read_text()


def test_nobody_takes_the_session_of_another_device(broker: ShippedBroker) -> None:
    with broker.device(HONEST) as device:
        with broker.device(ATTACKER, client_id=HONEST):
            pass
        broker.open_session(*READINGS, user="ingestd")
        assert 0 == device.publish(f"meters/{HONEST}/telemetry", b"still there")
    assert f"Client {HONEST} already connected" not in broker.log.read_text()


# Topics -----------------------------------------------------------------------------------------------------------


def test_no_device_publishes_as_another_or_to_ingestd(broker: ShippedBroker) -> None:
    broker.open_session(*READINGS, "ingestd/#", user="ingestd")
    topics = [
        f"meters/{HONEST}/telemetry",
        "vehicles/EV-101/telemetry",
        f"meters/{ATTACKER}/telemetry/more",
        f"meters/{ATTACKER}",
        "ingestd/probe/ingestd",
        f"ingestd/alerts/meter-silent/{HONEST}",
        "$SYS/broker/publish/messages/dropped",
    ]
    with broker.device(ATTACKER) as device:
        answers = {topic: device.publish(topic, b"forged") for topic in topics}
        own = device.publish(f"meters/{ATTACKER}/telemetry", b"own")

    assert dict.fromkeys(topics, NOT_AUTHORIZED) == answers
    assert 0 == own
    received = broker.collect(*READINGS, "ingestd/#", user="ingestd", count=2, within=1)
    assert [f"meters/{ATTACKER}/telemetry own"] == received


def has_logged_in(broker: ShippedBroker, name: str, times: int) -> bool:
    return broker.log.read_text().count(f" as {name} (") == times


def test_the_will_of_a_device_is_published_as_itself_only(broker: ShippedBroker) -> None:
    broker.open_session(*READINGS, "ingestd/#", user="ingestd")
    for number, topic in enumerate((f"meters/{HONEST}/telemetry", "ingestd/health", f"meters/{ATTACKER}/telemetry"), 1):
        account = ["-h", LOOPBACK, "-p", str(broker.password_port), "-u", ATTACKER, "-P", PASSWORDS[ATTACKER]]
        will = ["--cafile", str(broker.files.ca), "--will-topic", topic, "--will-payload", "will", "-t", "x"]
        with subprocess.Popen([program("mosquitto_sub"), *account, *will]) as dying:
            until(partial(has_logged_in, broker, ATTACKER, number))
            dying.kill()  # no DISCONNECT, so the broker publishes the will

    received = broker.collect(*READINGS, "ingestd/#", user="ingestd", count=2, within=2)
    assert [f"meters/{ATTACKER}/telemetry will"] == received


def test_no_device_reads_anything(broker: ShippedBroker) -> None:
    broker.open_session(*READINGS, user="ingestd")
    retained = broker.client("mosquitto_pub", "-t", "ingestd/alerts/a/b", "-m", "alert", "-r", user="ingestd")
    assert 0 == retained.returncode, retained.stderr
    topics = ("#", "$SYS/#", *READINGS, "ingestd/#", "$share/g/#", f"meters/{ATTACKER}/telemetry")
    broker.open_session(*topics, user=ATTACKER)
    broker.publish(f"meters/{HONEST}/telemetry", "reading", user=HONEST)
    broker.publish("ingestd/alerts/a/b", "alert", user="ingestd")
    assert 1 == len(broker.collect(*READINGS, user="ingestd", count=1))

    assert [] == broker.collect(*topics, user=ATTACKER, count=1, within=1)


# Accounts and listeners -------------------------------------------------------------------------------------------


def test_each_account_is_known_at_its_own_listener_only(broker: ShippedBroker) -> None:
    with (
        pytest.raises(ConnectionRefusedError),
        Device(broker.internal_url.replace("//", f"//{ATTACKER}:{PASSWORDS[ATTACKER]}@"), client_id="ingestd"),
    ):
        pass
    with pytest.raises(ConnectionRefusedError), broker.device("ingestd"):
        pass


def test_nobody_comes_in_without_an_account(broker: ShippedBroker) -> None:
    with pytest.raises(ConnectionRefusedError), Device(broker.internal_url):
        pass
    with (
        pytest.raises(ConnectionRefusedError),
        Device(f"mqtt://{LOOPBACK}:{broker.password_port}", tls=broker.trusting()),
    ):
        pass
    assert not is_taken(broker)


def test_a_wrong_password_is_refused(broker: ShippedBroker) -> None:
    with pytest.raises(ConnectionRefusedError), broker.device(HONEST, password="guessed"):  # noqa: S106
        pass


def test_the_account_of_health_checks_sees_that_the_broker_answers_and_nothing_else(broker: ShippedBroker) -> None:
    options = ["-V", "5", "-h", LOOPBACK, "-p", str(broker.port), "-v", "-W", "2"]
    environment = {**os.environ, "XDG_CONFIG_HOME": str(broker.files.path / "health")}
    retained = broker.client("mosquitto_pub", "-t", "ingestd/alerts/a/b", "-m", "alert", "-r", user="ingestd")
    assert 0 == retained.returncode, retained.stderr

    def shown(*more: str) -> str:
        command = [program("mosquitto_sub"), *options, *more]
        finished = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=2 * DEADLINE, check=False
        )
        assert "refused" not in finished.stderr.lower()
        return finished.stdout

    assert shown("-t", "$SYS/broker/uptime", "-C", "1").startswith("$SYS/broker/uptime ")
    assert "" == shown("-t", "#", "-t", "ingestd/#", "-t", "$SYS/broker/clients/#")


def test_a_removed_device_is_out_as_soon_as_the_broker_has_read_its_files(broker: ShippedBroker) -> None:
    with broker.device(ATTACKER):
        broker.files.remove(ATTACKER)
        broker.reload()
        until(lambda: f"Client {ATTACKER} disconnected" in broker.log.read_text())
    with pytest.raises(ConnectionRefusedError), broker.device(ATTACKER):
        pass
    with broker.device(HONEST):
        pass


def test_a_device_that_is_added_can_log_in_as_soon_as_the_broker_has_read_its_files(broker: ShippedBroker) -> None:
    broker.files.add_with_password("meter-003", "a password of some length")
    broker.reload()

    with broker.device("meter-003", password="a password of some length") as device:  # noqa: S106
        assert NOT_AUTHORIZED != device.publish("meters/meter-003/telemetry", b"x")


# TLS --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_tls_1_2_and_newer_are_spoken(broker: ShippedBroker, version: str) -> None:
    context = broker.trusting()
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    context.load_cert_chain(*pair(broker))
    for port in (broker.password_port, broker.certificate_port):
        with (
            socket.create_connection((LOOPBACK, port)) as plain,
            context.wrap_socket(plain, server_hostname=LOOPBACK) as connection,
        ):
            assert version.replace("_", ".") == connection.version()


def test_tls_1_1_is_refused(broker: ShippedBroker) -> None:
    # Python warns of the old versions, and its OpenSSL would not send them: the tool of OpenSSL does, if asked to.
    for port in (broker.password_port, broker.certificate_port):
        command = ["openssl", "s_client", "-connect", f"{LOOPBACK}:{port}", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]
        finished = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert 0 != finished.returncode
        assert "alert protocol version" in finished.stderr


def test_without_tls_nothing_is_answered(broker: ShippedBroker) -> None:
    for port in (broker.password_port, broker.certificate_port):
        with socket.create_connection((LOOPBACK, port), timeout=DEADLINE) as plain:
            plain.sendall(CONNECT)
            answer = b""
            with suppress(ConnectionResetError):
                answer = plain.recv(64)
        assert not answer.startswith(CONNACK)


def test_a_device_notices_a_broker_that_is_not_ours(broker: ShippedBroker, tmp_path: Path) -> None:
    Authority.made().write(certificate=tmp_path / "other.crt", key=tmp_path / "other.key")
    context = ssl.create_default_context(cafile=tmp_path / "other.crt")
    with (
        socket.create_connection((LOOPBACK, broker.password_port)) as plain,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        context.wrap_socket(plain, server_hostname=LOOPBACK)


# Certificates -----------------------------------------------------------------------------------------------------


def pair(broker: ShippedBroker, identity: str = WITH_CERTIFICATE) -> tuple[Path, Path]:
    return broker.files.handed_out / f"{identity}.crt", broker.files.handed_out / f"{identity}.key"


def is_taken(broker: ShippedBroker, *files: Path) -> bool:
    """Whether one may log in with this certificate and key, or with none.

    Not by `Device`: with TLS 1.3 a certificate is refused after the client has finished its handshake.
    """
    context = broker.trusting()
    if files:
        context.load_cert_chain(files[0], files[1])
    with (
        suppress(OSError),
        socket.create_connection((LOOPBACK, broker.certificate_port), timeout=DEADLINE) as plain,
        context.wrap_socket(plain, server_hostname=LOOPBACK) as connection,
    ):
        connection.sendall(CONNECT)
        answer = connection.recv(64)
        return answer.startswith(CONNACK) and answer[3] == 0
    return False


def is_refused(broker: ShippedBroker, *files: Path) -> bool:
    return not is_taken(broker, *files)


def test_a_device_is_who_its_certificate_says(broker: ShippedBroker) -> None:
    broker.open_session(*READINGS, user="ingestd")
    with broker.device_with_certificate(*pair(broker), client_id="ingestd") as device:
        assert 0 == device.publish(f"meters/{WITH_CERTIFICATE}/telemetry", b"own")
        assert NOT_AUTHORIZED == device.publish(f"meters/{HONEST}/telemetry", b"forged")
        assert NOT_AUTHORIZED == device.publish("ingestd/probe/ingestd", b"forged")
    assert [f"meters/{WITH_CERTIFICATE}/telemetry own"] == broker.collect(*READINGS, user="ingestd", count=2, within=1)
    assert f"as {WITH_CERTIFICATE} (" in broker.log.read_text(), "the client id is not the name in the certificate"


def test_a_certificate_of_another_authority_is_refused(broker: ShippedBroker, tmp_path: Path) -> None:
    forged = Authority.made().device("ingestd")
    (tmp_path / "forged.crt").write_bytes(forged.certificate)
    (tmp_path / "forged.key").write_bytes(forged.key)

    assert is_taken(broker, *pair(broker))
    assert not is_taken(broker, tmp_path / "forged.crt", tmp_path / "forged.key")


def test_the_certificate_of_the_broker_logs_nobody_in(broker: ShippedBroker) -> None:
    assert not is_taken(broker, broker.files.path / "server.crt", broker.files.path / "server.key")


def test_certificates_of_removed_devices_are_refused_and_those_of_others_are_not(
    broker: ShippedBroker, tmp_path: Path
) -> None:
    kept: dict[str, tuple[Path, Path]] = {}
    for identity in ("one", "two", "three"):
        files = broker.files.add_with_certificate(identity)
        kept[identity] = (tmp_path / files[0].name, tmp_path / files[1].name)
        for source, target in zip(files, kept[identity], strict=True):
            shutil.copy(source, target)
    # One after the other, as fast as can be: each list has to be newer than the one before it.
    for identity in ("one", "two"):
        broker.files.remove(identity)
        broker.reload()
        until(partial(is_refused, broker, *kept[identity]))

    assert {"one": False, "two": False, "three": True} == {
        identity: is_taken(broker, *files) for identity, files in kept.items()
    }
    broker.stop()
    broker.start()
    assert not is_taken(broker, *kept["one"])
    assert is_taken(broker, *kept["three"])


# Limits -----------------------------------------------------------------------------------------------------------


def test_a_packet_of_more_than_128_kib_ends_the_connection_of_its_sender_only(broker: ShippedBroker) -> None:
    broker.open_session(*READINGS, user="ingestd")
    with broker.device(HONEST) as honest:
        done = broker.client(
            "mosquitto_pub", "-t", f"meters/{ATTACKER}/telemetry", "-m", "x" * 131_000, "-q", "1", user=ATTACKER
        )
        big = broker.device(ATTACKER)
        with big, suppress(TimeoutError):
            big.publish(f"meters/{ATTACKER}/telemetry", b"x" * 200_000, within=1)
        assert 0 == honest.publish(f"meters/{HONEST}/telemetry", b"still there")

    assert 0 == done.returncode, "smaller ones are acknowledged, and dropped by message_size_limit"
    assert [f"meters/{HONEST}/telemetry still there"] == broker.collect(*READINGS, user="ingestd", count=2, within=1)
    assert "packet too large" in broker.log.read_text() or f"Client {ATTACKER} disconnected due to" in (
        broker.log.read_text()
    )


def test_devices_that_use_up_all_connections_do_not_keep_ingestd_out() -> None:
    with ShippedBroker({"max_connections 20000": "max_connections 5"}) as broker:
        held = [socket.create_connection((LOOPBACK, broker.password_port)) for _ in range(10)]
        try:
            until(lambda: "denied: max_connections exceeded" in broker.log.read_text())
            broker.open_session(*READINGS, user="ingestd")
        finally:
            for connection in held:
                connection.close()
