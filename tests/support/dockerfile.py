"""The Dockerfile taken apart, and its steps performed without an engine: in a directory that stands for the root.

What is of the image itself (its Python, its system) is that of this machine.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.documents import ROOT

if TYPE_CHECKING:
    from pathlib import Path

TEXT: Final = (ROOT / "Dockerfile").read_text(encoding="utf-8")
IGNORED: Final = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
DEADLINE: Final = 300.0
MAPPED: Final = ("/opt/ingestd", "/var/lib/ingestd", "/src")
"""Paths of the image that steps write to."""
_is_unreachable: Final = re.compile(
    "NewConnectionError|NameResolutionError|Temporary failure in name resolution|Network is unreachable"
).search


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """From one FROM to the next."""

    image: str
    name: str
    steps: list[tuple[str, str]]
    """Instruction and its text, in one line."""

    def all(self, instruction: str) -> list[str]:
        return [text for other, text in self.steps if other == instruction]

    def environment(self) -> dict[str, str]:
        return dict(re.findall(r"(\w+)=(\S+)", " ".join(self.all("ENV"))))


def stages() -> list[Stage]:
    found: list[Stage] = []
    lines = "\n".join(line for line in TEXT.splitlines() if not line.startswith("#")).replace("\\\n", " ")
    for line in filter(None, map(str.strip, lines.splitlines())):
        instruction, _, text = line.partition(" ")
        if instruction == "FROM":
            image, _, name = text.partition(" AS ")
            found.append(Stage(image=image, name=name, steps=[]))
        else:
            found[-1].steps.append((instruction, text.strip()))
    return found


def context(directory: Path) -> Path:
    """What of the checkout reaches the build, by .dockerignore."""
    assert IGNORED[1] == "*", "all is left out but what is named"
    for name in (line.removeprefix("!") for line in IGNORED if line.startswith("!")):
        source, target = ROOT / name, directory / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    return directory


@dataclass(slots=True, kw_only=True)
class Build:
    """The build stage, performed below `root`, with a Python of its own as in the image."""

    root: Path
    context: Path
    environment: dict[str, str] = field(default_factory=dict)
    _directory: Path | None = None

    def perform(self, stage: Stage) -> None:
        """Skips the test where no index of packages is reached."""
        python = self.root / "usr"
        subprocess.run([sys.executable, "-m", "venv", python], check=True, timeout=DEADLINE)
        ours = ("INGESTD_", "PYTHON", "COV", "VIRTUAL_ENV")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        self.environment["PATH"] = f"{python / 'bin'}:/usr/local/bin:/usr/bin:/bin"
        for instruction, text in stage.steps:
            match instruction:
                case "ENV":
                    self.environment |= dict(re.findall(r"(\w+)=(\S+)", text))
                    self.environment.pop("PIP_NO_CACHE_DIR", None)  # here the packages need not come anew each time
                case "WORKDIR":
                    self._directory = self.path(text)
                    self._directory.mkdir(parents=True, exist_ok=True)
                case "COPY":
                    self._copy(*text.split())
                case "RUN":
                    self._run(text)
                case _:
                    pytest.fail(f"a step of a kind that is not known here: {instruction}")

    def path(self, text: str) -> Path:
        """Where a path of the image is here."""
        return self.root / text.lstrip("/")

    def _copy(self, *words: str) -> None:
        assert self._directory
        *sources, target = words
        for source in map(self.context.joinpath, sources):
            if source.is_dir():
                shutil.copytree(source, self._directory / target, dirs_exist_ok=True)
            else:
                shutil.copy(source, self._directory / target)

    def _run(self, command: str) -> None:
        for path in MAPPED:
            command = command.replace(path, str(self.path(path)))
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self._directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        output = f"{command}\n{done.stdout}\n{done.stderr}"
        if done.returncode != 0 and _is_unreachable(output):
            pytest.skip("no index of packages is reached")
        assert done.returncode == 0, output
