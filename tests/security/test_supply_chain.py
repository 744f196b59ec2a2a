# ruff: noqa: SIM300 - expected == actual
"""What ingestd is built from, and by whom: known vulnerabilities, the list of parts, and the workflow of the host."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest
from packaging.utils import canonicalize_name

from tests.support.documents import ROOT

if TYPE_CHECKING:
    from pathlib import Path

WORKFLOWS: Final = sorted((ROOT / ".github" / "workflows").iterdir())
MAKEFILE: Final = (ROOT / "Makefile").read_text(encoding="utf-8")
CLEAN: Final = {"name": "yarl", "version": "1.0", "vulns": []}
SKIPPED: Final = {"name": "yarl", "skip_reason": "Dependency not found on PyPI and could not be audited: yarl (1.0)"}
HURT: Final = {"name": "yarl", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1", "2.0"]}]}


def audited(directory: Path, report: str, errors: str = "") -> tuple[int, str]:
    """Status and output of what `make audit` does with the output of pip-audit."""
    (directory / "report").write_text(report)
    (directory / "errors").write_text(errors)
    done = subprocess.run(
        [sys.executable, ROOT / ".ci" / "audit.py", directory / "report", directory / "errors"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert "" == done.stderr
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("packages", "status", "line"),
    [
        ([CLEAN], 0, "audit: no known vulnerability in 1 packages\n"),
        ([CLEAN, HURT], 1, "audit: yarl 1.0: PYSEC-1, fixed in 1.1, 2.0\n"),
        ([CLEAN, SKIPPED], 3, f"audit: 1 of 2 packages could not be looked up, as {SKIPPED['skip_reason']}\n"),
        ([], 3, "audit: 0 of 0 packages could not be looked up\n"),
    ],
)
def test_an_audit_tells_nothing_found_from_nothing_known(
    tmp_path: Path, packages: list[Any], status: int, line: str
) -> None:
    assert (status, line) == audited(tmp_path, json.dumps({"dependencies": packages, "fixes": []}))


def test_a_vulnerability_counts_more_than_what_could_not_be_looked_up(tmp_path: Path) -> None:
    status, output = audited(tmp_path, json.dumps({"dependencies": [HURT, SKIPPED]}))

    assert 1 == status
    assert "PYSEC-1" in output
    assert "1 of 2 packages could not be looked up" in output


def test_an_audit_without_a_network_says_so_in_one_line(tmp_path: Path) -> None:
    errors = "Traceback …\nConnectionError: Failed to resolve 'pypi.org'\n"

    assert (3, "audit: nothing could be looked up: ConnectionError: Failed to resolve 'pypi.org'\n") == audited(
        tmp_path, "", errors
    )


def test_the_tools_are_installed_as_locked_and_not_among_those_of_developers() -> None:
    tools = (ROOT / "requirements-supply.lock").read_text(encoding="utf-8")
    of_developers = (ROOT / "requirements-dev.lock").read_text(encoding="utf-8")

    for tool in ("pip-audit", "cyclonedx-bom"):
        assert re.search(rf"^{tool}==[0-9.]+ \\\n +--hash=sha256:", tools, re.MULTILINE)
        assert f"\n{tool}==" not in of_developers
    assert "--require-hashes --only-binary :all: -r requirements-supply.lock" in MAKEFILE


def test_an_audit_is_of_all_lock_files() -> None:
    assert "$(addprefix -r ,$(wildcard requirements*.lock))" in MAKEFILE


def test_the_list_of_parts_has_each_locked_package_with_its_hashes() -> None:
    written, lock_file = ROOT / "dist" / "ingestd.cdx.json", ROOT / "requirements.lock"
    if not written.exists() or written.stat().st_mtime < lock_file.stat().st_mtime:
        pytest.skip("`make sbom` has not been run since the lock file was written; it needs the network")
    parts = json.loads(written.read_text(encoding="utf-8"))
    lock = lock_file.read_text(encoding="utf-8")
    locked = {
        (canonicalize_name(name), version) for name, version in re.findall(r"^([\w.-]+)==([^ \\]+)", lock, re.MULTILINE)
    }

    assert ("CycloneDX", "1.6") == (parts["bomFormat"], parts["specVersion"])
    assert "ingestd" == parts["metadata"]["component"]["name"]
    assert re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", parts["metadata"]["component"]["version"])
    assert locked == {(part["name"], part["version"]) for part in parts["components"]}
    for part in parts["components"]:
        assert f"pkg:pypi/{part['name']}@{part['version']}" == part["purl"]
        assert any(reference["hashes"] for reference in part["externalReferences"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_names_actions_by_commit_and_may_only_read(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    steps = re.findall(r"uses: *(.*)", text)

    assert steps
    assert [] == [
        step for step in steps if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v[0-9]+\.[0-9]+\.[0-9]+", step)
    ]
    assert ["permissions:\n  contents: read\n"] == re.findall(r"permissions:.*\n(?:  .*\n)*", text)
    assert not re.search(r"\bsecrets\.\w", text)
    assert "pull_request_target" not in text
    assert text.count("actions/checkout@") == text.count("persist-credentials: false")
    assert text.count("runs-on:") == text.count("timeout-minutes:")
    assert "\nconcurrency:\n" in text
    # What others write, as the title of a pull request, must not become a part of a command.
    assert ["github.ref"] == re.findall(r"\$\{\{ *(\S+) *\}\}", text)


def test_the_workflow_runs_what_developers_run() -> None:
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")

    assert [".ci/run", "make sbom", "make audit"] == re.findall(r"- run: (.*)", text)


def test_the_policy_says_where_to_report_and_names_no_address() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")

    assert "security advisory" in text
    assert "](docs/security.md)" in text
    assert "@" not in text
