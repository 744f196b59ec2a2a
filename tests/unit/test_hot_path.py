# ruff: noqa: SIM300 - expected == actual
"""The way of a message from the wire to COPY's bytes has not become dearer. What is measured, and how: hot_path.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

HIGHEST_RATIO = 1.6
"""1.24 where this was written. Far from it, as another Python or processor moves it; the calls are what is exact."""
MOST_CALLS = 16.0
"""15.6, on Python 3.11. One more thing done for each message, such as a second validation, makes it 16.6."""
MOST_HELD_BYTES = 280
"""258: a tuple of six, its strings and numbers, the packet id. The payload is not kept."""


@pytest.fixture(scope="module")
def figures(pytestconfig: pytest.Config) -> dict[str, float]:
    """Measured in a process of its own, without coverage, which would slow us down and not the reference."""
    finished = subprocess.run(
        [sys.executable, "-m", "tests.support.hot_path"],
        cwd=pytestconfig.rootpath,
        env={name: value for name, value in os.environ.items() if not name.startswith("COV")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert 0 == finished.returncode, finished.stderr
    measured: dict[str, float] = json.loads(finished.stdout)
    return measured


def test_a_message_takes_no_more_cpu_time_than_it_did(figures: dict[str, float]) -> None:
    assert figures["ratio"] < HIGHEST_RATIO


def test_a_message_takes_no_more_calls_than_it_did(figures: dict[str, float]) -> None:
    assert figures["calls"] < MOST_CALLS


def test_a_waiting_message_takes_no_more_memory_than_it_did(figures: dict[str, float]) -> None:
    assert figures["held_bytes"] < MOST_HELD_BYTES
