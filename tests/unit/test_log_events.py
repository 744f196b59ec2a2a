# ruff: noqa: SIM300 - expected == actual
"""docs/operations.md lists every event that is logged, with its level and its fields, and no other."""

import ast
import re
from collections.abc import Iterator

from tests.support.documents import ROOT

SECTION = "## Log events\n"
LEVELS = {
    "debug": "debug",
    "info": "info",
    "warning": "warning",
    "error": "error",
    "exception": "error",
    "critical": "critical",
}
"""The level at which each method of a logger logs."""

Event = tuple[str, str, tuple[str, ...]]
"""Name, level, fields."""


def listed() -> list[Event]:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = page.partition(SECTION)[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([^`]+)` \| (\w+) \| ([^|]*)\| .+ \|$", section, re.MULTILINE)
    return sorted((name, level, tuple(re.findall(r"`([^`]+)`", fields))) for name, level, fields in rows)


def nodes() -> Iterator[ast.AST]:
    for path in sorted((ROOT / "ingestd").rglob("*.py")):
        yield from ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def calls() -> Iterator[ast.Call]:
    for node in nodes():
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr=method)) if method in LEVELS:
                yield node


def logged() -> list[Event]:
    events = []
    for call in calls():
        assert isinstance(call.func, ast.Attribute)
        (name,) = map(ast.literal_eval, call.args)
        events.append((name, LEVELS[call.func.attr], tuple(str(keyword.arg) for keyword in call.keywords)))
    return sorted(events)


def test_the_page_lists_every_event_and_no_other() -> None:
    assert listed() == logged()


def test_names_of_events_are_snake_case_and_each_stands_for_one_thing() -> None:
    names = [name for name, *_ in logged()]

    assert [] == [name for name in names if not re.fullmatch(r"[a-z]+(_[a-z]+)*", name)]
    assert sorted(set(names)) == names


def test_methods_of_loggers_are_called_where_they_are_named_so_that_no_event_is_overlooked() -> None:
    named = [
        node
        for node in nodes()
        if isinstance(node, ast.Attribute) and node.attr in LEVELS and ast.unparse(node.value) == "log"
    ]

    assert len(named) == len(list(calls()))
