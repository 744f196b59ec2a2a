# ruff: noqa: SIM300 - expected == actual
"""A file with a secret that every account of the machine may read is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingestd import sources
from tests.support.certificates import Authority
from tests.support.commands import finished

SECRETS = {
    "mqtt_password": "hunter2-hunter2",
    "database_url": "postgresql://me:hunter2@127.0.0.1/x",
    "alert_webhook_url": "https://hooks.example/hunter2",
}
MODES = [(0o644, True), (0o604, True), (0o602, True), (0o640, False), (0o600, False)]


def written(path: Path, text: str, mode: int) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize(("mode", "is_refused"), MODES)
@pytest.mark.parametrize("secret", SECRETS)
def test_the_file_of_a_secret_is_refused(tmp_path: Path, secret: str, mode: int, is_refused: bool) -> None:  # noqa: FBT001
    file = written(tmp_path / "secret", SECRETS[secret], mode)

    checked = finished(tmp_path, "check-config", **{f"{secret}_file": file})

    setting = f"INGESTD_{secret}_FILE".upper()
    said = f"ingestd: {setting}: every account of this machine can use this secret: chmod 600 {file}\n"
    assert (int(is_refused), said if is_refused else "") == (checked.returncode, checked.stderr)


@pytest.mark.parametrize(("mode", "is_refused"), MODES)
@pytest.mark.parametrize("secret", SECRETS)
def test_a_file_of_settings_with_a_secret_is_refused(
    tmp_path: Path,
    secret: str,
    mode: int,
    is_refused: bool,  # noqa: FBT001
) -> None:
    written(tmp_path / ".env", f"INGESTD_{secret.upper()}={SECRETS[secret]}\n", mode)
    toml = written(tmp_path / "settings.toml", f'{secret} = "{SECRETS[secret]}"\n', mode)

    by_env = finished(tmp_path, "check-config")
    (tmp_path / ".env").unlink()
    by_toml = finished(tmp_path, "--config", toml, "check-config")

    for named, checked in ((".env", by_env), (toml, by_toml)):
        said = f"ingestd: {named}: every account of this machine can use this secret: chmod 600 {named}\n"
        assert (int(is_refused), said if is_refused else "") == (checked.returncode, checked.stderr)
        assert "hunter2" not in checked.stdout


@pytest.mark.parametrize(
    "line",
    ["INGESTD_DATABASE_URL=postgresql://me@127.0.0.1/x", "INGESTD_MQTT_PASSWORD_FILE=secret", "INGESTD_MQTT_PASSWORD="],
)
def test_a_file_of_settings_without_a_secret_may_be_read_by_all(tmp_path: Path, line: str) -> None:
    written(tmp_path / "secret", "hunter2-hunter2", 0o600)
    written(tmp_path / ".env", f"{line}\n", 0o644)

    assert 0 == finished(tmp_path, "check-config").returncode


@pytest.mark.parametrize(("mode", "is_refused"), MODES)
def test_a_key_of_a_certificate_is_refused(tmp_path: Path, mode: int, is_refused: bool) -> None:  # noqa: FBT001
    own = Authority(tmp_path).issue("ingestd")
    own.key.chmod(mode)

    checked = finished(
        tmp_path,
        "check-config",
        mqtt_url="mqtts://broker.example",
        mqtt_cert_file=str(own.certificate),
        mqtt_key_file=str(own.key),
    )

    said = f"ingestd: INGESTD_MQTT_KEY_FILE: every account of this machine can use this secret: chmod 600 {own.key}\n"
    assert (int(is_refused), said if is_refused else "") == (checked.returncode, checked.stderr)


@pytest.mark.parametrize("side", ["mqtt", "http"])
def test_a_key_in_the_file_of_the_certificate_is_refused_too(tmp_path: Path, side: str) -> None:
    own = Authority(tmp_path).issue("ingestd")
    both = written(tmp_path / "both.pem", own.certificate.read_text() + own.key.read_text(), 0o644)
    settings = {f"{side}_cert_file": both} | ({"mqtt_url": "mqtts://broker.example"} if side == "mqtt" else {})

    checked = finished(tmp_path, "check-config", **settings)

    setting = f"INGESTD_{side.upper()}_CERT_FILE"
    said = f"ingestd: {setting}: every account of this machine can use this secret: chmod 600 {both}\n"
    assert (1, said) == (checked.returncode, checked.stderr)


def test_a_secret_that_docker_shows_to_one_container_may_be_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path(written(tmp_path / "secret", "hunter2", 0o644))
    (tmp_path / "link").symlink_to(file)
    monkeypatch.setattr(sources, "CONTAINER_SECRETS", tmp_path)

    sources.refuse_readable(file, name="INGESTD_MQTT_PASSWORD_FILE")
    sources.refuse_readable(tmp_path / "link", name="INGESTD_MQTT_PASSWORD_FILE")
