"""The shipped Mosquitto configuration in a real broker: who may do what, and what is kept for ingestd."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SHIPPED = Path(__file__).parents[2] / "mosquitto"
PASSWORDS = {"ingestd": "one", "meter-001": "two", "EV-101": "three"}
READINGS = ("meters/+/telemetry", "vehicles/+/telemetry")
DROPPED = "$SYS/broker/publish/messages/dropped"
DEADLINE = 10.0
# Debian keeps the broker where an ordinary user's PATH does not look.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"])


def program(name: str) -> str:
    found = shutil.which(name, path=SEARCH_PATH)
    assert found, f"{name} is needed: make mosquitto"
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def replaced(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the shipped file"
    return text.replace(old, new)


@dataclass(frozen=True, kw_only=True)
class Broker:
    config: Path
    port: int

    @contextmanager
    def running(self) -> Iterator[None]:
        """Up when the body starts; stopped on leaving as by a service manager, so that its state is saved."""
        with (self.config.parent / "log").open("a") as log:
            command = [program("mosquitto"), "-c", str(self.config)]
            with subprocess.Popen(command, stdout=log, stderr=log) as process:
                try:
                    self._wait_until_it_answers(process)
                    yield
                finally:
                    process.terminate()
                    try:
                        process.wait(DEADLINE)
                    except subprocess.TimeoutExpired:
                        process.kill()
                        raise
        assert process.returncode == 0

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + DEADLINE
        while True:
            assert process.poll() is None, (self.config.parent / "log").read_text()
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1):
                    return
            except ConnectionRefusedError:
                assert time.monotonic() < deadline, "the broker does not listen"
                time.sleep(0.02)

    def client(self, name: str, *options: str, user: str | None) -> subprocess.CompletedProcess[str]:
        account = [] if user is None else ["-u", user, "-P", PASSWORDS[user]]
        command = [program(name), "-h", "127.0.0.1", "-p", str(self.port), "-V", "5", *account, *options]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=2 * DEADLINE)

    def publish(self, topic: str, payload: str, *, user: str, qos: int = 1) -> None:
        done = self.client("mosquitto_pub", "-t", topic, "-m", payload, "-q", str(qos), user=user)
        assert done.returncode == 0, done.stderr

    def open_session(self, *topics: str, user: str) -> None:
        """Subscribe and go away; what is published from now on waits for `collect`."""
        done = self.client("mosquitto_sub", *self._session(topics, user), "-E", user=user)
        assert done.returncode == 0, done.stderr

    def collect(self, *topics: str, user: str, count: int, within: float = DEADLINE) -> list[str]:
        """The first `count` waiting messages, each as "topic payload", or fewer when there are no more."""
        options = [*self._session(topics, user), "-v", "-C", str(count), "-W", str(int(within))]
        return self.client("mosquitto_sub", *options, user=user).stdout.splitlines()

    @staticmethod
    def _session(topics: tuple[str, ...], user: str) -> list[str]:
        subscriptions = [word for topic in topics for word in ("-t", topic)]
        return ["-i", f"session-of-{user}", "-c", "-x", "600", "-q", "1", *subscriptions]


@contextmanager
def installed(changes: Mapping[str, str]) -> Iterator[Broker]:
    """The shipped files in a directory of their own, with its paths, a free port and `changes` put in."""
    # Not pytest's tmp_path: a broker started by root becomes the user mosquitto, to whom that is closed.
    with tempfile.TemporaryDirectory(prefix="ingestd-broker-") as name:
        home = Path(name)
        port = free_port()
        text = (SHIPPED / "mosquitto.conf").read_text()
        own_place = {
            "password_file /mosquitto/config/passwords\n": f"password_file {home}/passwords\n",
            "acl_file /mosquitto/config/acl\n": f"acl_file {home}/acl\n",
            "persistence_location /mosquitto/data/\n": f"persistence_location {home}/data/\n",
            "listener 1883\n": f"listener {port} 127.0.0.1\n",
        }
        for old, new in {**own_place, **changes}.items():
            text = replaced(text, old, new)
        (home / "mosquitto.conf").write_text(text)
        shutil.copy(SHIPPED / "acl", home / "acl")
        (home / "data").mkdir()
        (home / "passwords").touch(mode=0o600)
        for user, password in PASSWORDS.items():
            command = [program("mosquitto_passwd"), "-b", str(home / "passwords"), user, password]
            subprocess.run(command, check=True, timeout=DEADLINE, capture_output=True)
        if os.geteuid() == 0:
            for path in (home, *home.iterdir()):
                shutil.chown(path, "mosquitto")
        yield Broker(config=home / "mosquitto.conf", port=port)


@pytest.fixture
def broker() -> Iterator[Broker]:
    with installed({}) as broker, broker.running():
        yield broker


@pytest.mark.parametrize("user", [None, "ingestd"], ids=["without an account", "with a wrong password"])
def test_a_stranger_is_turned_away(broker: Broker, user: str | None) -> None:
    account = () if user is None else ("-u", user, "-P", "guessed")
    done = broker.client("mosquitto_sub", *account, "-t", "ingestd/health", "-E", user=None)
    assert done.returncode == 0x87, done.stderr  # MQTT 5: not authorized


@pytest.mark.parametrize(("device", "stream"), [("meter-001", "meters"), ("EV-101", "vehicles")])
def test_a_device_publishes_under_its_own_name_and_nowhere_else(broker: Broker, device: str, stream: str) -> None:
    broker.open_session(*READINGS, "ingestd/#", user="ingestd")
    other_topics = [
        "meters/other/telemetry",
        "vehicles/other/telemetry",
        f"{stream}/{device}",
        "ingestd/health",
        "ingestd/alerts/a/b",
    ]
    for topic in other_topics:
        broker.publish(topic, "forged", user=device)
    broker.publish(f"{stream}/{device}/telemetry", "own", user=device)
    # The queue is in order: what comes first shows that nothing came before it.
    received = broker.collect(*READINGS, "ingestd/#", user="ingestd", count=1)
    assert received == [f"{stream}/{device}/telemetry own"]


def test_ingestd_reads_both_streams(broker: Broker) -> None:
    broker.open_session(*READINGS, user="ingestd")
    broker.publish("meters/meter-001/telemetry", "m", user="meter-001")
    broker.publish("vehicles/EV-101/telemetry", "v", user="EV-101")
    received = broker.collect(*READINGS, user="ingestd", count=2)
    assert received == ["meters/meter-001/telemetry m", "vehicles/EV-101/telemetry v"]


def test_a_device_reads_no_readings_not_even_its_own(broker: Broker) -> None:
    broker.open_session("#", *READINGS, user="meter-001")
    broker.open_session(*READINGS, user="ingestd")
    broker.publish("meters/meter-001/telemetry", "m", user="meter-001")
    broker.publish("vehicles/EV-101/telemetry", "v", user="EV-101")
    assert len(broker.collect(*READINGS, user="ingestd", count=2)) == 2
    # What ingestd has been given would wait here too.
    assert broker.collect("#", *READINGS, user="meter-001", count=1, within=1) == []


def test_ingestd_forges_no_reading_and_has_a_corner_of_its_own(broker: Broker) -> None:
    broker.open_session(*READINGS, "ingestd/#", user="ingestd")
    broker.publish("meters/meter-001/telemetry", "forged", user="ingestd")
    broker.publish("ingestd/health", "well", user="ingestd")
    assert broker.collect(*READINGS, "ingestd/#", user="ingestd", count=1) == ["ingestd/health well"]


def test_an_alert_is_kept_for_whoever_comes_later(broker: Broker) -> None:
    topic = "ingestd/alerts/meter-silent/meter-001"
    done = broker.client("mosquitto_pub", "-t", topic, "-m", "active", "-q", "1", "-r", user="ingestd")
    assert done.returncode == 0, done.stderr
    shown = broker.client("mosquitto_sub", "-t", "ingestd/alerts/#", "-v", "-C", "1", "-W", "5", user="ingestd")
    assert shown.stdout == f"{topic} active\n"


def test_a_qos_0_reading_waits_for_an_absent_ingestd(broker: Broker) -> None:
    broker.open_session(*READINGS, user="ingestd")
    broker.publish("meters/meter-001/telemetry", "once", user="meter-001", qos=0)
    assert broker.collect(*READINGS, user="ingestd", count=1) == ["meters/meter-001/telemetry once"]


def test_more_than_the_contract_reaches_ingestd_and_more_than_the_limit_does_not(broker: Broker) -> None:
    beyond_contract, beyond_limit = "x" * 8193, "y" * 65537
    broker.open_session(*READINGS, user="ingestd")
    broker.publish("meters/meter-001/telemetry", beyond_limit, user="meter-001")
    broker.publish("meters/meter-001/telemetry", beyond_contract, user="meter-001")
    received = broker.collect(*READINGS, user="ingestd", count=1)
    assert received == [f"meters/meter-001/telemetry {beyond_contract}"]


def test_waiting_readings_outlive_a_restart_of_the_broker() -> None:
    with installed({}) as broker:
        with broker.running():
            broker.open_session(*READINGS, user="ingestd")
            broker.publish("meters/meter-001/telemetry", "before", user="meter-001")
        with broker.running():
            broker.publish("meters/meter-001/telemetry", "after", user="meter-001")
            received = broker.collect(*READINGS, user="ingestd", count=2)
    assert received == ["meters/meter-001/telemetry before", "meters/meter-001/telemetry after"]


def test_ingestd_learns_how_many_readings_a_full_queue_has_lost() -> None:
    small = {
        "max_queued_messages 15000000\n": "max_queued_messages 3\n",
        "sys_interval 10\n": "sys_interval 1\n",
    }
    with installed(small) as broker, broker.running():
        broker.open_session(*READINGS, user="ingestd")
        for number in range(5):
            broker.publish("meters/meter-001/telemetry", str(number), user="meter-001")
        deadline = time.monotonic() + DEADLINE
        count = ""
        while count != f"{DROPPED} 2":
            assert time.monotonic() < deadline, f"the last figure was {count!r}"
            # The figure is retained, so each call answers at once with the newest.
            shown = broker.client("mosquitto_sub", "-v", "-t", DROPPED, "-C", "1", "-W", "2", user="ingestd")
            count = shown.stdout.strip()
        received = broker.collect(*READINGS, user="ingestd", count=3)
        unseen = broker.client("mosquitto_sub", "-t", DROPPED, "-C", "1", "-W", "1", user="meter-001")
    assert [line.split()[-1] for line in received] == ["0", "1", "2"]
    assert unseen.stdout == ""
