# ruff: noqa: SIM300 - expected == actual
"""`ingestd demo` as a newcomer meets it."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from shutil import which
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


def assert_there_is_something_to_see(address: str) -> None:
    """A dead letter, and an alert of a meter that is silent."""
    assert ["schema"] == [letter["reason"] for letter in get(f"{address}/v1/dead-letters")["deadLetters"]]
    (alert,) = until(lambda: get(f"{address}/v1/alerts")["alerts"], within=120)
    assert ("meter-silent", "meter-0021") == (alert["kind"], alert["deviceId"])


def assert_the_lines_that_it_prints_work(text: str, address: str, directory: Path) -> None:
    """Pasted twice, the second a second later: each reading is a new one. `ingestd status` finds the daemon."""
    (send,) = re.findall(r"^ +(curl \S+/v1/telemetry .*)$", text, re.MULTILINE)
    exports = "\n".join(re.findall(r"^ +(export .*)$", text, re.MULTILINE))
    ingestd = shlex.join([sys.executable, "-m", "ingestd"])
    lines = [exports, send, "sleep 1.1", send, f"{ingestd} status"]
    if which("mosquitto_pub"):
        lines += ["sleep 1.1", *re.findall(r"^ +(mosquitto_pub .*)$", text, re.MULTILINE)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("INGESTD_")}
    pasted = subprocess.run(
        ["sh", "-e"],
        input="\n".join(lines),
        cwd=directory,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert 2 == pasted.stdout.count('"duplicates":0'), pasted.stdout
    assert f"daemon         healthy  {address}\n" in pasted.stdout
    assert "database       connected\n" in pasted.stdout


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
        until(lambda: get(fleet)["devices"] == {"meters": 21, "vehicles": 20}, within=60)
        before = get(f"{address}/v1/analytics/vehicle/EV-0003/live")["timestamp"]
        until(lambda: get(f"{address}/v1/analytics/vehicle/EV-0003/live")["timestamp"] > before, within=20)
        assert_there_is_something_to_see(address)
        assert_the_lines_that_it_prints_work(text, address, directory)
    finally:
        demo.send_signal(signal.SIGINT)
        exit_code = demo.wait(30)
    assert exit_code == 0, output.read_text()
    assert [child for child in children if child.is_running()] == []
    assert [output] == list(directory.iterdir())
