# ruff: noqa: SIM300 - expected == actual
"""Images and containers: what is pinned, what a container may do, and where no secret is. No container is started."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from ingestd.demo.process import LoopbackPort
from tests.support import compose
from tests.support.documents import PAGES, ROOT, all_blocks
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVICES: Final = tuple(compose.services())
RUNS_AS_ROOT: Final = "broker-files"
_is_pinned: Final = re.compile(r"[a-z0-9/-]+:v?[0-9]+(\.[0-9]+)+(-[a-z]+)*@sha256:[0-9a-f]{64}").fullmatch
_secret_in_command: Final = re.compile(
    r"""PASSWORD\s+'            # SQL
      | [A-Z_]*(PASSWORD|SECRET|TOKEN)=\S  # a variable before the command
      | ://[^/\s:@]+:[^/\s$@]+@       # an address
      | \s(-P|--password|--token)[ =]\S    # an option
      | Authorization:\ *Bearer\ \S        # a header""",
    re.VERBOSE,
).search


def test_the_services_are_found() -> None:
    assert {"broker-files", "mosquitto", "postgres", "ingestd"} <= set(SERVICES)


def test_images_of_others_are_named_by_version_and_digest() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    images = [image for service in SERVICES if (image := compose.values(service)["image"]) != "ingestd"]
    images += re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)

    assert 7 == len(images)
    assert [] == [image for image in images if not _is_pinned(image)]


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), "--no-color", ROOT / "Dockerfile"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)


def test_both_stages_of_the_image_are_of_the_same_python() -> None:
    assert 1 == len(set(re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)))


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_writes_nowhere_has_no_capability_and_gets_none(service: str) -> None:
    values = compose.values(service)

    assert "true" == values["read_only"]
    assert "[ALL]" == values["cap_drop"]
    assert '["no-new-privileges:true"]' == values["security_opt"]
    assert 256 >= int(values["pids_limit"])
    assert (service == RUNS_AS_ROOT) == ("cap_add" in values)
    assert not {"privileged", "pid", "ipc", "userns_mode", "devices"} & values.keys()
    assert "docker.sock" not in compose.services()[service]


@pytest.mark.parametrize("service", SERVICES)
def test_only_what_has_no_network_runs_as_root(service: str) -> None:
    values = compose.values(service)
    user = values.get("user", "").strip('"')
    if service == RUNS_AS_ROOT:
        assert ("0:0", "none") == (user, values["network_mode"])
    elif values.get("image") == "ingestd":
        dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
        assert "useradd --system --uid 10001 --gid ingestd" in dockerfile
        assert "\nUSER 10001:10001\n" in dockerfile
        assert "" == user
    else:
        assert re.fullmatch("[1-9][0-9]*:[1-9][0-9]*", user)


def test_the_user_of_the_broker_is_known_in_both_images() -> None:
    number = compose.values("mosquitto")["user"].strip('"').partition(":")[0]
    made = re.search(r"useradd --system --uid ([0-9]+) .* mosquitto ", (ROOT / "Dockerfile").read_text("utf-8"))

    assert made
    assert number == made[1]


def test_pgadmin_logs_in_by_the_role_that_only_reads_and_finds_its_password() -> None:
    (server,) = json.loads((ROOT / "deploy" / "pgadmin" / "servers.json").read_text(encoding="utf-8"))[
        "Servers"
    ].values()
    entry = [str(server[key]) for key in ("Host", "Port", "MaintenanceDB", "Username")]

    assert ["postgres", "5432", "ingestd", "ingestd_read"] == entry
    assert f'#   echo "{":".join(entry)}:$(cat secrets/read_password)" >secrets/pgadmin_pgpass\n' in compose.TEXT
    assert "./deploy/pgadmin/servers.json:/pgadmin4/servers.json:ro" in compose.services()["pgadmin"]


@pytest.mark.parametrize("service", [name for name in SERVICES if "profiles" in compose.values(name)])
def test_what_is_in_a_profile_is_started_by_a_command_that_is_shown(service: str) -> None:
    profile = compose.values(service)["profiles"].strip("[]")

    assert f"#   docker compose --profile {profile} up -d --wait\n" in compose.TEXT


@pytest.mark.parametrize("service", SERVICES)
def test_no_secret_is_in_a_command_line_or_a_variable(service: str) -> None:
    for name, value in compose.environment(service).items():
        if re.search("PASSWORD|SECRET|TOKEN|DATABASE_URL", name):
            assert name.endswith("_FILE"), name
            assert value.startswith(("/run/secrets/", "/var/lib/")), name
        assert not _secret_in_command(f"{name}={value}" if not name.endswith("_FILE") else value)
    assert not _secret_in_command(compose.services()[service])


def test_commands_that_are_shown_have_no_secret_in_them() -> None:
    shown = [line for block in all_blocks("sh") for line in block.text.splitlines()]
    for path in (ROOT / "docker-compose.yml", ROOT / "deploy" / "ingestd.service"):
        lines = path.read_text(encoding="utf-8").splitlines()
        # echo is a command of the shell itself, so what it is given is in no command line.
        shown += [line for line in lines if line.startswith("#   ") and not line.startswith("#   echo ")]
    inline = [code for page in PAGES for code in re.findall("`([^`\n]+)`", page.read_text(encoding="utf-8"))]
    shown += [code for code in inline if " " in code and "ing_…" not in code]

    assert len(shown) > 100
    assert [] == [line for line in shown if _secret_in_command(line)]


@pytest.mark.parametrize(
    "command",
    [
        "psql -c \"CREATE ROLE x LOGIN PASSWORD 'secret'\"",
        "PGPASSWORD=secret psql",
        "ingestd check-config postgresql://me:secret@host/db",
        "mosquitto_sub -u me -P secret",
        "curl -H 'Authorization: Bearer ing_1_2' http://127.0.0.1:8080/",
    ],
)
def test_a_secret_in_a_command_is_seen(command: str) -> None:
    assert _secret_in_command(command)


@pytest.fixture
def volume() -> Iterator[Path]:
    """A directory that other users can reach."""
    directory = Path(tempfile.mkdtemp(prefix="ingestd-volume-"))
    directory.chmod(0o755)
    yield directory / "ingestd"
    shutil.rmtree(directory)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed")
def test_the_broker_runs_with_what_compose_leaves_it(volume: Path) -> None:
    """The commands of Compose with its capabilities and users: it is made as root with three, and run with none."""
    added = compose.values(RUNS_AS_ROOT)["cap_add"].strip("[]").lower().split(", ")
    files = ["setpriv", "--no-new-privs", "--inh-caps=-all"]
    files += ["--bounding-set", ",".join(["-all", *(f"+{capability}" for capability in added)])]
    nothing = ["setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]
    nothing += ["--reuid=mosquitto", "--regid=mosquitto", "--clear-groups"]
    init = [sys.executable, "-m", "ingestd", "broker", "init", "--host", "localhost", "--dir", str(volume)]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "INGESTD_MQTT_PASSWORD": "0123456789abcdef"}

    for _ in range(2):  # as at each start
        subprocess.run([*files, *init], env=environment, cwd=volume.parent, check=True, capture_output=True, timeout=60)
    ports = [LoopbackPort() for _ in range(3)]
    configuration = (volume / "mosquitto.conf").read_text(encoding="utf-8")
    for old, new in zip(("1883 127.0.0.1", "8883", "8884"), ports, strict=True):
        listener = f"listener {new.number} 127.0.0.1"
        configuration = configuration.replace(f"listener {old}\n", f"{listener}\n")
        new.close()
    (volume / "mosquitto.conf").write_text(configuration, encoding="utf-8")
    with subprocess.Popen([*nothing, "mosquitto", "-c", str(volume / "mosquitto.conf")], env=environment) as broker:
        try:
            check = ["mosquitto_sub", "-p", str(ports[0].number), "-t", "$SYS/broker/uptime", "-C", "1", "-W", "4"]
            health = {**environment, "XDG_CONFIG_HOME": str(volume / "health")}

            def is_healthy() -> bool:
                done = subprocess.run([*nothing, *check], env=health, capture_output=True, check=False, timeout=10)
                return done.returncode == 0

            until(is_healthy, within=20)
            status = Path(f"/proc/{broker.pid}/status").read_text(encoding="utf-8")
            assert "CapEff:\t0000000000000000\n" in status
            assert "CapBnd:\t0000000000000000\n" in status
            authority = subprocess.run([*nothing, "ls", str(volume / "authority")], capture_output=True, check=False)
            assert 0 != authority.returncode, "the broker can read the key of the authority"
        finally:
            broker.terminate()
        assert 0 == broker.wait(10)
    assert (volume / "data" / "mosquitto.db").stat().st_uid != 0
