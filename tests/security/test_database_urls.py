# ruff: noqa: SIM300 - expected == actual
"""No part of a database's password is shown, however its URL is written. libpq's errors show parts of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.commands import finished, many_finished

if TYPE_CHECKING:
    from pathlib import Path

PARTS = ONE, TWO = "kwzqvjxhg", "yfdkbmpvw"
"""Two parts of a password, which are nowhere else."""
DIGITS = "918273645"
LEAST = 4
"""So many characters of the password in a row are a leak."""

MALFORMED = {
    "at": f"postgresql://me:{ONE}@{TWO}@127.0.0.1:1/x",
    "at, no host": f"postgresql://me:{ONE}@{TWO}@/x",
    "slash": f"postgresql://me:{ONE}/{TWO}@127.0.0.1:1/x",
    "slash first": f"postgresql://me:/{ONE}{TWO}@127.0.0.1:1/x",
    "digits, slash": f"postgresql://me:1234/{TWO}@127.0.0.1:1/x",
    "slash, question mark": f"postgresql://me:{ONE}/x?{TWO}@127.0.0.1:1/x",
    "digits, slash, parameter": f"postgresql://me:1234/x?{ONE}={TWO}@127.0.0.1:1/x",
    "at, slash": f"postgresql://me:{ONE}@1/{TWO}@127.0.0.1:1/x",
    "at, colon": f"postgresql://me:{ONE}@h:{TWO}@127.0.0.1:1/x",
    "at, digits": f"postgresql://me:{ONE}@h:{DIGITS}/x",
    "percent": f"postgresql://me:{ONE}%{TWO}@127.0.0.1:1/x",
    "percent at the end": f"postgresql://me:{ONE}{TWO}%@127.0.0.1:1/x",
    "percent, NUL": f"postgresql://me:{ONE}%00{TWO}@127.0.0.1:1/x",
    "percent, half": f"postgresql://me:{ONE}%4{TWO}@127.0.0.1:1/x",
    "space": f"postgresql://me:{ONE} {TWO}@127.0.0.1:1/x",
    "tab": f"postgresql://me:{ONE}\t{TWO}@127.0.0.1:1/x",
    "line": f"postgresql://me:{ONE}\n{TWO}@127.0.0.1:1/x",
    "no host": f"postgresql://me:{ONE}{TWO}",
    "no host, digits": f"postgresql://me:{DIGITS}",
    "no user": f"postgresql://{ONE}/{TWO}@127.0.0.1:1/x",
    "bracket": f"postgresql://me:{ONE}[{TWO}/@127.0.0.1:1/x",
    "IPv6 without an end": f"postgresql://me:{ONE}{TWO}@[::1/x",
    "IPv6 without a begin": f"postgresql://me:{ONE}{TWO}@::1]:1/x",
    "IPv6, at": f"postgresql://me:{ONE}@{TWO}@[::1]:1/x",
    "no port": f"postgresql://me:{ONE}{TWO}@127.0.0.1:port/x",
    "normalization": f"postgresql://me:{ONE}\u2100{TWO}@127.0.0.1:1/x\uff0f@y",
    "in the query, and": f"postgresql://127.0.0.1:1/x?user=me&password={ONE}&{TWO}",
    "in the query, and, equals": f"postgresql://127.0.0.1:1/x?user=me&password={ONE}&{TWO}=x",
    "in the query, percent": f"postgresql://127.0.0.1:1/x?password={ONE}%{TWO}",
    "in the query, at": f"postgresql://127.0.0.1:1/x?password={ONE}@{TWO}",
    "in the query, equals": f"postgresql://127.0.0.1:1/x?password={ONE}={TWO}",
    "in the query, name encoded": f"postgresql://127.0.0.1:1/x?p%61ssword={ONE}{TWO}",
    "two questions": f"postgresql://127.0.0.1:1/x?password={ONE}?{TWO}&",
    "parameter unknown": f"postgresql://me:{ONE}{TWO}@127.0.0.1:1/x?sslmod=require",
    "value unknown": f"postgresql://me:{ONE}{TWO}@127.0.0.1:1/x?sslmode=maybe",
    "service unknown": f"postgresql://me:{ONE}{TWO}@127.0.0.1:1/x?service=none",
    "conninfo": f"host=127.0.0.1 port=1 user=me password={ONE}{TWO}",
    "conninfo, not closed": f"host=127.0.0.1 password='{ONE}{TWO}",
    "conninfo in the URL": f"postgresql://host=127.0.0.1 password={ONE}{TWO}",
    "conninfo as the database": f"postgresql://127.0.0.1:1/dbname=x%20password={ONE}{TWO} x",
    "other scheme": f"postgres:me:{ONE}{TWO}@127.0.0.1:1/x",
    "driver": f"postgresql+psycopg://me:{ONE}{TWO}@127.0.0.1:1/x",
    "quoted": f'"postgresql://me:{ONE}{TWO}@127.0.0.1:1/x"',
    "JDBC": f"jdbc:postgresql://127.0.0.1:1/x?password={ONE}{TWO}",
    "surrogate": f"postgresql://me:{ONE}\udcff{TWO}@127.0.0.1:1/x",
}
WELL_FORMED = {
    "hash": f"postgresql://me:{ONE}#{TWO}@127.0.0.1:1/x",
    "question mark": f"postgresql://me:{ONE}?{TWO}@127.0.0.1:1/x",
    "colon": f"postgresql://me:{ONE}:{TWO}@127.0.0.1:1/x",
    "bracket": f"postgresql://me:{ONE}[{TWO}@127.0.0.1:1/x",
    "encoded": f"postgresql://me:{ONE}%40%2F%25%20{TWO}@127.0.0.1:1/x",
    "equals": f"postgresql://me:{ONE}={TWO}&@127.0.0.1:1/x",
    "in the query": f"postgresql://127.0.0.1:1/x?user=me&password={ONE}{TWO}",
    "of a key": f"postgresql://me@127.0.0.1:1/x?sslpassword={ONE}{TWO}",
}


def leaks(text: str) -> list[str]:
    """Parts of passwords in the text."""
    return [
        part[start : start + LEAST]
        for part in (*PARTS, DIGITS)
        for start in range(len(part) - LEAST + 1)
        if part[start : start + LEAST] in text
    ]


COMMANDS = ["check-config", "run", "migrate"]


@pytest.mark.parametrize("setting", ["database_url", "owner_database_url"])
def test_a_malformed_url_is_refused_without_showing_it(tmp_path: Path, setting: str) -> None:
    harmless = {"database_url": "postgresql://me@127.0.0.1:1/x"}
    commands = [(command, harmless | {setting: url}) for url in MALFORMED.values() for command in COMMANDS]

    for (_, settings), done in zip(commands, many_finished(tmp_path, commands), strict=True):
        assert [] == leaks(done.stdout + done.stderr), (settings, done)
        (line,) = done.stderr.splitlines()
        assert (1, "") == (done.returncode, done.stdout), (settings, done)
        assert line.startswith("ingestd: "), (settings, done)


def test_a_well_formed_url_is_taken_and_shown_without_its_password(tmp_path: Path) -> None:
    """libpq reads it, and nobody listens at that port."""
    commands = [
        (command, {"database_url": url, "owner_database_url": url})
        for url in WELL_FORMED.values()
        for command in COMMANDS
    ]

    for (command, settings), done in zip(commands, many_finished(tmp_path, commands), strict=True):
        assert [] == leaks(done.stdout + done.stderr), (settings, done)
        if command == "check-config":
            assert (0, "") == (done.returncode, done.stderr), (settings, done)
        else:
            assert "Connection refused" in done.stderr, (settings, done)


def test_a_process_of_its_own_shows_nothing_either(tmp_path: Path) -> None:
    done = finished(tmp_path, "migrate", database_url=MALFORMED["slash"])

    assert 1 == done.returncode
    assert [] == leaks(done.stdout + done.stderr)
    assert done.stderr.startswith("ingestd: INGESTD_DATABASE_URL: must look like postgresql://user:password@host:5432/")


def test_a_url_in_place_of_a_file_is_not_shown(tmp_path: Path) -> None:
    url = f"postgresql://me:{ONE}{TWO}@127.0.0.1:1/x"

    done = finished(tmp_path, "check-config", database_url_file=url)

    assert (1, "") == (done.returncode, done.stdout)
    assert "ingestd: INGESTD_DATABASE_URL_FILE: must be the path of a file, and is a URL\n" == done.stderr
