# ruff: noqa: SIM300 - expected == actual
"""What `ingestd sql` prints: which names there are, what stands where, and how long it is."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner, Result

from ingestd.cli import commands
from ingestd.commands import sql as statements
from ingestd.store import queries

LONGEST = 60
"""Lines; more than that nobody reads at once."""
ALL = statements.all_statements()


def sql(*arguments: str) -> Result:
    return CliRunner().invoke(commands, ["sql", *arguments])


def test_every_block_is_there_by_its_name_and_those_of_a_stream_for_each() -> None:
    names = [statement.name for statement in ALL]

    assert len(set(names)) == len(names)
    blocks = {
        f"{filename.removesuffix('.sql')}.{name}" for filename in queries.filenames() for name in queries.load(filename)
    }
    assert blocks == {name.partition(":")[0] for name in names}
    streams = {name for name in names if ":" in name}
    assert {f"{name.partition(':')[0]}:{stream}" for name in streams for stream in ("meter", "vehicle")} == streams


def test_without_a_name_all_are_listed_with_what_they_are_for() -> None:
    listed = sql().stdout.splitlines()

    assert len(ALL) == len(listed)
    assert all(re.fullmatch(r"\w+\.\w+(:\w+)? +\S.*", line) for line in listed)
    assert any(
        re.fullmatch(r"dead_letters\.delete_dead_letters +Delete dead letters that were replayed\.", line)
        for line in listed
    )


@pytest.mark.parametrize("name", ["device_settings", "device_settings.device_settings"])
def test_a_statement_is_printed_by_its_name_with_or_without_its_file(name: str) -> None:
    hint = "-- Set each to a value as SQL writes it: 15, $$meter-001$$, $$2026-11-20T10:30Z$$, $${a,b}$$, true, NULL."
    assert [
        "-- The settings of one device.",
        hint,
        r"\set kind NULL",
        r"\set id NULL",
        "SELECT threshold, offline_after, max_kw FROM device_setting WHERE kind = :kind AND id = :id;",
    ] == sql(name).stdout.splitlines()


def test_what_changes_data_is_rolled_back() -> None:
    for statement in ALL:
        changes = re.search(r"^\s*(WITH \w+ AS \(\s*)?(INSERT|UPDATE|DELETE|MERGE|COPY.* FROM)\b", statement.text)
        if changes:
            assert "\nBEGIN;\n" in statement.script, statement.name
            assert statement.script.endswith(";\nROLLBACK;"), statement.name
    assert "BEGIN;" not in sql("device_settings").stdout


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("insert_stagd", "did you mean insert_staged:meter, insert_staged:vehicle?"),
        ("insert_staged", "did you mean insert_staged:meter, insert_staged:vehicle?"),
        ("write.insert_staged", "did you mean insert_staged:meter, insert_staged:vehicle?"),
        ("xyzzy", "`ingestd sql` lists them all"),
    ],
)
def test_a_name_that_does_not_exist_is_an_error_that_tells_near_ones(name: str, meant: str) -> None:
    refused = sql(name)

    assert (2, "") == (refused.exit_code, refused.stdout)
    assert f"there is no statement '{name}'; {meant}" in refused.stderr


@pytest.mark.parametrize("statement", ALL, ids=lambda statement: statement.name)
def test_a_statement_can_be_read_at_once_and_is_no_template(statement: statements.PrintedStatement) -> None:
    assert len(statement.text.splitlines()) <= LONGEST
    assert not re.search(r"[{}]", statement.text)
