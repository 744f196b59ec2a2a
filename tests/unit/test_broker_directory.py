# ruff: noqa: SIM300 - expected == actual
"""The files of the broker: who may read them, what a second `broker init` leaves alone, which names are refused."""

from __future__ import annotations

import base64
import hashlib
import re
import stat
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from cryptography import x509

from ingestd.broker import passwords
from ingestd.broker.directory import BrokerDirectory
from ingestd.cli import commands
from ingestd.errors import IngestdError

if TYPE_CHECKING:
    from pathlib import Path

LONG = "sixteen letters and more"


@pytest.fixture
def files(tmp_path: Path) -> BrokerDirectory:
    made = BrokerDirectory(tmp_path / "broker")
    made.set_up(("broker.example", "192.0.2.1"), internal="127.0.0.1", password=None)
    return made


@pytest.fixture(autouse=True)
def no_settings_of_the_developer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def invoke(files: BrokerDirectory, *arguments: str, given: str | None = None) -> Result:
    return CliRunner().invoke(commands, ["broker", *arguments, "--dir", str(files.path)], input=given)


def contents(files: BrokerDirectory) -> dict[str, bytes]:
    return {str(path.relative_to(files.path)): path.read_bytes() for path in files.path.rglob("*") if path.is_file()}


def test_a_password_is_stored_as_mosquitto_checks_it() -> None:
    _, kind, iterations, salt, key = passwords.hashed("secret").split("$")

    derived = hashlib.pbkdf2_hmac("sha512", b"secret", base64.b64decode(salt), int(iterations))
    assert ("7", base64.b64encode(derived).decode()) == (kind, key)
    assert passwords.hashed("secret") != passwords.hashed("secret"), "the salt is another one each time"


def test_only_the_owner_reads_the_files_and_no_password_is_in_them(files: BrokerDirectory) -> None:
    files.add_with_password("meter-001", LONG)
    files.add_with_certificate("meter-001")

    public = {path.name for path in files.path.rglob("*") if path.stat().st_mode & 0o077}
    assert {"ca.crt"} == public, "everybody may know the certificate of the authority"
    assert 0o700 == stat.S_IMODE(files.path.stat().st_mode)
    assert [] == [name for name, content in contents(files).items() if LONG.encode() in content]


def test_what_is_there_stays_but_for_the_certificate_of_the_broker(files: BrokerDirectory) -> None:
    files.add_with_password("meter-001", LONG)
    before = contents(files)

    files.set_up(("other.example",), internal="127.0.0.1", password=None)

    after = contents(files)
    assert {"server.crt", "server.key"} == {name for name, content in after.items() if before[name] != content}
    names = x509.load_pem_x509_certificate(after["server.crt"]).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert ["other.example"] == names.value.get_values_for_type(x509.DNSName)


def test_a_configuration_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mosquitto.conf").write_text("allow_anonymous true\n")

    with pytest.raises(IngestdError, match=r"mosquitto\.conf is there, and not from here"):
        BrokerDirectory(tmp_path).set_up(("localhost",), internal="127.0.0.1", password=None)
    assert ["mosquitto.conf"] == [path.name for path in tmp_path.iterdir()]


def test_the_internal_listener_is_where_it_is_asked_for(tmp_path: Path) -> None:
    files = BrokerDirectory(tmp_path / "broker")
    files.set_up(("localhost",), internal="0.0.0.0", password="given by us")  # noqa: S104, S106 - in a container

    text = files.config.read_text()
    assert ["1883 0.0.0.0", "8883", "8884"] == re.findall(r"^listener (.*)$", text, re.MULTILINE)
    assert "/mosquitto/ingestd" not in text
    assert not files.password_of_ingestd.exists()


@pytest.mark.parametrize(
    "identity",
    ["ingestd", "Ingestd", "ingestd-check", "ingestd-1", "health", "prod", "prod-2", "", "a/b", "+", "#", "a b", "%u"],
)
def test_no_device_has_a_reserved_name_or_one_that_is_no_identity(files: BrokerDirectory, identity: str) -> None:
    own = BrokerDirectory(files.path, client_id="prod")

    with pytest.raises(IngestdError, match=r"reserved|no identity"):
        own.add_with_password(identity, LONG)
    with pytest.raises(IngestdError, match=r"reserved|no identity"):
        own.add_with_certificate(identity)


def test_a_name_that_would_end_early_in_a_password_file_needs_a_certificate(files: BrokerDirectory) -> None:
    with pytest.raises(IngestdError, match="use --certificate"):
        files.add_with_password("meter-001:x", LONG)
    assert files.add_with_certificate("meter-001:x")[0].exists()


@pytest.mark.parametrize("password", ["", "short", "sixteen letters\nand a line"])
def test_a_password_that_is_short_or_has_lines_is_refused(files: BrokerDirectory, password: str) -> None:
    with pytest.raises(IngestdError, match="16 characters or more"):
        files.add_with_password("meter-001", password)


def test_a_device_has_one_certificate_and_it_is_revoked_with_the_device(files: BrokerDirectory) -> None:
    certificate, key = files.add_with_certificate("meter-001")
    serial = x509.load_pem_x509_certificate(certificate.read_bytes()).serial_number
    with pytest.raises(IngestdError, match="remove the device first"):
        files.add_with_certificate("meter-001")

    files.remove("meter-001")

    revoked = x509.load_pem_x509_crl((files.path / "revoked.crl").read_bytes())
    assert revoked.get_revoked_certificate_by_serial_number(serial) is not None
    assert (False, False) == (certificate.exists(), key.exists())
    with pytest.raises(IngestdError, match="has no account"):
        files.remove("meter-001")
    with pytest.raises(IngestdError, match="has no account"):
        files.remove("../ca")


def test_init_prints_settings_and_no_password(tmp_path: Path) -> None:
    files = BrokerDirectory(tmp_path / "broker")

    result = invoke(files, "init", "--host", "localhost")

    assert 0 == result.exit_code, result.output
    assert "INGESTD_MQTT_URL=mqtt://127.0.0.1:1883\nINGESTD_MQTT_USERNAME=ingestd\n" in result.output
    assert f"INGESTD_MQTT_PASSWORD_FILE={files.password_of_ingestd}\n" in result.output
    assert files.password_of_ingestd.read_text() not in result.output
    assert 2 == invoke(files, "init", "--host", "localhost", "--internal", "nowhere").exit_code


def test_generated_passwords_are_printed_once_and_given_ones_never(files: BrokerDirectory) -> None:
    made = invoke(files, "add-device", "meter-001", "EV-101")
    given = invoke(files, "add-device", "meter-002", "--password-stdin", given=f"{LONG}\n")

    assert 0 == given.exit_code, given.exception
    shown = dict(re.findall(r"^(meter-001|EV-101) (\S{32})$", made.output, re.MULTILINE))
    assert {"meter-001", "EV-101"} == shown.keys()
    assert {"meter-001", "EV-101", "meter-002"} == passwords.read(files.path / "devices").keys()
    assert LONG not in given.output
    assert isinstance(invoke(files, "add-device", "a", "b", "--password-stdin", given=LONG).exception, IngestdError)
    assert 2 == invoke(files, "add-device", "a", "--password-stdin", "--certificate").exit_code


def test_certificates_are_handed_out_as_files(files: BrokerDirectory) -> None:
    result = invoke(files, "add-device", "meter-001", "--certificate")

    assert f"meter-001 {files.handed_out}/meter-001.crt {files.handed_out}/meter-001.key\n" == result.output
    assert 0 == invoke(files, "remove-device", "meter-001").exit_code


def test_a_directory_that_is_not_set_up_says_how_to(tmp_path: Path) -> None:
    nowhere = BrokerDirectory(tmp_path / "nowhere")

    with pytest.raises(IngestdError, match="ingestd broker init"):
        nowhere.add_with_password("meter-001", LONG)
    (tmp_path / "nowhere").mkdir()
    with pytest.raises(IngestdError, match="No such file or directory"):
        nowhere.add_with_password("meter-001", LONG)


def test_a_publisher_has_an_account_of_the_internal_listener_only(files: BrokerDirectory) -> None:
    made = invoke(files, "add-publisher", "simulator", "--password-stdin", given=f"{LONG}\n")
    again = invoke(files, "add-publisher", "simulator")

    assert (0, "") == (made.exit_code, made.stdout)
    assert re.fullmatch("simulator [A-Za-z0-9_-]{32}\n", again.stdout)
    assert {"ingestd", "health", "simulator"} == passwords.read(files.path / "accounts").keys()
    assert {} == passwords.read(files.path / "devices")
    rules = (files.path / "acl-internal").read_text(encoding="utf-8")
    assert rules.endswith("\nuser simulator\ntopic write meters/+/telemetry\ntopic write vehicles/+/telemetry\n")
    assert 1 == rules.count("user simulator"), "the rules are added once"


def test_a_publisher_is_taken_away_like_a_device(files: BrokerDirectory) -> None:
    files.add_publisher("simulator", LONG)

    assert 0 == invoke(files, "remove-device", "simulator").exit_code
    assert {"ingestd", "health"} == passwords.read(files.path / "accounts").keys()


@pytest.mark.parametrize("name", ["ingestd", "health"])
def test_the_accounts_of_ingestd_itself_stay(files: BrokerDirectory, name: str) -> None:
    with pytest.raises(IngestdError, match="ingestd needs"):
        files.remove(name)
    with pytest.raises(IngestdError, match="reserved"):
        files.add_publisher(name, LONG)


def test_a_short_password_of_a_publisher_is_refused(files: BrokerDirectory) -> None:
    assert 1 == invoke(files, "add-publisher", "simulator", "--password-stdin", given="short\n").exit_code
