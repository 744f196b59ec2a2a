"""`ingestd demo` as a newcomer meets it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.support.daemon import ROOT
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator


def get(address: str) -> Any:  # noqa: ANN401 - JSON
    with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310 - loopback
        return json.load(answer)


@pytest.fixture
def directory() -> Iterator[Path]:
    """For temporary files; pytest's own cannot be entered by the account that root runs the servers as."""
    with TemporaryDirectory(prefix="ingestd-test-") as path:
        Path(path).chmod(0o755)
        yield Path(path)


def test_demo_invites_shows_a_bad_charger_and_leaves_nothing_behind(directory: Path) -> None:
    output = directory / "output"
    with output.open("wb") as file:
        demo = subprocess.Popen(
            [sys.executable, "-m", "ingestd", "demo", "--port", "0"],
            env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(directory)},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: "Ctrl-C ends it" in output.read_text() or demo.poll() is not None, within=120)
        text = output.read_text()
        assert demo.poll() is None, text
        children = psutil.Process(demo.pid).children(recursive=True)
        assert len(children) > 2
        matched = re.search(r"ingestd is at (http://\S+),", text)
        assert matched is not None
        address = matched[1]
        bad = get(f"{address}/v1/analytics/performance/EV-0001")
        good = get(f"{address}/v1/analytics/performance/EV-0002")
        assert bad["status"] == "below-threshold"
        assert pytest.approx(0.78, abs=0.001) == bad["energy"]["efficiencyRatio"]
        assert good["status"] == "ok"
        # All of the last day is there when the invitation is: a reading a minute, and those that have come since.
        assert good["samples"]["vehicle"] >= 1440
        assert good["samples"]["meter"] >= 1440
        fleet = f"{address}/v1/analytics/fleet"
        until(lambda: get(fleet)["devices"] == {"meters": 20, "vehicles": 20}, within=60)
        before = get(f"{address}/v1/analytics/vehicle/EV-0003/live")["timestamp"]
        until(lambda: get(f"{address}/v1/analytics/vehicle/EV-0003/live")["timestamp"] > before, within=20)
    finally:
        demo.send_signal(signal.SIGINT)
        exit_code = demo.wait(30)
    assert exit_code == 0, output.read_text()
    assert [child for child in children if child.is_running()] == []
    assert [output] == list(directory.iterdir())
