# ruff: noqa: SIM300 - expected == actual
"""Commands on a terminal: bars on long work, examples in help, completion."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

import psycopg
import pytest
from click.testing import CliRunner

from ingestd.cli import commands
from tests.support.documents import ROOT

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = (sys.executable, "-c", "import sys; sys.argv[0] = 'ingestd'; from ingestd.cli import main; main()")


@pytest.mark.parametrize("on_terminal", [True, False])
def test_a_bar_is_shown_on_a_terminal_only(on_terminal: bool, database_url: str, tmp_path: Path) -> None:  # noqa: FBT001
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO dead_letter (received_at, source, stream, topic, payload, reason, detail)"
            " SELECT now(), 'mqtt', 'meter', 'meters/m/telemetry', 'x', 'not-json', 'x' FROM generate_series(1, 2500)"
        )
    ours, theirs = pty.openpty()
    finished = subprocess.run(
        [*COMMAND, "dead-letters", "replay"],
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "TERM": "xterm",
            "INGESTD_DATABASE_URL": database_url,
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs if on_terminal else subprocess.PIPE,
        timeout=60,
        check=True,
    )
    os.close(theirs)
    shown = os.read(ours, 65_536).decode() if on_terminal else finished.stderr.decode()
    os.close(ours)

    assert b"0 stored, 0 were there already, 2500 still bad\n" == finished.stdout
    assert on_terminal == ("Replaying dead letters" in shown)
    assert on_terminal == ("100%" in shown)


@pytest.mark.parametrize(
    "command",
    [["export"], ["replay"], ["dead-letters", "replay"], ["status"], ["healthcheck"], ["schema"]],
    ids=" ".join,
)
def test_help_has_an_example(command: list[str]) -> None:
    shown = CliRunner().invoke(commands, [*command, "--help"]).stdout

    assert f"\n  ingestd {' '.join(command)}" in shown


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("ingestd st", {"status"}),
        ("ingestd status --w", {"--watch"}),
        ("ingestd schema ", {"meter", "vehicle", "asyncapi"}),
    ],
)
def test_the_shell_completes_commands_options_and_arguments(words: str, offered: set[str], tmp_path: Path) -> None:
    variables = {
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
        "_INGESTD_COMPLETE": "bash_complete",
    }
    completed = subprocess.run(
        COMMAND,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout

    assert offered == {line.partition(",")[2] for line in completed.splitlines()}
