"""Commands of ingestd, without a daemon."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from tests.support.daemon import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_MANY: Final = """
import io, json, os, sys
from ingestd.cli import main
sys.stdout, sys.stderr = io.StringIO(), io.StringIO()  # the same for all: a logger keeps the one that it has seen first
for word, settings in json.load(sys.stdin):
    for name in [name for name in os.environ if name.startswith("INGESTD_")]:
        del os.environ[name]
    os.environ.update({f"INGESTD_{name.upper()}": value for name, value in settings.items()})
    sys.argv = ["ingestd", word]
    for stream in (sys.stdout, sys.stderr):
        stream.seek(0)
        stream.truncate()
    try:
        main()
    except SystemExit as end:
        print(json.dumps([end.code, sys.stdout.getvalue(), sys.stderr.getvalue()]), file=sys.__stdout__)
"""


def finished(directory: Path, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A command that was run in this directory, with these settings and no others."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("INGESTD_")}
    return finished_in(
        others | {f"INGESTD_{name.upper()}": value for name, value in settings.items()}, directory, *words
    )


def finished_in(environment: Mapping[str, str], directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The same, with this environment and no other."""
    return subprocess.run(
        [sys.executable, "-m", "ingestd", *words],
        cwd=directory,
        env={"PATH": os.environ["PATH"], **environment, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def many_finished(
    directory: Path, commands: Sequence[tuple[str, dict[str, str]]]
) -> list[subprocess.CompletedProcess[str]]:
    """Commands with their settings, run one after the other in one process: a process for each takes half a second."""
    done = subprocess.run(
        [sys.executable, "-c", _MANY],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (0, "") == (done.returncode, done.stderr)  # noqa: SIM300 - expected == actual
    return [
        subprocess.CompletedProcess([word], *json.loads(line))
        for (word, _), line in zip(commands, done.stdout.splitlines(), strict=True)
    ]
