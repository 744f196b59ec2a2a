# ruff: noqa: SIM300 - expected == actual
"""What `ingestd sql` prints can be pasted into psql."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import psycopg
import pytest

from bench.stage import find_psql
from ingestd.commands import sql as statements

if TYPE_CHECKING:
    from ingestd.commands.sql import PrintedStatement

is_query = re.compile(r"(SELECT|WITH|INSERT|UPDATE|DELETE|MERGE)\b").match


def psql(url: str, script: str) -> str:
    """What psql prints; fails with what it complains of."""
    script = f"SET client_min_messages = warning;\n{script}"
    options = ["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1"]
    done = subprocess.run(
        [find_psql(), *options, url], input=script, capture_output=True, text=True, timeout=30, check=False
    )
    assert (0, "") == (done.returncode, done.stderr), script
    return done.stdout


def of(name: str) -> PrintedStatement:
    found = statements.find(name)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "statement",
    [one for one in statements.all_statements() if "FROM STDIN" not in one.text],
    ids=lambda statement: statement.name,
)
def test_a_statement_is_taken_as_it_is_printed(statement: PrintedStatement, shared_database_url: str) -> None:
    script = statement.script
    if is_query(statement.text):
        script = script.replace(statement.text, f"EXPLAIN {statement.text}")
    if statement.file == "write" and ":" in statement.block:  # a batch is staged in tables of the session
        stream = statement.block.rpartition(":")[2]
        script = f"{of(f'prepare_session:{stream}').script}\n{script}"

    psql(shared_database_url, script)


def test_a_statement_is_pasted_with_values_for_its_parameters(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO device_setting (kind, id, max_kw) VALUES ('meter', 'a', 22), ('vehicle', 'a', 11)"
        )

    script = of("device_settings").script.replace(r"\set kind NULL", r"\set kind $$meter$$")
    script = script.replace(r"\set id NULL", r"\set id $$a$$")

    assert "||22\n" == psql(database_url, script)


def test_what_is_pasted_as_it_stands_changes_nothing(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO dead_letter (received_at, source, stream, topic, payload, reason, detail)"
            " VALUES (now(), 'mqtt', 'meter', 'meters/a/telemetry', '', 'schema', '')"
        )
        assert "1\n" == psql(database_url, of("purge_dead_letters").script)
        assert [(1,)] == connection.execute("SELECT count(*) FROM dead_letter").fetchall()
