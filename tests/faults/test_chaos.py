"""A short slice of the chaos: everything fails, at random, under load. `make chaos` does it at length."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.support.daemon import ROOT

SECONDS = 15
SEED = 2
TIMEOUT_SECONDS = 150.0
"""Far more than starting, faults, recovery, draining and stopping take."""


@pytest.mark.parametrize("daemons", [1, 3])
def test_nothing_acknowledged_is_lost_or_doubled(daemons: int) -> None:
    options = {"--seconds": SECONDS, "--seed": SEED, "--daemons": daemons}
    chaos = subprocess.run(
        [sys.executable, "-m", "tests.faults.chaos", *(str(part) for option in options.items() for part in option)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )

    assert chaos.returncode == 0, chaos.stdout
    last = chaos.stdout.splitlines()[-1]
    assert re.fullmatch(rf"lost 0 doubled 0 of \d{{4,}} acknowledged, \d+ faults, seed {SEED}", last), chaos.stdout
