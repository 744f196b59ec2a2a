# ruff: noqa: SIM300 - expected == actual
"""The SQL of the house and the Python that runs it name the same things."""

from __future__ import annotations

import ast
import re
from collections import Counter
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Final, Literal

import pytest
from psycopg import sql

from ingestd import store
from ingestd.store import queries
from ingestd.telemetry import METER, STREAMS, Stream

if TYPE_CHECKING:
    from collections.abc import Iterator

QUERY_FILES: Final = {
    file.name: file.read_text(encoding="utf-8")
    for file in sorted((files("ingestd") / "sql" / "queries").iterdir(), key=str)
}
NAMES: Final = {filename: re.findall(r"^-- name: (\w+)$", text, re.MULTILINE) for filename, text in QUERY_FILES.items()}
MODULES: Final = {
    path.name: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(Path(store.__path__[0]).glob("*.py"))
}
EMPTY_OBJECT: Final = "'{}'"
"""JSON's, which is no brace to be filled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taking:
    """Where a module takes a block, and what it fills its braces with beside the tables and columns of a stream."""

    filename: str
    name: str
    by: Literal["format", "for_stream"] | None
    keywords: set[str]


def strings(tree: ast.AST) -> set[str]:
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def loaded_files(tree: ast.AST) -> dict[str, str]:
    """Variable -> file of sql/queries, for each `X = queries.load("file.sql")` and `Y = queries.all_ready(X)`."""
    loaded = {}
    for node in ast.walk(tree):
        match node:
            case ast.AnnAssign(
                target=ast.Name(id=variable),
                value=ast.Call(func=ast.Attribute(attr="load"), args=[ast.Constant(value=str(filename))]),
            ):
                loaded[variable] = filename
            case ast.AnnAssign(
                target=ast.Name(id=variable),
                value=ast.Call(func=ast.Attribute(attr="all_ready"), args=[ast.Name(id=source)]),
            ):
                loaded[variable] = loaded[source]
    return loaded


def looked_up(tree: ast.AST) -> set[tuple[str, str]]:
    """(file, name) of each `X["name"]` where X was loaded; `_sql` are the module's files, filled for each stream."""
    loaded = loaded_files(tree)
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(value=ast.Name(id=variable), slice=ast.Constant(value=str(name))) if variable in loaded:
                found.add((loaded[variable], name))
            case ast.Subscript(
                value=ast.Subscript(value=ast.Attribute(attr="_sql")), slice=ast.Constant(value=str(name))
            ):
                of_name = [filename for filename in loaded.values() if name in NAMES[filename]]
                found.add((of_name[0] if of_name else "no file", name))
    return found


def takings(tree: ast.AST) -> Iterator[Taking]:
    """Each `X["name"]` where X was loaded."""
    loaded = loaded_files(tree)
    filled: dict[ast.AST, tuple[Literal["format", "for_stream"], set[str]]] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="format", value=ast.Subscript() as block), keywords=keywords):
                filled[block] = "format", {str(keyword.arg) for keyword in keywords}
            case ast.Call(func=ast.Attribute(attr="for_stream"), args=[ast.Subscript() as block, _], keywords=keywords):
                filled[block] = "for_stream", {str(keyword.arg) for keyword in keywords}
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(value=ast.Name(id=variable), slice=ast.Constant(value=str(name))) if variable in loaded:
                by, names = filled.get(node, (None, set()))
                yield Taking(filename=loaded[variable], name=name, by=by, keywords=names)


def braces(block: sql.SQL) -> set[str]:
    """What is named between braces."""
    return {name for _, name, _, _ in Formatter().parse(block.as_string()) if name is not None}


def left_open(block: sql.SQL) -> set[str]:
    """What is named between braces and is no table or column of a stream."""
    return {name for name in braces(block) if not is_of_a_stream(name)}


def is_of_a_stream(name: str) -> bool:
    try:
        queries.for_stream(sql.SQL(f"{{{name}}}"), METER)
    except KeyError:
        return False
    return True


def test_every_file_is_loaded_by_one_module() -> None:
    loaded = Counter(filename for tree in MODULES.values() for filename in set(loaded_files(tree).values()))

    assert dict.fromkeys(QUERY_FILES, 1) == loaded


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
def test_every_block_is_used_by_the_module_that_loads_it(filename: str, name: str) -> None:
    (tree,) = (tree for tree in MODULES.values() if filename in loaded_files(tree).values())

    assert name in strings(tree)


def test_every_name_that_is_looked_up_exists() -> None:
    looked_up_somewhere = set().union(*map(looked_up, MODULES.values()))

    assert looked_up_somewhere  # or this test looks in the wrong way
    assert set() == looked_up_somewhere - {(filename, name) for filename, names in NAMES.items() for name in names}


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
@pytest.mark.parametrize("filename", QUERY_FILES)
def test_the_names_of_a_stream_fill_every_brace(filename: str, stream: Stream) -> None:
    for block in queries.load(filename).values():
        others = dict.fromkeys(left_open(block), sql.SQL(""))

        filled = queries.for_stream(block, stream, **others).as_string()

        assert not re.search(r"[{}]", filled.replace(EMPTY_OBJECT, ""))


def test_every_brace_is_filled_where_its_block_is_taken_and_nothing_else_is() -> None:
    """psycopg says so of a brace that nothing fills, once it comes to it; and never of what fills no brace."""
    blocks = {(filename, name): block for filename in QUERY_FILES for name, block in queries.load(filename).items()}
    taken = [taking for tree in MODULES.values() for taking in takings(tree)]

    for taking in taken:
        block = blocks[taking.filename, taking.name]
        if taking.by is None:
            assert not re.search(r"[{}]", block.as_string()), taking
        else:
            assert (left_open(block) if taking.by == "for_stream" else braces(block)) == taking.keywords, taking
    filled = {(taking.filename, taking.name) for taking in taken if taking.by}
    assert filled >= {place for place, block in blocks.items() if left_open(block)}


def test_a_streams_tables_and_columns_are_quoted_identifiers() -> None:
    statement = sql.SQL(
        "{history} {live} {day} {late} {staged} {newest} {id} {energy} {columns} {assignments} {stream}"
    )

    assert (
        '"meter_history" "meter_live" "meter_day" "meter_late" "staged_meter" "newest_meter" "meter_id" '
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
