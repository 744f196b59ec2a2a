# ruff: noqa: SIM300 - expected == actual
"""Odd files and odd environments that settings come from: each is one clear line, or does no harm."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ingestd import sources
from ingestd.config import Settings, load
from ingestd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BOM = b"\xef\xbb\xbf"
KUBERNETES = {
    "INGESTD_SERVICE_HOST": "10.0.0.1",
    "INGESTD_SERVICE_PORT": "8080",
    "INGESTD_SERVICE_PORT_HTTP": "8080",
    "INGESTD_PORT": "tcp://10.0.0.1:8080",
    "INGESTD_PORT_8080_TCP": "tcp://10.0.0.1:8080",
    "INGESTD_PORT_8080_TCP_PROTO": "tcp",
    "INGESTD_PORT_8080_TCP_PORT": "8080",
    "INGESTD_PORT_8080_TCP_ADDR": "10.0.0.1",
    "INGESTD_HTTP_SERVICE_HOST": "10.0.0.2",
    "INGESTD_HTTP_PORT": "tcp://10.0.0.2:8080",
    "INGESTD_HTTP_PORT_53_UDP_ADDR": "10.0.0.2",
    "INGESTD_MQTT_PORT": "tcp://10.0.0.3:1883",
    "INGESTD_MY_OWN_PORT": "sctp://[fd00::1]:7",
}
"""What a pod gets for services called ingestd, ingestd-http, ingestd-mqtt and ingestd-my-own."""


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory, so that no .env but the test's own is read. What is written there is private."""
    monkeypatch.chdir(tmp_path)
    before = os.umask(0o077)
    yield tmp_path
    os.umask(before)


def password(settings: Settings) -> str | None:
    return settings.mqtt_password.get_secret_value() if settings.mqtt_password is not None else None


def refusal(**variables: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(environment={f"INGESTD_{name.upper()}": value for name, value in variables.items()})
    return one_line(caught.value)


def one_line(error: ConfigError) -> str:
    message = str(error)
    assert message.isprintable()
    assert len(message) < 300
    return message


# Files ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    ["'a${HOME}b'", '"a${HOME}b"', "a${HOME}b"],
    ids=["single quotes", "double quotes", "no quotes"],
)
def test_a_dollar_in_env_file_stands_for_itself(directory: Path, value: str) -> None:
    (directory / ".env").write_text(f"INGESTD_MQTT_PASSWORD={value}\n")

    assert "a${HOME}b" == password(load(environment={"HOME": "/root"}))


def test_a_byte_order_mark_is_no_part_of_a_file(directory: Path) -> None:
    (directory / ".env").write_bytes(BOM + b"INGESTD_HTTP_PORT=81\n")
    (directory / "password").write_bytes(BOM + b"secret\n")
    (directory / "settings.toml").write_bytes(BOM + b'http_host = "::1"\n')

    settings = load(directory / "settings.toml", environment={"INGESTD_MQTT_PASSWORD_FILE": "password"})

    assert (81, "secret", "::1") == (settings.http_port, password(settings), settings.http_host)


@pytest.mark.parametrize("content", [b"INGESTD_HTTP_HOST=\xff\n", "INGESTD_HTTP_PORT=81\n".encode("utf-16")])
def test_an_env_file_that_is_no_utf_8_is_named(directory: Path, content: bytes) -> None:
    (directory / ".env").write_bytes(content)

    assert ".env: no UTF-8 text" == refusal()


def test_an_env_file_that_is_a_directory_is_named(directory: Path) -> None:
    (directory / ".env").mkdir()

    assert ".env: Is a directory" == refusal()


def test_an_env_file_that_cannot_be_read_is_named(directory: Path) -> None:
    (directory / ".env").symlink_to(".env")

    assert refusal().startswith(".env: ")


@pytest.mark.parametrize("line", ['INGESTD_MQTT_PASSWORD="secret', "INGESTD_HTTP_PORT 81", "INGESTD_HTTP_PORT: 81"])
def test_a_line_of_env_file_that_is_no_setting_is_an_error_that_shows_nothing(directory: Path, line: str) -> None:
    (directory / ".env").write_text(f"# a comment\n\nOTHER=1\n{line}\n")

    assert ".env: line 4 is not NAME=value" == refusal()


def test_lines_of_other_programs_in_env_file_are_left_alone(directory: Path) -> None:
    (directory / ".env").write_text("what is this?\nOTHER\nINGESTD_HTTP_PORT=81\n")

    assert 81 == load(environment={}).http_port


def test_a_file_of_a_value_that_is_a_directory_is_named() -> None:
    assert "INGESTD_MQTT_PASSWORD_FILE: Is a directory: ." == refusal(mqtt_password_file=".")  # noqa: S106


# Values --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mqtt_url", "mqtt_username", "mqtt_password", "mqtt_client_id", "mqtt_ca_file"])
def test_a_nul_in_a_value_is_refused(directory: Path, name: str) -> None:
    (directory / "settings.toml").write_text(f'{name} = "a\\u0000b"')

    with pytest.raises(ConfigError) as caught:
        load(directory / "settings.toml", environment={})

    assert one_line(caught.value).startswith(f"INGESTD_{name.upper()}: must not contain a NUL")


def test_a_nul_in_the_name_of_a_file_is_refused() -> None:
    assert "INGESTD_MQTT_PASSWORD_FILE: must not contain a NUL character" == refusal(mqtt_password_file="a\0b")  # noqa: S106


@pytest.mark.parametrize("client_id", ["a#", "+", "a/+/b"])
def test_a_client_id_with_a_wildcard_is_refused(client_id: str) -> None:
    assert "INGESTD_MQTT_CLIENT_ID: must not contain # or +" in refusal(mqtt_client_id=client_id)


@pytest.mark.parametrize("name", ["mqtt_username", "mqtt_password"])
@pytest.mark.parametrize("too_long", ["x" * 65_536, "\N{EURO SIGN}" * 21_846])
def test_what_mqtt_cannot_carry_is_refused(name: str, too_long: str) -> None:
    assert f"INGESTD_{name.upper()}: MQTT takes at most 65535 bytes, it is" in refusal(**{name: too_long})


def test_the_longest_that_mqtt_can_carry_is_taken() -> None:
    assert "x" * 65_535 == password(load(environment={"INGESTD_MQTT_PASSWORD": "x" * 65_535}))


@pytest.mark.parametrize("name", ["mqtt_username", "mqtt_password", "database_url", "http_host"])
def test_bytes_that_are_no_text_are_refused(name: str) -> None:
    assert refusal(**{name: "\udcff"}).startswith(f"INGESTD_{name.upper()}: must be UTF-8 text")


# Kubernetes ----------------------------------------------------------------------------------------------------------


def test_what_kubernetes_injects_is_no_setting() -> None:
    assert Settings() == load(environment=KUBERNETES)
    assert sorted(KUBERNETES) == sources.injected(KUBERNETES)


def test_a_setting_is_not_taken_for_what_kubernetes_injects() -> None:
    environment = {"INGESTD_HTTP_PORT": "81", "INGESTD_MQTT_URL": "mqtt://tcp:1883", "INGESTD_HTTP_HOST": "tcp"}

    assert [] == sources.injected(environment)


@pytest.mark.parametrize("name", ["port", "service", "service_hosts", "port_8080", "http_ports"])
def test_what_only_resembles_it_is_still_an_error(name: str) -> None:
    assert f"INGESTD_{name.upper()}: no such setting" == refusal(**{name: "8080"})


def test_env_file_holds_where_kubernetes_injects_the_same_name(directory: Path) -> None:
    (directory / ".env").write_text("INGESTD_HTTP_PORT=81\n")

    assert 81 == load(environment=KUBERNETES).http_port
