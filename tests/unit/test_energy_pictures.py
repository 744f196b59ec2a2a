# ruff: noqa: SIM300 - expected == actual
"""The pictures of docs/energy.md are drawn from the rule, and are what it says today."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "energy"


def test_the_committed_pictures_are_what_the_rule_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))

    drawn: dict[str, str] = runpy.run_path(str(FOLDER / "draw.py"))["files"]()

    committed = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.svg")}
    assert drawn == committed, "run `make docs`, and look at the pictures"


def test_every_picture_has_words_for_those_who_cannot_see_it() -> None:
    for path in FOLDER.glob("*.svg"):
        svg = ET.fromstring(path.read_text(encoding="utf-8"))  # noqa: S314 - our own files
        words = {child.get("id"): child.text for child in svg if child.get("id")}
        assert svg.get("aria-labelledby", "").split() == list(words)
        assert all(words.values())


def test_every_picture_is_shown() -> None:
    page = (FOLDER.parent / "energy.md").read_text(encoding="utf-8")
    assert [] == [path.name for path in FOLDER.glob("*.svg") if f"](energy/{path.name})" not in page]
