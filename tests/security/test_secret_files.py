# ruff: noqa: SIM300 - expected == actual
"""Files with secrets that every account of the machine may read are named in a warning."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.commands import finished

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def warnings(tmp_path: Path, **settings: str) -> Iterator[str]:
    """The settings that `check-config` warns of."""
    checked = finished(tmp_path, "check-config", **settings)
    assert 0 == checked.returncode, checked.stderr
    for line in checked.stderr.splitlines():
        event = json.loads(line)
        assert "secret_file_readable" == event["event"]
        yield event["setting"]


@pytest.mark.parametrize(("mode", "is_named"), [(0o644, True), (0o604, True), (0o640, False), (0o600, False)])
def test_a_file_with_a_secret_that_all_can_read_is_named(tmp_path: Path, mode: int, is_named: bool) -> None:  # noqa: FBT001
    secrets = {"mqtt_password_file": "secret", "database_url_file": "postgresql://me:secret@127.0.0.1/x"}
    for name, text in secrets.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(mode)

    named = list(warnings(tmp_path, **{name: str(tmp_path / name) for name in secrets}))

    assert (sorted(f"INGESTD_{name.upper()}" for name in secrets) if is_named else []) == sorted(named)
