# ruff: noqa: SIM300 - expected == actual
"""No retired word of docs/glossary.md is used, as a word or as a part of a name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.support.documents import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GLOSSARY = ROOT / "docs" / "glossary.md"
FOLDERS = ("ingestd", "sql", "tests", "bench", "docs", "deploy", "examples", "mosquitto")
SUFFIXES = {".py", ".sql", ".md", ".conf", ".service", ".toml", ""}
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
"""A word, or a part of a name in snake_case or CamelCase."""


def retired() -> set[str]:
    table = GLOSSARY.read_text(encoding="utf-8").partition("## Retired words")[2]
    return {
        word for words in re.findall(r"^\| ([a-z, ]+) \| [^|]+ \|$", table, re.MULTILINE) for word in words.split(", ")
    }


def text_files() -> Iterator[Path]:
    yield ROOT / "README.md"
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and path.suffix in SUFFIXES and "__pycache__" not in path.parts and path != GLOSSARY:
                yield path


def words(text: str) -> list[str]:
    return [word.lower() for word in WORD.findall(text)]


def test_no_retired_word_is_used() -> None:
    forbidden = retired() - {"word"}
    found = [
        f"{path.relative_to(ROOT)}:{number}: {word}"
        for path in text_files()
        for number, line in enumerate([path.stem, *path.read_text(encoding="utf-8").splitlines()])
        for word in words(line)
        if word in forbidden
    ]

    assert forbidden
    assert [] == found


def test_no_defined_word_is_retired() -> None:
    defined = GLOSSARY.read_text(encoding="utf-8").partition("## Retired words")[0]

    assert set() == retired() & set(re.findall(r"^\| ([a-z_ -]+) \|", defined, re.MULTILINE)) - {"word"}


def test_parts_of_names_are_words() -> None:
    assert ["one", "of", "two", "http", "parts"] == words("one_ofTwo HTTPParts")
