"""Commands of ingestd, without a daemon."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.support.daemon import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def finished(directory: Path, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A command that was run in this directory, with these settings and no others."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("INGESTD_")}
    return subprocess.run(
        [sys.executable, "-m", "ingestd", *words],
        cwd=directory,
        env=environment
        | {"PYTHONPATH": str(ROOT)}
        | {f"INGESTD_{name.upper()}": value for name, value in settings.items()},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
