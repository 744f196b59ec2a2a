"""Tables for people, JSON for machines."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path


Figures: TypeAlias = "dict[str, float | None]"
"""By name; None where a figure was not measured."""


@dataclass(frozen=True, slots=True)
class Column:
    """`text` formats a value; what is None is left blank."""

    title: str
    text: Callable[[Any], str] = str


class Table:
    """Printed row by row, as the runs that the rows tell of come to their end."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns

    def head(self) -> None:
        self._print([column.title for column in self._columns])

    def row(self, *values: object) -> None:
        self._print(
            ["" if value is None else column.text(value) for column, value in zip(self._columns, values, strict=True)]
        )

    def _print(self, cells: Sequence[str]) -> None:
        clear()
        first, *rest = (max(len(column.title), 9) for column in self._columns)
        line = " ".join([cells[0].ljust(first), *map(str.rjust, cells[1:], rest)])
        print(line.rstrip(), flush=True)


def progress(text: str) -> None:
    """Print the progress, in a line that the next one replaces; on a terminal only."""
    if sys.stderr.isatty():
        clear()
        print(text, end="", file=sys.stderr, flush=True)


def clear() -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def medians(rows: Sequence[Figures]) -> Figures:
    """Of every figure by itself; None where it was not measured."""
    values = {name: [row[name] for row in rows] for name in rows[0]}
    return {
        name: median(figure for figure in figures if figure is not None) if None not in figures else None
        for name, figures in values.items()
    }


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that so large a share of them does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column is text; the others are figures."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
