# ruff: noqa: SIM300 - expected == actual
"""The devices of `examples/`, at a broker as `ingestd broker init` sets it up: what they measured is stored.

Telegraf and Home Assistant are not run: their templates are filled in here.
"""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pytest
from jinja2 import Environment

from ingestd.demo.process import LOOPBACK
from ingestd.model.dead_letter import DeadLetter
from ingestd.model.decode import decode
from tests.support.daemon import Daemon
from tests.support.examples import (
    DECLARATIONS,
    ESP32,
    EXAMPLES,
    PYTHON_DEVICE,
    STRICT,
    Program,
    compiles,
    filled_in,
    stored,
)
from tests.support.polling import until
from tests.support.shipped_broker import PASSWORDS, WITH_CERTIFICATE, ShippedBroker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

METER: Final = "meter-001"
VEHICLE: Final = "EV-101"


@pytest.fixture
def broker() -> Iterator[ShippedBroker]:
    with ShippedBroker() as broker:
        yield broker


def daemon_at(broker: ShippedBroker, database_url: str) -> Daemon:
    return Daemon(
        mqtt_url=broker.internal_url,
        mqtt_username="ingestd",
        mqtt_password=PASSWORDS["ingestd"],
        database_url=database_url,
        flush_interval=0.1,
    )


@pytest.fixture
def daemon(broker: ShippedBroker, database_url: str) -> Iterator[Daemon]:
    with daemon_at(broker, database_url) as daemon:
        daemon.wait_healthy()
        yield daemon


@pytest.fixture
def program_in_c(tmp_path: Path) -> Path:
    """The device in C, compiled as its README says."""
    if not compiles("#include <mosquitto.h>"):
        pytest.skip("no gcc with libmosquitto (apt install gcc libc6-dev libmosquitto-dev)")
    (shown,) = re.findall(r"^gcc .*$", (ESP32 / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    compiler, *options, output = shown.split()
    assert "device" == output
    program = tmp_path / "device"
    stricter = ["-Werror", "-O2", "-DRETRY_SECONDS=1"]
    subprocess.run([compiler, *stricter, *options, str(program)], cwd=ESP32, check=True, timeout=60)
    return program


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


def test_the_device_in_python_can_have_a_certificate(
    broker: ShippedBroker, daemon: Daemon, database_url: str, tmp_path: Path
) -> None:
    files = broker.files.handed_out / f"{WITH_CERTIFICATE}.crt", broker.files.handed_out / f"{WITH_CERTIFICATE}.key"
    command = [*PYTHON_DEVICE, "--id", WITH_CERTIFICATE, "--host", LOOPBACK, "--port", str(broker.certificate_port)]
    command += ["--ca-file", str(broker.files.ca), "--certificate-file", str(files[0]), "--key-file", str(files[1])]
    with Program([*command, "--interval", "0.1"], tmp_path) as device:
        device.measures(3)
        assert_all_is_stored(device, daemon, database_url, "meter_history", WITH_CERTIFICATE)


def test_the_options_that_are_shown_are_those_of_the_device_in_python() -> None:
    page = (EXAMPLES / "python" / "README.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"--[a-z-]+", page)) - {"--help"}
    known = subprocess.run([*PYTHON_DEVICE, "--help"], capture_output=True, text=True, check=True, timeout=60).stdout

    assert shown
    assert set() == {option for option in shown if f"{option} " not in known}


def test_the_device_in_python_is_a_vehicle_too(
    broker: ShippedBroker, daemon: Daemon, database_url: str, tmp_path: Path
) -> None:
    command = [*PYTHON_DEVICE, "--kind", "vehicle", *account(broker, VEHICLE, tmp_path), "--interval", "0.1"]
    with Program(command, tmp_path) as device:
        device.measures(3)
        assert_all_is_stored(device, daemon, database_url, "vehicle_history", VEHICLE)


def test_two_devices_in_one_directory_send_their_own_readings(
    broker: ShippedBroker, daemon: Daemon, database_url: str, tmp_path: Path
) -> None:
    """Their files have their names, so neither sends what the other one has kept."""
    meter = [*PYTHON_DEVICE, *account(broker, METER, tmp_path), "--interval", "0.1"]
    broker.stop()
    with Program(meter, tmp_path) as device:
        device.measures(5)
        of_meter = device.measured
    broker.start()
    (tmp_path / "of-vehicle").mkdir()
    vehicle = [*PYTHON_DEVICE, "--kind", "vehicle", *account(broker, VEHICLE, tmp_path / "of-vehicle")]
    with Program([*vehicle, "--interval", "0.1"], tmp_path) as device:
        device.measures(5)
        of_vehicle = device.measured - of_meter
        until(lambda: of_vehicle <= set(stored(database_url, "vehicle_history", VEHICLE)), within=60)
    with Program(meter, tmp_path) as device:
        until(lambda: of_meter <= set(stored(database_url, "meter_history", METER)), within=60)
    assert 0.0 == daemon.metric("ingestd_dead_lettered_total")


def refused(*options: str, directory: Path) -> str:
    """What the device in Python prints when it does not start."""
    ended = subprocess.run(
        [*PYTHON_DEVICE, *options], cwd=directory, capture_output=True, text=True, check=False, timeout=60
    )
    assert 1 == ended.returncode, ended
    assert "" == ended.stdout
    return ended.stderr


def test_the_device_in_python_refuses_the_file_of_another_device(tmp_path: Path) -> None:
    nowhere = ["--host", LOOPBACK, "--port", "1", "--interval", "0.1", "--store", "kept.db"]
    with Program([*PYTHON_DEVICE, "--id", METER, *nowhere], tmp_path) as device:
        device.measures(1)

    assert "kept.db has the readings of meters/meter-001/telemetry: give --store another file\n" == refused(
        "--id", "meter-002", *nowhere, directory=tmp_path
    )
    assert "kept.db has the readings of meters/meter-001/telemetry: give --store another file\n" == refused(
        "--kind", "vehicle", "--id", METER, *nowhere, directory=tmp_path
    )


def test_the_device_in_python_runs_once(tmp_path: Path) -> None:
    """A second process would send the same readings, and take the first one's connection."""
    command = ["--id", METER, "--host", LOOPBACK, "--port", "1", "--interval", "0.1"]
    with Program([*PYTHON_DEVICE, *command], tmp_path) as device:
        device.measures(1)
        assert "meter-meter-001.db is in use: this device runs already\n" == refused(*command, directory=tmp_path)


def test_the_device_in_python_says_that_its_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "kept.db").write_text("something else\n" * 100, encoding="utf-8")

    assert "kept.db cannot be used: file is not a database\n" == refused(
        "--id", METER, "--store", "kept.db", directory=tmp_path
    )


@pytest.mark.usefixtures("daemon")
def test_the_device_in_python_measures_at_once_and_says_how_it_is_connected(
    broker: ShippedBroker, database_url: str, tmp_path: Path
) -> None:
    with Program([*PYTHON_DEVICE, *account(broker, METER, tmp_path), "--interval", "3600"], tmp_path) as device:
        until(lambda: device.measured, within=60)
        until(lambda: device.measured == set(stored(database_url, "meter_history", METER)), within=60)
        assert f"connected to {LOOPBACK}:{broker.password_port}\n" == device.errors


def test_the_device_in_python_says_in_one_line_why_it_is_not_connected(broker: ShippedBroker, tmp_path: Path) -> None:
    command = [*PYTHON_DEVICE, *account(broker, METER, tmp_path), "--interval", "3600"]
    (tmp_path / "password").write_text("wrong", encoding="utf-8")
    with Program(command, tmp_path) as device:
        until(lambda: device.errors.endswith("\n"), within=60)
        assert "not connected: Not authorized; it tries again" == device.errors.splitlines()[0]
        # Again a second later: still a line each time.
        until(lambda: len(device.errors.splitlines()) > 1, within=60)
        assert {"not connected: Not authorized; it tries again"} == set(device.errors.splitlines())
    broker.stop()
    with Program(command, tmp_path) as device:
        until(lambda: "Connection refused" in device.errors, within=60)
        assert "not connected: Connection refused; it tries again" == device.errors.splitlines()[-1]


def in_c(program: Path, broker: ShippedBroker, directory: Path) -> list[str]:
    password = directory / "password"
    password.write_text(f"{PASSWORDS[METER]}\n", encoding="utf-8")
    where = [LOOPBACK, str(broker.password_port), METER, str(password), str(broker.files.ca)]
    return [str(program), *where, "0.1"]


def test_the_device_in_c_loses_nothing_by_an_outage_of_the_broker(
    program_in_c: Path, broker: ShippedBroker, daemon: Daemon, database_url: str, tmp_path: Path
) -> None:
    with Program(in_c(program_in_c, broker, tmp_path), tmp_path) as device:
        until(lambda: stored(database_url, "meter_history", METER), within=60)
        broker.stop()
        device.measures(30)  # more than may be under way
        broker.start()
        device.measures(10)
        assert_all_is_stored(device, daemon, database_url, "meter_history", METER)


@pytest.mark.parametrize("language", ["python", "c"])
def test_a_device_keeps_what_nobody_is_subscribed_to(
    language: str, request: pytest.FixtureRequest, broker: ShippedBroker, database_url: str, tmp_path: Path
) -> None:
    """The broker takes such a message, and keeps nothing of it."""
    if language == "c":
        command = in_c(request.getfixturevalue("program_in_c"), broker, tmp_path)
    else:
        command = [*PYTHON_DEVICE, *account(broker, METER, tmp_path), "--interval", "0.1", "--retry", "1"]
    with Program(command, tmp_path) as device:
        until(lambda: "not sent" in device.errors, within=60)
        device.measures(5)
        with daemon_at(broker, database_url) as daemon:
            daemon.wait_healthy()
            assert_all_is_stored(device, daemon, database_url, "meter_history", METER)


@pytest.mark.skipif(not compiles("#include <stdio.h>"), reason="no gcc (apt install gcc libc6-dev)")
def test_the_device_for_esp_idf_has_the_types_of_what_it_calls() -> None:
    main = [str(ESP32 / "main" / "main.c"), str(ESP32 / "main" / "readings.c")]
    subprocess.run([*STRICT, "-std=gnu17", "-fsyntax-only", "-I", str(DECLARATIONS), *main], check=True, timeout=60)


def is_reading(topic: str, payload: str) -> dict[str, Any]:
    """The payload, which the decoder takes."""
    now = int((datetime.now(UTC) - datetime(2000, 1, 1, tzinfo=UTC)).total_seconds() * 1e6)
    decoded = decode(topic, payload.encode(), oldest=0, newest=now + 1_000_000, received_at=now)
    assert not isinstance(decoded, DeadLetter), decoded
    read: dict[str, Any] = json.loads(payload)
    return read


def test_what_telegraf_publishes_is_a_reading() -> None:
    configuration = tomllib.loads((EXAMPLES / "telegraf" / "telegraf.conf").read_text(encoding="utf-8"))
    (output,) = configuration["outputs"]["mqtt"]
    (modbus,) = configuration["inputs"]["modbus"]
    (metric,) = modbus["metric"]
    tags = metric["tags"]
    fields = {field["name"]: 230.5 for field in metric["fields"]}

    topic, payload = (
        filled_in(output[key], tags=tags, fields=fields, time="2026-11-20T10:30:00.000Z")
        for key in ("topic", "template")
    )

    assert (1, "template", "non-batch") == (output["qos"], output["data_format"], output["layout"])
    assert tags["meter"] == output["username"] == output["tagpass"]["meter"][0]
    assert {
        "meterId": "meter-001",
        "kwhConsumedAcRegister": 230.5,
        "voltage": 230.5,
        "timestamp": "2026-11-20T10:30:00.000Z",
    } == is_reading(topic, payload)


def automations() -> list[dict[str, str]]:
    """Topic, QoS, condition and payload of each; they are the folded texts and plain values of the file."""
    text = (EXAMPLES / "home-assistant" / "automations.yaml").read_text(encoding="utf-8")
    wanted = {"topic": r"topic: (.*)", "qos": r"qos: (.*)"}
    wanted |= {key: rf"{key}: >-\n((?:  +.*\n)+?)(?=  actions|\n|\Z)" for key in ("value_template", "payload")}
    return [{key: one_match(pattern, part) for key, pattern in wanted.items()} for part in text.split("- id: ")[1:]]


def one_match(pattern: str, text: str) -> str:
    (found,) = re.findall(pattern, text)
    return str(found)


def rendered(template: str, states: dict[str, str]) -> str:
    """As Home Assistant does: Jinja, with functions of its own."""
    environment = Environment(autoescape=False)  # noqa: S701 - JSON, not HTML
    environment.filters["to_json"] = json.dumps
    environment.globals |= {
        "states": states.__getitem__,
        "is_number": lambda text: text.replace(".", "", 1).isdigit(),
        "utcnow": lambda: datetime.now(UTC),
    }
    return environment.from_string(template).render().strip()


def test_what_home_assistant_publishes_is_a_reading() -> None:
    names = ("home_energy", "home_voltage", "car_charged_energy", "car_battery", "car_battery_temperature")
    states = {f"sensor.{name}": "50.5" for name in names}
    meter, vehicle = automations()

    assert [("1", "True"), ("1", "True")] == [
        (one["qos"], rendered(one["value_template"], states)) for one in (meter, vehicle)
    ]
    reading = is_reading(meter["topic"], rendered(meter["payload"], states))
    assert ("home", 50.5, 50.5) == (reading["meterId"], reading["kwhConsumedAcRegister"], reading["voltage"])
    reading = is_reading(vehicle["topic"], rendered(vehicle["payload"], states))
    assert ("car", 50.5, 50.5, 50.5) == tuple(
        reading[key] for key in ("vehicleId", "soc", "kwhDeliveredDcRegister", "batteryTemp")
    )


def test_home_assistant_publishes_nothing_while_a_sensor_is_unavailable() -> None:
    meter, _ = automations()

    assert "False" == rendered(
        meter["value_template"], {"sensor.home_energy": "unavailable", "sensor.home_voltage": "230"}
    )


def test_the_account_of_home_assistant_publishes_as_several_devices(broker: ShippedBroker) -> None:
    page = (EXAMPLES / "home-assistant" / "README.md").read_text(encoding="utf-8")
    lines = page.partition("```text\n")[2].partition("```")[0]
    rules = broker.files.path / "acl-devices"
    with rules.open("a", encoding="utf-8") as file:
        file.write(f"\n{lines}")
    broker.files.add_with_password("home-assistant", PASSWORDS[METER])
    broker.reload()

    with broker.device("home-assistant", password=PASSWORDS[METER]) as device:
        assert 0x10 == device.publish("meters/home/telemetry", b"{}"), "taken, and nobody is subscribed"
        assert 0x10 == device.publish("vehicles/car/telemetry", b"{}")
        assert 0x80 <= device.publish("meters/meter-001/telemetry", b"{}")


def test_the_device_in_c_does_not_print_the_password_that_was_given_for_its_file(
    program_in_c: Path, tmp_path: Path
) -> None:
    command = [str(program_in_c), LOOPBACK, "1", METER, "secret-of-it", "ca.crt", "60"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)

    assert (1, "PASSWORD_FILE: No such file or directory\n") == (ended.returncode, ended.stderr)
