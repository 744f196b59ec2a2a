# ruff: noqa: SIM300 - expected == actual
"""Which module of ingestd may use which library: a module that nobody listed may use none of these."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Final

import ingestd

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE: Final = Path(ingestd.__file__).parent
ROOMS: Final = {
    "mqtt5": ("mqtt",),
    "psycopg": ("store", "demo"),
    "psycopg_pool": ("store",),
    "aiohttp": ("http", "alerting/webhook.py"),
    "limits": ("http",),
    "cryptography": ("broker",),
    "click": ("cli.py", "commands", "demo/demo.py"),
}
"""By library, the folders and files that may import it."""


def imported(file: Path) -> Iterator[str]:
    """The packages that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def test_each_library_is_used_in_its_own_room_and_nowhere_else() -> None:
    files = {file.relative_to(PACKAGE).as_posix(): set(imported(file)) for file in PACKAGE.rglob("*.py")}
    misplaced = [
        (library, name)
        for library, rooms in ROOMS.items()
        for name, packages in files.items()
        if library in packages and not any(name == room or name.startswith(f"{room}/") for room in rooms)
    ]

    assert [] == misplaced
    used = {library for packages in files.values() for library in packages}
    assert set() == ROOMS.keys() - used
