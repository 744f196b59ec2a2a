# ruff: noqa: SIM300 - expected == actual
"""What is shipped: a wheel with everything the program needs, run from an empty directory, far from the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import psycopg
import pytest

import ingestd
from ingestd.store.migrations import available

ROOT = Path(__file__).parents[2]
DEADLINE = 120.0


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    """Standard output of a command that has to succeed; nothing of our own settings or paths is passed on."""
    ours = ("INGESTD_", "PYTHON", "PIP_", "COV", "VIRTUAL_ENV")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    finished = subprocess.run(
        command,
        cwd=cwd,
        env={**inherited, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert 0 == finished.returncode, f"{finished.stdout}\n{finished.stderr}"
    return finished.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dist = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", dist, ROOT, cwd=dist)
    (built,) = dist.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the programs of a new virtual environment that has the wheel and its dependencies."""
    place = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", "--without-pip", place, cwd=place)
    install = ("install", "--quiet", "--no-index", "--no-deps", wheel)
    run(sys.executable, "-m", "pip", "--python", place / "bin" / "python", *install, cwd=place)
    # The dependencies are those of the environment that the tests run in. Its own .pth files, which lead to the
    # checkout, are not read by this: that happens in a site directory only, not in one that a .pth file adds.
    (packages,) = place.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return place / "bin"


def test_the_wheel_holds_the_whole_program_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert len(names) == len(set(names))
    shipped = {name for name in names if ".dist-info/" not in name}

    package = ROOT / "ingestd"
    wanted = {
        f"ingestd/{file.relative_to(package)}"
        for pattern in ("**/*.py", "py.typed", "web/**/*.*", "sql/**/*.sql", "broker/files/*")
        for file in package.glob(pattern)
        if file.is_file()
    }
    assert {"ingestd/py.typed", "ingestd/sql/schema/0001_history.sql", "ingestd/sql/queries/write.sql"} <= wanted
    assert wanted == shipped
    assert f"ingestd-{ingestd.__version__}.dist-info/licenses/LICENSE" in names


def test_the_program_runs_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    place = run(installed / "python", "-c", "import ingestd; print(ingestd.__file__)", cwd=tmp_path)

    assert Path(place.strip()).is_relative_to(installed.parent)
    assert f"{ingestd.__version__}\n" == run(installed / "ingestd", "version", cwd=tmp_path)
    assert "INGESTD_HTTP_PORT=8080\n" in run(installed / "ingestd", "check-config", cwd=tmp_path)
    assert [] == list(tmp_path.iterdir())


def test_the_program_brings_its_schema_along(installed: Path, tmp_path: Path, empty_database_url: str) -> None:
    applied = run(installed / "ingestd", "migrate", cwd=tmp_path, INGESTD_DATABASE_URL=empty_database_url)

    names = [f"{migration.version:04}_{migration.name}" for migration in available()]
    assert names == applied.splitlines()[: len(names)]
    listed = run(installed / "ingestd", "dead-letters", "list", cwd=tmp_path, INGESTD_DATABASE_URL=empty_database_url)
    assert "" == listed
    with psycopg.connect(empty_database_url) as connection:
        assert [(len(available()),)] == connection.execute("SELECT count(*) FROM ingestd_migration").fetchall()
