"""The pages of the documentation taken apart: blocks, links, anchors; and examples compared with what is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
README: Final = ROOT / "README.md"
PAGES: Final = (README, *sorted((ROOT / "docs").glob("*.md")), ROOT / "mosquitto" / "README.md")
"""The pages whose blocks are run or compared."""
ALL_PAGES: Final = (
    *PAGES,
    ROOT / "CHANGELOG.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs" / "decisions").glob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
)
"""Those whose links are followed."""

ANYTHING: Final = "…"
"""Stands for any value in an example, and as a key for further keys."""

ANSWERS: Final = ("json", "csv", "output")
"""Languages of blocks that show what the command of the block before them says."""

_FENCE: Final = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
_HEADING: Final = re.compile(r"^#+ +(.*?) *$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What stands between two lines of ```."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """Of a shell block: a command is a line, and goes on over further lines while a quote is open."""
        commands: list[str] = []
        for line in self.text.splitlines():
            if commands and commands[-1].count("'") % 2:
                commands[-1] += f"\n{line}"
            elif line.strip() and not line.startswith("#"):
                commands.append(line)
        return commands


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(page=page, line=text[: found.start()].count("\n") + 1, language=found[1], text=found[2])
        for found in _FENCE.finditer(text)
    ]


def all_blocks(language: str) -> list[Block]:
    return [block for page in PAGES for block in blocks(page) if block.language == language]


def links(page: Path) -> list[str]:
    """Targets of links outside of blocks."""
    return _LINK.findall(_FENCE.sub("", page.read_text(encoding="utf-8")))


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings."""
    headings = _HEADING.findall(_FENCE.sub("", page.read_text(encoding="utf-8")))
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def differences(shown: object, real: object, where: str = "answer") -> Iterator[str]:
    """Where a real answer has other keys, types or another status than the answer that a page shows."""
    if shown == ANYTHING:
        return
    if isinstance(shown, dict) and isinstance(real, dict):
        yield from _in_object(shown, real, where)
    elif isinstance(shown, list) and isinstance(real, list):
        yield from _in_array(shown, real, where)
    elif _kind(shown) != _kind(real):
        yield f"{where} is {real!r}, {_kind(shown)} is shown"


def _in_object(shown: dict[str, object], real: dict[str, object], where: str) -> Iterator[str]:
    if ANYTHING not in shown and (missing := shown.keys() ^ real.keys()):
        yield f"{where}: {', '.join(sorted(missing))} is not in both"
    for key in shown.keys() & real.keys():
        yield from differences(shown[key], real[key], f"{where}.{key}")
    if isinstance(shown.get("status"), int) and shown["status"] != real.get("status"):
        yield f"{where}.status is {real.get('status')}"


def _in_array(shown: list[object], real: list[object], where: str) -> Iterator[str]:
    """Each real item has to be like one of those that are shown."""
    if bool(shown) != bool(real):
        yield f"{where} has {len(real)} items, {len(shown)} are shown"
    for number, item in enumerate(real):
        found = [list(differences(one, item, f"{where}[{number}]")) for one in shown]
        if found and all(found):
            yield from found[0]


def _kind(value: object) -> str:
    match value:
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str() if _is_timestamp(value):
            return "a time"
    return type(value).__name__


def _is_timestamp(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return "T" in text
