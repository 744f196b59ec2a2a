"""The machine on which the figures were measured."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

import ingestd
from bench.stage import find_psql


def facts() -> dict[str, Any]:
    """For the JSON; `load` is the mean number of runnable processes in the last minute, before we began."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "ingestd": ingestd.__version__,
        "commit": _commit(),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "load": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "postgresql": _version([find_psql(), "--version"], r"\) (\S+)"),
        "mosquitto": _version([_mosquitto(), "-h"], r"version (\S+)"),
    }


def described(machine: dict[str, Any]) -> str:
    """The facts in two lines, for people."""
    return (
        f"{machine['cpu']}, {machine['cores']} cores, load {machine['load']}, kernel {machine['kernel']}\n"
        f"Python {machine['python']}, PostgreSQL {machine['postgresql']}, Mosquitto {machine['mosquitto']}, "
        f"ingestd {machine['ingestd']} ({machine['commit']})"
    )


def _cpu_model() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else platform.machine()


def _mosquitto() -> str:
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"])
    return shutil.which("mosquitto", path=places) or "mosquitto"


def _version(command: list[str], pattern: str) -> str:
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        return "not found"
    found = re.search(pattern, said)
    return found[1] if found else "unknown"


def _commit() -> str:
    """What git calls the tree that is measured, `-dirty` behind it where files differ; or `no git`."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        described = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except OSError:
        return "no git"
    return described.stdout.strip() or "no git"
