# ruff: noqa: SIM300 - expected == actual
"""The profile `simulator` of Docker Compose, at a broker as `ingestd broker init` sets it up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support import compose
from tests.support.commands import finished
from tests.support.daemon import ROOT, Daemon
from tests.support.polling import until
from tests.support.shipped_broker import PASSWORDS, ShippedBroker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASSWORD = "0123456789abcdef"  # noqa: S105
SERVICE = "simulator"


@pytest.fixture
def broker() -> Iterator[ShippedBroker]:
    with ShippedBroker() as broker:
        broker.files.add_publisher(SERVICE, PASSWORD)
        broker.reload()
        yield broker


def settings(broker: ShippedBroker, directory: Path) -> dict[str, str]:
    """Those of the service, with the address and the secret of the test."""
    password = directory / "simulator_password"
    password.write_text(f"{PASSWORD}\n", encoding="utf-8")
    password.chmod(0o600)
    given = compose.environment(SERVICE)
    assert "mqtt://mosquitto:1883" == given.pop("INGESTD_MQTT_URL")
    assert f"/run/secrets/{password.name}" == given.pop("INGESTD_MQTT_PASSWORD_FILE")
    return given | {"INGESTD_MQTT_URL": broker.internal_url, "INGESTD_MQTT_PASSWORD_FILE": str(password)}


def test_the_simulator_of_compose_publishes_into_the_system(
    broker: ShippedBroker, database_url: str, tmp_path: Path
) -> None:
    words = compose.values(SERVICE)["command"].strip("[]").replace('"', "").split(", ")
    assert ["simulate", "--meters", "20", "--vehicles", "20"] == words
    with Daemon(
        mqtt_url=broker.internal_url,
        mqtt_username="ingestd",
        mqtt_password=PASSWORDS["ingestd"],
        database_url=database_url,
        flush_interval=0.1,
    ) as daemon:
        daemon.wait_healthy()
        with subprocess.Popen(
            [sys.executable, "-m", "ingestd", *words, "--interval", "0.2"],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **settings(broker, tmp_path)},
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
        ) as simulator:
            try:
                until(lambda: daemon.metric("ingestd_committed_total", stream="meter") >= 20, within=60)
                until(lambda: daemon.metric("ingestd_committed_total", stream="vehicle") >= 20, within=60)
                assert 20 == len(daemon.request("GET", "/v1/vehicles").json()["vehicles"])
                broker.stop()
                assert 1 == simulator.wait(60), "Docker starts it again"
            finally:
                simulator.send_signal(signal.SIGKILL)


def test_the_listeners_for_devices_do_not_know_the_account(broker: ShippedBroker) -> None:
    with pytest.raises(ConnectionRefusedError), broker.device(SERVICE, password=PASSWORD):
        pass


def test_without_the_account_the_simulator_says_so(broker: ShippedBroker, tmp_path: Path) -> None:
    other = {"mqtt_url": broker.internal_url, "mqtt_username": "ingestd", "mqtt_password": PASSWORDS["ingestd"]}
    done = finished(tmp_path, "simulate", "--interval", "0.1", **other)

    assert 1 == done.returncode
    assert "the broker refused" in done.stderr
