# ruff: noqa: SIM300 - expected == actual
"""The statements of sql/ and the Python that runs it name the same things."""

from __future__ import annotations

import ast
import re
from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import Final

import pytest
from psycopg import sql

from ingestd import store
from ingestd.model.stream import METER, STREAMS, Stream
from ingestd.store import queries

QUERY_FILES: Final = {
    file.name: file.read_text(encoding="utf-8")
    for file in sorted((files("ingestd") / "sql" / "queries").iterdir(), key=str)
}
NAMES: Final = {filename: re.findall(r"^-- name: (\w+)$", text, re.MULTILINE) for filename, text in QUERY_FILES.items()}
MODULES: Final = {
    path.name: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(Path(store.__path__[0]).glob("*.py"))
}
is_of_statements = re.compile(r"sql|_sql|_SQL|_SOURCES|_WRITE|_FLEET|_CLOSING|_PERFORMANCE").fullmatch
"""How modules call what they have loaded."""


def strings(tree: ast.AST) -> set[str]:
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def loaded_files(tree: ast.AST) -> set[str]:
    """Files of sql/queries that a module loads."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="load"), args=[ast.Constant(value=str(filename))]):
                found.add(filename)
    return found


def imported_modules(tree: ast.AST) -> set[str]:
    """Modules of the store that a module imports from."""
    return {
        f"{node.module.rpartition('.')[2]}.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ingestd.store.")
    }


def users(filename: str) -> set[str]:
    """Modules that load a file, or build on one that does."""
    loading = {name for name, tree in MODULES.items() if filename in loaded_files(tree)}
    return loading | {name for name, tree in MODULES.items() if loading & imported_modules(tree)}


def looked_up(tree: ast.AST) -> set[str]:
    """What a module takes by name: `_SQL["name"]`, `_SQL[stream]["name"]`, `self._fetch("name", ...)` and their kin."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(
                value=(
                    ast.Name(id=variable)
                    | ast.Attribute(attr=variable)
                    | ast.Subscript(value=ast.Name(id=variable) | ast.Attribute(attr=variable))
                ),
                slice=ast.Constant(value=str(name)),
            ) if is_of_statements(variable):
                found.add(name)
            case ast.Call(func=ast.Attribute(attr="fetch" | "_fetch"), args=[ast.Constant(value=str(name)), *_]):
                found.add(name)
    return found


def test_every_file_is_loaded() -> None:
    assert set(QUERY_FILES) == set().union(*map(loaded_files, MODULES.values()))


def test_a_name_stands_once_in_all_files() -> None:
    counts = Counter(name for names in NAMES.values() for name in names)

    assert {} == {name: count for name, count in counts.items() if count > 1}


@pytest.mark.parametrize("filename", QUERY_FILES)
def test_every_block_has_a_name_a_comment_and_a_statement(filename: str) -> None:
    loaded = queries.load(filename)

    assert NAMES[filename] == list(loaded)
    for name, statement in loaded.items():
        lines = statement.as_string().splitlines()
        assert lines[0].startswith("-- "), f"{filename}: {name} does not say what it is for"
        assert [line for line in lines if line and not line.startswith("--")], f"{filename}: {name} is empty"


@pytest.mark.parametrize("filename", QUERY_FILES)
def test_a_file_says_what_it_is_for_before_its_first_block(filename: str) -> None:
    assert re.match(r"-- (?!name: )\S", QUERY_FILES[filename])


@pytest.mark.parametrize("filename", QUERY_FILES)
def test_nothing_but_a_well_formed_line_begins_a_block(filename: str) -> None:
    assert len(NAMES[filename]) == len(re.findall(r"name\s*:", QUERY_FILES[filename], re.IGNORECASE))


@pytest.mark.parametrize(
    ("filename", "name"), [(filename, name) for filename, names in NAMES.items() for name in names]
)
def test_every_block_is_used(filename: str, name: str) -> None:
    assert name in set().union(*(strings(MODULES[user]) for user in users(filename)))


def test_every_name_that_is_looked_up_exists() -> None:
    looked_up_somewhere = set().union(*map(looked_up, MODULES.values()))

    assert len(looked_up_somewhere) > 50  # or this test looks in the wrong way
    assert set() == looked_up_somewhere - set().union(*NAMES.values())


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
@pytest.mark.parametrize("filename", QUERY_FILES)
def test_the_names_of_a_stream_fill_every_brace(filename: str, stream: Stream) -> None:
    for block in queries.load(filename).values():
        filled = queries.for_stream(block, stream).as_string()

        assert not re.search(r"[{}]", filled)


def test_what_is_ready_leaves_nothing_open() -> None:
    assert {"a"} == set(queries.all_ready({"a": sql.SQL("SELECT 1"), "b": sql.SQL("SELECT 1 FROM {live}")}))


def test_a_streams_tables_and_columns_are_quoted_identifiers() -> None:
    statement = sql.SQL(
        "{history} {live} {quarter} {hour} {stale} {staged} {newest} {id} {energy} {columns} {assignments} {stream}"
    )

    assert (
        '"meter_history" "meter_live" "meter_quarter" "meter_hour" "meter_stale" "staged_meter" "newest_meter" '
        '"meter_id" '
        '"kwh_consumed_ac" '
        '"meter_id", "ts", "kwh_consumed_ac", "voltage", "kwh_consumed_ac_register", "received_at" '
        '"ts" = excluded."ts", "kwh_consumed_ac" = excluded."kwh_consumed_ac", '
        '"voltage" = excluded."voltage", "kwh_consumed_ac_register" = excluded."kwh_consumed_ac_register", '
        '"received_at" = excluded."received_at" '
        "'meter'"
    ) == queries.for_stream(statement, METER).as_string()


def test_a_ready_statement_numbers_its_parameters_in_the_order_of_their_first_use() -> None:
    source = sql.SQL("SELECT %(b)s, %(a)s, {name}, 7 %% 4, %(b)s::text").format(name=sql.Identifier("x"))

    ready = queries.ready(source)

    assert b'SELECT $1, $2, "x", 7 % 4, $1::text' == ready.text
    assert ("b", "a") == ready.parameters
