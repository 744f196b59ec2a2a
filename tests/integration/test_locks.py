# ruff: noqa: SIM300 - expected == actual
"""The lock files say everything that is installed, and are installed as they stand."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution, distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = sorted(ROOT.glob("requirements*.lock"))
BESIDE_THE_LOCKS = {"ingestd", "pip", "setuptools", "wheel"}
"""Ourselves, and what a virtual environment begins with."""
_match_pin = re.compile(r"([A-Za-z0-9._-]+)==([^ ;\\]+)").match
_match_options = re.compile(r"(?:--[a-z-]+(?: :all:)? )*--require-hashes(?: --[a-z-]+(?: :all:)?)*").search


def locked(lock: Path) -> set[tuple[str, str]]:
    """Names and versions."""
    pins = map(_match_pin, lock.read_text().splitlines())
    return {(canonicalize_name(pin[1]), pin[2]) for pin in pins if pin}


def needed(requirement: Requirement, found: dict[str, set[str]]) -> None:
    """The packages that it takes here, with all they take themselves; the extras of each are looked at once."""
    name = canonicalize_name(requirement.name)
    new_extras = ({""} | requirement.extras) - found.setdefault(name, set())
    found[name] |= new_extras
    for text in distribution(name).requires or []:
        inner = Requirement(text)
        for extra in new_extras:
            if inner.marker is None or inner.marker.evaluate({"extra": extra}):
                needed(inner, found)


def installing_lines(file: str) -> list[str]:
    """The lines that install a lock file."""
    text = (ROOT / file).read_text().replace("$(PIP_LOCKED) -r", f"{_makefile_option()} -r")
    return [line for line in text.splitlines() if "-r requirements" in line]


def _makefile_option() -> str:
    found = re.search(r"^PIP_LOCKED := \$\(PIP_INSTALL\) (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert found
    return found[1]


def test_whatever_is_installed_is_locked_in_this_version() -> None:
    installed = {(canonicalize_name(found.name), found.version) for found in distributions()}

    everything = set().union(*map(locked, LOCKS))

    assert set() == {(name, version) for name, version in installed - everything if name not in BESIDE_THE_LOCKS}


@pytest.mark.parametrize(
    ("lock", "requirements"),
    [
        ("requirements.lock", ["ingestd"]),
        ("requirements-demo.lock", ["ingestd[demo]"]),
        ("requirements-build.lock", PROJECT["build-system"]["requires"]),
        ("requirements-dev.lock", ["ingestd[demo,parquet]", *PROJECT["dependency-groups"]["dev"]]),
    ],
)
def test_a_lock_file_is_complete(lock: str, requirements: list[str]) -> None:
    found: dict[str, set[str]] = {}
    for requirement in requirements:
        needed(Requirement(requirement), found)

    assert set() == found.keys() - {name for name, _ in locked(ROOT / lock)} - {"ingestd"}


def test_a_package_has_one_version_in_all_lock_files() -> None:
    versions: dict[str, set[tuple[str, ...]]] = {}
    for lock in LOCKS:
        pins = sorted(locked(lock))
        for name in {name for name, _ in pins}:
            versions.setdefault(name, set()).add(tuple(version for other, version in pins if other == name))

    assert {} == {name: different for name, different in versions.items() if len(different) > 1}


def wheel(folder: Path, name: str, version: str, *metadata: str) -> str:
    """A package with nothing in it, in `folder`; returns its hash."""
    info = f"{name}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *metadata, ""]
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{info}/METADATA", "\n".join(lines))
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("file", ["Makefile", "Dockerfile", "README.md"])
def test_a_newer_release_on_the_index_changes_nothing(file: str, tmp_path: Path) -> None:
    index, target = tmp_path / "index", tmp_path / "target"
    index.mkdir()
    parent = wheel(index, "parent", "1.0", "Requires-Dist: child[extra]>=1")
    child = wheel(index, "child", "1.0", "Provides-Extra: extra")
    wheel(index, "child", "2.0", "Provides-Extra: extra")
    lock = tmp_path / "some.lock"
    lock.write_text(f"child==1.0 --hash=sha256:{child}\nparent==1.0 --hash=sha256:{parent}\n")

    lines = installing_lines(file)
    found = [_match_options(line) for line in lines]

    assert lines
    assert all(found), lines
    for options in {options[0] for options in found if options}:
        command = f"{sys.executable} -m pip install {options} --quiet --no-index"
        subprocess.run(
            [*command.split(), "--find-links", str(index), "--target", str(target), "-r", str(lock)],
            check=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("PIP_")},
            cwd=tmp_path,
        )
        assert ["child-1.0.dist-info", "parent-1.0.dist-info"] == sorted(path.name for path in target.iterdir())
