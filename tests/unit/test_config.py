# ruff: noqa: SIM300 - expected == actual
"""Settings: which source wins, what is refused, and that no secret is ever shown."""

from __future__ import annotations

import os
import ssl
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.config import Settings, load
from ingestd.database_url import mask
from ingestd.errors import ConfigError
from ingestd.setting_types import format_duration, parse_duration
from ingestd.sources import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import SecretStr

SECRET = "hunter2"  # noqa: S105 - what must never be shown


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory, so that no .env but the test's own is read. What is written there is private."""
    monkeypatch.chdir(tmp_path)
    before = os.umask(0o077)
    yield tmp_path
    os.umask(before)


def given_as(**variables: str) -> Settings:
    """The settings of an environment of these variables, named without the prefix."""
    return load(environment={f"{PREFIX}{name.upper()}": value for name, value in variables.items()})


def refusal_of(**variables: str) -> str:
    with pytest.raises(ConfigError) as caught:
        given_as(**variables)
    return str(caught.value)


def revealed(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret is not None else None


# Sources ---------------------------------------------------------------------------------------------------------


def test_the_defaults_are_complete() -> None:
    assert Settings() == load(environment={})


def test_the_environment_wins_over_env_file_over_toml_over_default(directory: Path) -> None:
    toml = directory / "ingestd.toml"
    toml.write_text('http_host = "toml"\nmqtt_client_id = "toml"\nmqtt_username = "toml"\n')
    (directory / ".env").write_text("INGESTD_MQTT_CLIENT_ID=dotenv\nINGESTD_MQTT_USERNAME=dotenv\n")

    settings = load(toml, environment={"INGESTD_MQTT_USERNAME": "environment"})

    assert ("environment", "dotenv", "toml", 8080) == (
        settings.mqtt_username,
        settings.mqtt_client_id,
        settings.http_host,
        settings.http_port,
    )


def test_without_an_argument_the_process_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGESTD_HTTP_PORT", "9000")

    assert 9000 == load().http_port


def test_toml_values_may_have_toml_types(directory: Path) -> None:
    toml = directory / "ingestd.toml"
    toml.write_text('http_port = 9000\nflush_interval = 0.5\nmax_age = "30d"\nefficiency_threshold = 1\n')

    settings = load(toml, environment={})

    assert (9000, timedelta(seconds=0.5), timedelta(days=30), 1.0) == (
        settings.http_port,
        settings.flush_interval,
        settings.max_age,
        settings.efficiency_threshold,
    )


def test_names_are_divided_by_commas_or_a_list_of_toml(directory: Path) -> None:
    toml = directory / "ingestd.toml"
    toml.write_text('http_hosts = ["a.example", "fd00::1"]\n')

    assert ("a.example", "fd00::1") == load(toml, environment={}).http_hosts
    assert ("a.example", "b") == given_as(http_hosts=" a.example, b").http_hosts
    assert (
        "https://a.example,http://[::1]:80"
        == given_as(http_origins="https://a.example,http://[::1]:80").described()["INGESTD_HTTP_ORIGINS"]
    )


@pytest.mark.parametrize("hosts", ["*", "a b", "a,,b", "a:80", "http://a", "[::1]", "a/"])
def test_what_is_no_host_name_is_refused(hosts: str) -> None:
    with pytest.raises(ConfigError, match="INGESTD_HTTP_HOSTS"):
        given_as(http_hosts=hosts)


@pytest.mark.parametrize("origins", ["*", "null", "a.example", "https://a.example/", "https://*.example", "ftp://a"])
def test_what_is_no_origin_is_refused(origins: str) -> None:
    with pytest.raises(ConfigError, match="INGESTD_HTTP_ORIGINS"):
        given_as(http_origins=origins)


def test_variables_of_other_programs_are_left_alone() -> None:
    assert Settings() == load(environment={"PATH": "/bin", "MQTT_URL": "x", "XINGESTD_HTTP_PORT": "x"})


def test_a_value_may_be_in_a_file(directory: Path) -> None:
    (directory / "password").write_text(f"{SECRET}\n")
    (directory / "url").write_text("mqtt://broker:1884\n")

    settings = given_as(mqtt_password_file=str(directory / "password"), mqtt_url_file="url")

    assert (SECRET, "mqtt://broker:1884") == (revealed(settings.mqtt_password), settings.mqtt_url)


def test_env_file_may_name_a_file_too(directory: Path) -> None:
    (directory / ".env").write_text("INGESTD_MQTT_PASSWORD_FILE=password\n")
    (directory / "password").write_text(SECRET)

    assert SECRET == revealed(load(environment={}).mqtt_password)


def test_a_setting_that_is_a_file_name_is_not_opened() -> None:
    assert Path("/nowhere/ca.crt") == given_as(mqtt_url="mqtts://h", mqtt_ca_file="/nowhere/ca.crt").mqtt_ca_file


def test_the_name_of_a_certificate_may_be_in_a_file(directory: Path) -> None:
    (directory / "where").write_text("/nowhere/ca.crt")

    assert Path("/nowhere/ca.crt") == given_as(mqtt_url="mqtts://h", mqtt_ca_file_file="where").mqtt_ca_file


def test_the_environment_wins_with_a_file_over_env_file_with_a_value(directory: Path) -> None:
    (directory / ".env").write_text("INGESTD_MQTT_PASSWORD=other\n")
    (directory / "password").write_text(SECRET)

    assert SECRET == revealed(given_as(mqtt_password_file="password").mqtt_password)  # noqa: S106


def test_a_value_and_its_file_at_once_are_an_error(directory: Path) -> None:
    (directory / "password").write_text(SECRET)

    assert "INGESTD_MQTT_PASSWORD and INGESTD_MQTT_PASSWORD_FILE are both set" == refusal_of(
        mqtt_password="other",  # noqa: S106
        mqtt_password_file="password",  # noqa: S106
    )


def test_a_file_may_stand_in_for_an_empty_value(directory: Path) -> None:
    (directory / "password").write_text(SECRET)

    settings = load(environment={"INGESTD_MQTT_PASSWORD": "", "INGESTD_MQTT_PASSWORD_FILE": "password"})

    assert settings.mqtt_password is not None
    assert SECRET == settings.mqtt_password.get_secret_value()


def test_a_file_that_is_not_there_is_named() -> None:
    message = refusal_of(mqtt_password_file="/nowhere/password")  # noqa: S106

    assert "INGESTD_MQTT_PASSWORD_FILE: No such file or directory: /nowhere/password" == message


def test_a_file_that_is_no_text_is_named(directory: Path) -> None:
    (directory / "password").write_bytes(b"\xff\xfe")

    assert "INGESTD_MQTT_PASSWORD_FILE: no UTF-8 text: password" == refusal_of(mqtt_password_file="password")  # noqa: S106


# What is refused -------------------------------------------------------------------------------------------------


def test_an_unknown_variable_is_an_error_that_names_it() -> None:
    assert "INGESTD_MQTT_PASWORD: no such setting" == refusal_of(mqtt_pasword=SECRET)


def test_an_unknown_key_of_env_file_is_an_error_that_names_it(directory: Path) -> None:
    (directory / ".env").write_text("INGESTD_FLUSH=1\nOTHER=1\n")

    with pytest.raises(ConfigError, match=r"^INGESTD_FLUSH: no such setting$"):
        load(environment={})


@pytest.mark.parametrize("text", ['mqtt_host = "x"', '[mqtt]\nurl = "x"', "INGESTD_HTTP_PORT = 1"])
def test_an_unknown_key_of_toml_is_an_error_that_names_it(directory: Path, text: str) -> None:
    toml = directory / "ingestd.toml"
    toml.write_text(text)

    with pytest.raises(ConfigError, match=r"(MQTT_HOST|MQTT|HTTP_PORT): no such setting$"):
        load(toml, environment={})


def test_everything_wrong_is_said_at_once() -> None:
    lines = refusal_of(http_port="many", flush_interval="soon", typo="x").splitlines()

    assert ["INGESTD_FLUSH_INTERVAL", "INGESTD_HTTP_PORT", "INGESTD_TYPO"] == sorted(
        line.partition(":")[0] for line in lines
    )


def test_a_toml_file_that_is_not_there_is_named(directory: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: No such file"):
        load(directory / "nowhere.toml", environment={})


@pytest.mark.parametrize("content", [b"http_port = ", b"\xff"])
def test_a_toml_file_that_cannot_be_read_is_named(directory: Path, content: bytes) -> None:
    toml = directory / "broken.toml"
    toml.write_bytes(content)

    with pytest.raises(ConfigError, match=r"broken\.toml: "):
        load(toml, environment={})


@pytest.mark.parametrize("port", ["0", "1", "65535"])
def test_a_port_within_range_is_taken(port: str) -> None:
    assert int(port) == given_as(http_port=port).http_port


@pytest.mark.parametrize("port", ["-1", "65536", "http", "80.5", "1e3"])
def test_a_port_out_of_range_is_refused(port: str) -> None:
    assert refusal_of(http_port=port).startswith("INGESTD_HTTP_PORT: Input should be")


@pytest.mark.parametrize("url", ["mqtt://broker", "mqtt://127.0.0.1:1883", "mqtts://broker:8883", "mqtt://[::1]:1883"])
def test_a_broker_url_is_taken(url: str) -> None:
    assert url == given_as(mqtt_url=url).mqtt_url


@pytest.mark.parametrize(
    "url",
    ["broker", "broker:1883", "mqtt://", "mqtt:///x", "mqtt://:1883", "http://broker", "tcp://broker:1883",
     "mqtt://broker:port", "mqtt://broker:65536", "mqtt://[::1"],
)  # fmt: skip
def test_a_bad_broker_url_is_refused(url: str) -> None:
    assert refusal_of(mqtt_url=url).startswith("INGESTD_MQTT_URL: ")


@pytest.mark.parametrize("name", ["mqtt_client_id", "mqtt_username", "mqtt_shared_group"])
@pytest.mark.parametrize(
    ("character", "shown"),
    [("\x01", "U+0001"), ("\x85", "U+0085"), ("\ufdd0", "U+FDD0"), ("\uffff", "U+FFFF"), ("\U0001fffe", "U+1FFFE")],
)
def test_what_brokers_end_the_connection_over_is_refused(name: str, character: str, shown: str) -> None:
    message = refusal_of(**{name: f"a{character}b"})

    assert f"INGESTD_{name.upper()}: must not contain {shown}: brokers refuse control and non-characters" in message


@pytest.mark.parametrize("url", ["postgresql://u@h/d", "postgres://u:p@h:5432/d", "postgresql:///d?host=/run"])
def test_a_database_url_is_taken(url: str) -> None:
    assert url == revealed(given_as(database_url=url).database_url)


@pytest.mark.parametrize("url", ["h/d", "host=h dbname=d", "mysql://u@h/d", "http://h", "postgresql//u@h/d"])
def test_a_bad_database_url_is_refused(url: str) -> None:
    assert "INGESTD_DATABASE_URL: must look like postgresql://user@host:5432/database" == refusal_of(database_url=url)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("buffer_max_messages", "0"),
        ("buffer_max_messages", "-1"),
        ("buffer_max_messages", "many"),
        ("efficiency_threshold", "0"),
        ("efficiency_threshold", "1.01"),
        ("efficiency_threshold", "nan"),
        ("efficiency_min_kwh", "-0.1"),
        ("efficiency_min_kwh", "nan"),
        ("efficiency_min_kwh", "inf"),
        ("efficiency_min_share", "-0.1"),
        ("efficiency_min_share", "1.01"),
        ("efficiency_min_share", "nan"),
        ("max_gap", "29m"),
        ("max_gap", "25h"),
        ("vehicle_max_kw", "0"),
        ("vehicle_max_kw", "nan"),
        ("vehicle_max_kw", "inf"),
        ("vehicle_max_kw", "1000001"),
        ("meter_max_kw", "0"),
        ("meter_max_kw", "nan"),
        ("meter_max_kw", "inf"),
        ("meter_max_kw", "1000001"),
        ("session_min_kw", "0"),
        ("session_min_kw", "nan"),
        ("session_min_kw", "1000001"),
        ("session_pause", "-1s"),
        ("session_pause", "25h"),
        ("alert_min_duration", "0.5s"),
        ("alert_battery_temp", "151"),
        ("alert_battery_temp", "nan"),
        ("log_level", "loud"),
        ("log_format", "xml"),
        ("mqtt_shared_group", "a/b"),
        ("mqtt_shared_group", "a#"),
        ("mqtt_sessions", "0"),
        ("mqtt_sessions", "1001"),
        ("flush_interval", "0"),
        ("flush_interval", "0s"),
        ("max_age", "0d"),
        ("max_skew", "-1s"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_name_and_itself(name: str, value: str) -> None:
    message = refusal_of(**{name: value})

    assert message.startswith(f"{PREFIX}{name.upper()}: ")
    assert message.endswith(f"(is {value!r})")


def test_several_sessions_need_a_shared_group() -> None:
    assert "INGESTD_MQTT_SESSIONS: several sessions share the messages: set INGESTD_MQTT_SHARED_GROUP too (is '2')" == (
        refusal_of(mqtt_sessions="2")
    )
    assert ("ingestd",) == given_as().session_ids
    assert ("ingestd-1",) == given_as(mqtt_shared_group="g").session_ids
    assert ("c-1", "c-2") == given_as(mqtt_client_id="c", mqtt_shared_group="g", mqtt_sessions="2").session_ids


def test_how_an_efficiency_is_judged_is_settable_down_to_not_at_all() -> None:
    default = given_as()
    assert (0.85, 0.5, 0.5) == (default.efficiency_threshold, default.efficiency_min_kwh, default.efficiency_min_share)

    given = given_as(efficiency_min_kwh="0", efficiency_min_share="0")
    assert (0.0, 0.0) == (given.efficiency_min_kwh, given.efficiency_min_share)


def test_what_counts_as_energy_and_as_a_session_is_settable() -> None:
    default = given_as()
    assert (timedelta(hours=1), 400.0, 2000.0) == (default.max_gap, default.vehicle_max_kw, default.meter_max_kw)
    assert (0.3, timedelta(minutes=15)) == (default.session_min_kw, default.session_pause)

    given = given_as(max_gap="30m", vehicle_max_kw="2.3", meter_max_kw="1000000")
    assert (timedelta(minutes=30), 2.3, 1e6) == (given.max_gap, given.vehicle_max_kw, given.meter_max_kw)
    given = given_as(max_gap="1d", session_min_kw="0.01", session_pause="0")
    assert (timedelta(days=1), 0.01, timedelta(0)) == (given.max_gap, given.session_min_kw, given.session_pause)


@pytest.mark.parametrize("name", ["plausible_kw", "efficiency_min_coverage"])
def test_a_setting_that_another_took_the_place_of_is_no_setting(name: str) -> None:
    assert f"INGESTD_{name.upper()}: no such setting" == refusal_of(**{name: "1"})


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"retention": "90d"},
        {"retention": "91d", "rollup_retention": "91d"},
        {"max_age": "1d", "retention": "36h", "rollup_retention": "10d"},
        {"retention": "36500d"},
    ],
)
def test_what_is_kept_outlasts_what_is_accepted(given: dict[str, str]) -> None:
    settings = given_as(**given)

    expected = [parse_duration(given[name]) if name in given else None for name in ("retention", "rollup_retention")]
    assert expected == [settings.retention, settings.rollup_retention]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"retention": "89d"}, "INGESTD_RETENTION: must not be less than INGESTD_MAX_AGE, which is 90d (is '89d')"),
        ({"retention": "0"}, "INGESTD_RETENTION: must not be less than INGESTD_MAX_AGE, which is 90d (is '0')"),
        (
            {"max_age": "120d", "retention": "100d"},
            "INGESTD_RETENTION: must not be less than INGESTD_MAX_AGE, which is 120d (is '100d')",
        ),
        (
            {"rollup_retention": "365d"},
            (
                "INGESTD_ROLLUP_RETENTION: rollups cannot go before the history they stand for:"
                " set INGESTD_RETENTION too (is '365d')"
            ),
        ),
        (
            {"retention": "365d", "rollup_retention": "90d"},
            "INGESTD_ROLLUP_RETENTION: must not be less than INGESTD_RETENTION, which is 365d (is '90d')",
        ),
        ({"max_age": "soon", "retention": "1d"}, "INGESTD_MAX_AGE: a duration is a number"),
    ],
)
def test_what_is_kept_too_shortly_is_refused_with_what_it_has_to_outlast(given: dict[str, str], says: str) -> None:
    (line,) = refusal_of(**given).splitlines()

    assert line.startswith(says)


@pytest.mark.parametrize("name", ["retention", "rollup_retention", "dead_letter_retention"])
def test_what_is_kept_for_longer_than_a_calendar_is_long_is_refused(name: str) -> None:
    message = f"{PREFIX}{name.upper()}: must not be more than 36500d (is '36501d')"

    assert message == refusal_of(**{name: "36501d"})


# Durations -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90d", 7_776_000), ("300s", 300), ("1.0", 1), ("1", 1), ("250ms", 0.25), ("1.5h", 5400), ("2m", 120), ("0", 0),
     (" 90 d ", 7_776_000), ("0.000001", 0.000001)],
)  # fmt: skip
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert timedelta(seconds=seconds) == parse_duration(text)


@pytest.mark.parametrize(
    "text",
    ["", " ", "d", "s90", "90 days", "1h30m", "-1", "+1", "1e3", "1.", ".5", "1,5", "inf", "nan", "0x1", "1_000", "90D",
     "1w", "PT1S", "00:01:00", "\u0661s", "1s\n2s", True, None, [1]],
)  # fmt: skip
def test_a_bad_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"a duration is a number"):
        parse_duration(text)


def test_a_duration_beyond_all_time_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        parse_duration("99999999999999d")


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=36_500)))
def test_a_duration_is_written_so_that_it_reads_back(duration: timedelta) -> None:
    assert duration == parse_duration(format_duration(duration))


@pytest.mark.parametrize("text", ["90d", "5m", "1s", "0.25s", "36h", "0s", "100000.5s"])
def test_a_duration_is_written_shortly(text: str) -> None:
    assert text == format_duration(parse_duration(text))


# Secrets ---------------------------------------------------------------------------------------------------------


def test_described_shows_every_setting_and_no_secret() -> None:
    settings = given_as(
        mqtt_url="mqtts://h",
        mqtt_password=SECRET,
        database_url=f"postgresql://u:{SECRET}@h:5432/d",
        max_age="36h",
        mqtt_ca_file="/ca",
    )

    described = settings.described()

    assert {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} == set(described)
    assert "********" == described["INGESTD_MQTT_PASSWORD"]
    assert "postgresql://u:********@h:5432/d" == described["INGESTD_DATABASE_URL"]
    assert ("36h", "/ca", "", "8080") == (
        described["INGESTD_MAX_AGE"],
        described["INGESTD_MQTT_CA_FILE"],
        described["INGESTD_MQTT_USERNAME"],
        described["INGESTD_HTTP_PORT"],
    )
    assert SECRET not in f"{described} {settings} {settings!r}"


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("postgresql://u:hunter2@h:5432/d", "postgresql://u:********@h:5432/d"),
        ("postgresql://u:hunter2@h1:1,h2:2/d?x=y", "postgresql://u:********@h1:1,h2:2/d?x=y"),
        ("postgresql://u:hunter2#hunter2@h/d", "postgresql://u:********@h/d"),
        ("postgresql://u:hunter2?hunter2@h/d", "postgresql://u:********@h/d"),
        ("postgresql://u:hunter2/hunter2@h/d", "postgresql://u:********@h/d"),
        ("postgresql://u:hunter2@hunter2@h/d", "postgresql://u:********@h/d"),
        ("postgresql://u:hunter2:hunter2@h/d", "postgresql://u:********@h/d"),
        ("postgresql://:hunter2@h/d", "postgresql://:********@h/d"),
        ("postgresql://h/d?user=u&password=hunter2", "postgresql://h/d?user=u&password=********"),
        ("postgresql://h/d?password=hunter2&user=u", "postgresql://h/d?password=********&user=u"),
        ("postgresql://h/d?sslpassword=hunter2", "postgresql://h/d?sslpassword=********"),
        ("postgresql://u:@h/d", "postgresql://u:********@h/d"),
        ("postgresql://u@h:5432/d", "postgresql://u@h:5432/d"),
        ("postgresql://h/d", "postgresql://h/d"),
        ("postgresql:///d?host=/run", "postgresql:///d?host=/run"),
        ("hunter2", "********"),
        ("https://hooks.example/services/hunter2", "********"),
        ("", "********"),
    ],
)
def test_a_masked_url_shows_all_but_its_passwords(url: str, masked: str) -> None:
    assert masked == mask(url)


@given(st.text(alphabet=st.characters(exclude_characters="*"), min_size=1).map(lambda text: f"<{text}>"))
def test_no_password_survives_masking(password: str) -> None:
    assert password not in mask(f"postgresql://ingestd:{password}@127.0.0.1:5432/ingestd")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("database_url", f"mysql://u:{SECRET}@h/d"),
        ("database_url", f"host=h password={SECRET}"),
        ("database_url", f"postgresql://u:{SECRET}@[h/d"),
        ("mqtt_url", f"mqtt://u:{SECRET}@h"),
        ("mqtt_url", f"mqtt://u:{SECRET}/x@h:1883"),
        ("mqtt_url", f"mqtt://u:1/{SECRET}@h:1883"),
        ("mqtt_url", f"http://u:{SECRET}@h"),
        ("mqtt_url", f"u:{SECRET}@h"),
        ("mqtt_pasword", SECRET),
        ("alert_webhook_url", SECRET),
        ("alert_webhook_url", f"ftp://h/{SECRET}"),
        ("alert_webhook_url", f"https://h:{SECRET}/"),
        ("alert_webhook_url", f"https://[h/{SECRET}"),
    ],
)
def test_no_error_shows_a_secret(name: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        given_as(**{name: value})

    assert SECRET not in f"{caught.value} {caught.value.__cause__}"


def test_a_password_of_the_wrong_type_is_not_shown(directory: Path) -> None:
    toml = directory / "ingestd.toml"
    toml.write_text("mqtt_password = 4711")

    with pytest.raises(ConfigError, match=r"^INGESTD_MQTT_PASSWORD: Input should be a valid string$"):
        load(toml, environment={})


@pytest.mark.parametrize(
    "url", ["https://h", "http://127.0.0.1:8080/x?y=z", "https://[::1]/x", "https://u:p@hooks.example/services/T0/B0"]
)
def test_a_webhooks_url_is_taken_and_never_shown(url: str) -> None:
    settings = given_as(alert_webhook_url=url)

    assert url == revealed(settings.alert_webhook_url)
    assert "********" == settings.described()["INGESTD_ALERT_WEBHOOK_URL"]


def test_credentials_in_the_broker_url_are_told_where_to_go() -> None:
    message = refusal_of(mqtt_url=f"mqtt://u:{SECRET}@h")

    assert "put the credentials into INGESTD_MQTT_USERNAME and INGESTD_MQTT_PASSWORD" in message


# TLS -------------------------------------------------------------------------------------------------------------


def test_only_mqtts_has_a_tls_context() -> None:
    assert None is given_as(mqtt_url="mqtt://h").tls()

    context = given_as(mqtt_url="mqtts://h").tls()

    assert context is not None
    assert (True, ssl.CERT_REQUIRED) == (context.check_hostname, context.verify_mode)


@pytest.mark.parametrize("name", ["mqtt_ca_file", "mqtt_cert_file"])
def test_a_certificate_that_cannot_be_used_is_a_config_error(directory: Path, name: str) -> None:
    (directory / "nonsense.pem").write_text("nonsense")
    for path in ("/nowhere.pem", str(directory / "nonsense.pem")):
        settings = given_as(mqtt_url="mqtts://h", **{name: path})

        with pytest.raises(ConfigError, match="cannot be used"):
            settings.tls()


@pytest.mark.parametrize("name", ["mqtt_ca_file", "mqtt_cert_file", "mqtt_key_file"])
def test_a_certificate_without_tls_is_an_error(name: str) -> None:
    message = refusal_of(mqtt_url="mqtt://h", **{name: "/etc/ssl/x.pem"})

    assert f"INGESTD_{name.upper()}: is for TLS, and INGESTD_MQTT_URL does not begin with mqtts://" in message


def test_a_key_without_a_certificate_is_an_error() -> None:
    message = refusal_of(mqtt_url="mqtts://h", mqtt_key_file="/etc/ssl/x.pem")

    assert "INGESTD_MQTT_KEY_FILE: is the key of a certificate: set INGESTD_MQTT_CERT_FILE too" in message


def test_an_empty_variable_is_one_that_is_not_set() -> None:
    settings = load(environment={"INGESTD_LOG_FORMAT": "", "INGESTD_HTTP_PORT": "", "INGESTD_MQTT_PASSWORD": ""})

    assert (None, 8080, None) == (settings.log_format, settings.http_port, settings.mqtt_password)


def test_log_level_and_format_are_taken_in_any_case() -> None:
    settings = load(environment={"INGESTD_LOG_LEVEL": "INFO", "INGESTD_LOG_FORMAT": "Json"})

    assert ("info", "json") == (settings.log_level, settings.log_format)
