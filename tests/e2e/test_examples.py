# ruff: noqa: SIM300 - expected == actual
"""The devices of `examples/`, at a broker as `ingestd broker init` sets it up: what they measured is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from ingestd.demo.process import LOOPBACK
from tests.support.daemon import Daemon
from tests.support.examples import PYTHON_DEVICE, Program, stored
from tests.support.polling import until
from tests.support.shipped_broker import PASSWORDS, ShippedBroker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

METER: Final = "meter-001"
VEHICLE: Final = "EV-101"


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


def account(broker: ShippedBroker, device: str, directory: Path) -> list[str]:
    """The options by which a device reaches the broker: TLS, its name and its password."""
    password = directory / "password"
    password.write_text(PASSWORDS[device], encoding="utf-8")
    reach = ["--host", LOOPBACK, "--port", str(broker.password_port), "--ca-file", str(broker.files.ca)]
    return ["--id", device, *reach, "--password-file", str(password)]


def assert_all_is_stored(program: Program, daemon: Daemon, database_url: str, table: str, device: str) -> None:
    """All that it has measured so far is, at last."""
    measured = program.measured
    until(lambda: measured <= set(stored(database_url, table, device)), within=90)
    assert measured
    assert 0.0 == daemon.metric("ingestd_dead_lettered_total")


def test_the_device_in_python_loses_nothing_by_an_outage_of_the_broker_and_of_itself(
    broker: ShippedBroker, daemon: Daemon, database_url: str, tmp_path: Path
) -> None:
    command = [*PYTHON_DEVICE, *account(broker, METER, tmp_path), "--interval", "0.1"]
    with Program(command, tmp_path) as device:
        until(lambda: stored(database_url, "meter_history", METER), within=60)
        broker.stop()
        device.measures(10)
        device.kill()
        device.start()
        device.measures(10)
        broker.start()
        device.measures(10)
        assert 0 == device.terminate()
        # What it measured last may wait on its disk; the next start sends it.
        device.start()
        device.measures(3)
        assert_all_is_stored(device, daemon, database_url, "meter_history", METER)


def test_the_device_in_python_is_a_vehicle_too(
    broker: ShippedBroker, daemon: Daemon, database_url: str, tmp_path: Path
) -> None:
    command = [*PYTHON_DEVICE, "--kind", "vehicle", *account(broker, VEHICLE, tmp_path), "--interval", "0.1"]
    with Program(command, tmp_path) as device:
        device.measures(3)
        assert_all_is_stored(device, daemon, database_url, "vehicle_history", VEHICLE)
