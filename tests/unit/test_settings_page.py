# ruff: noqa: SIM300 - expected == actual
"""docs/settings.md and .env.example say what the declarations in ingestd/config.py say."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from ingestd.config import Settings, load
from ingestd.sources import PREFIX

ROOT = Path(__file__).parents[2]
NAMES = [f"{PREFIX}{name}".upper() for name in Settings.model_fields]
EXAMPLES = {f"{PREFIX}{name}" for name in ("DATABASE_URL", "MQTT_USERNAME", "MQTT_PASSWORD")} | {
    f"{PREFIX}{name.upper()}" for name, field in Settings.model_fields.items() if field.default is None
}
"""What .env.example shows a value for that is not the default: an account, and what has no default."""


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working directory, so that no developer's .env is read."""
    monkeypatch.chdir(tmp_path)


def example() -> dict[str, str]:
    """Name -> value, as .env.example has it behind the #."""
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    found = [matched for line in lines if (matched := re.fullmatch(rf"#({PREFIX}[A-Z0-9_]+)=(.*)", line))]
    assert len(found) == len({matched[1] for matched in found}), "a setting stands there twice"
    return {matched[1]: matched[2] for matched in found}


def test_the_page_has_every_setting_with_its_default_bounds_and_meaning() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")

    assert runpy.run_path(str(ROOT / "docs" / "settings.py"))["written"](page) == page, "run `make docs`"
    assert NAMES == re.findall(rf"^\| `({PREFIX}[A-Z0-9_]+)` \|", page, re.MULTILINE)


def test_the_example_file_has_every_setting_once() -> None:
    assert sorted(NAMES) == sorted(example())


def test_the_example_file_shows_the_defaults() -> None:
    shown = {name: value for name, value in example().items() if name not in EXAMPLES}

    assert Settings() == load(environment=shown)


def test_every_value_of_the_example_file_is_accepted() -> None:
    given = example() | {f"{PREFIX}MQTT_URL": "mqtts://127.0.0.1:8883"}  # what is for TLS is refused without it

    load(environment=given)
