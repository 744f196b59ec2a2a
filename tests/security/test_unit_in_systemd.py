# ruff: noqa: SIM300 - expected == actual
"""The unit in a real systemd: ingestd starts, stores, reloads and stops in it, and code that it runs gets nowhere."""

from __future__ import annotations

import http.client
import json
import re
import shlex
import site
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import pytest

from ingestd.demo.process import LOOPBACK, LoopbackPort
from ingestd.demo.servers import PrivateMosquitto
from tests.support import unit_file
from tests.support.devices import Device
from tests.support.documents import ROOT
from tests.support.polling import until
from tests.support.private_systemd import PYTHON, BootError, PrivateSystemd, missing
from tests.support.readings import count, meter_message

if TYPE_CHECKING:
    from collections.abc import Iterator

PREPARE: Final = """
useradd --system --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin ingestd
{python} -m venv --without-pip /opt/ingestd
packages=$(echo /opt/ingestd/lib/python*/site-packages)
cp -a {packages}/. "$packages"
rm -f "$packages"/*.pth
cp -aL {root}/ingestd "$packages"
rm -rf "$packages/ingestd/sql"
cp -a {root}/sql "$packages/ingestd"
printf '#!/opt/ingestd/bin/python\\nfrom ingestd.cli import main\\nmain()\\n' >/opt/ingestd/bin/ingestd
chmod 755 /opt/ingestd/bin/ingestd
cp {root}/tests/support/attacks.py /opt/ingestd
install -d -m 777 /srv/open
install -d -m 755 /etc/ingestd
install -d -m 700 /etc/ingestd/credentials
umask 077
printf %s {database_url} >/etc/ingestd/credentials/database_url
printf %s 0123456789abcdef >/etc/ingestd/credentials/mqtt_password
umask 022
printf '%s\\n' INGESTD_MQTT_URL={mqtt_url} INGESTD_MQTT_USERNAME=ingestd INGESTD_HTTP_PORT={port} \
  INGESTD_FLUSH_INTERVAL=0.1 >/etc/ingestd/ingestd.env
install -d -o ingestd -g ingestd -m 700 /var/lib/ingestd
runuser -u ingestd -- env INGESTD_TOKENS_FILE=/var/lib/ingestd/tokens \
  /opt/ingestd/bin/ingestd token add me --scope read
"""
ATTACKS: Final = "/opt/ingestd/bin/python /opt/ingestd/attacks.py"
WITH_ATTACKS: Final = f"""
mkdir -p /etc/systemd/system/ingestd.service.d
printf '[Service]\\nExecStartPre=/bin/sh -c "{ATTACKS} >/var/lib/ingestd/refused"\\n' \\
  >/etc/systemd/system/ingestd.service.d/attacks.conf
systemctl daemon-reload
"""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with closing(LoopbackPort()) as port:
        yield port.number


@pytest.fixture(scope="module")
def broker() -> Iterator[PrivateMosquitto]:
    with PrivateMosquitto() as server:
        yield server


@pytest.fixture(scope="module")
def systemd(broker: PrivateMosquitto, shared_database_url: str, port: int) -> Iterator[PrivateSystemd]:
    if reason := missing():
        pytest.skip(f"no systemd of our own: {reason}")
    prepare = PREPARE.format(
        python=PYTHON,
        packages=shlex.quote(site.getsitepackages()[0]),
        root=shlex.quote(str(ROOT)),
        database_url=shlex.quote(shared_database_url),
        mqtt_url=broker.url,
        port=port,
    )
    try:
        with PrivateSystemd(prepare=prepare, units=[unit_file.UNIT]) as systemd:
            yield systemd
    except BootError as error:
        pytest.skip(f"no systemd of our own: {error}")


def health(port: int) -> int:
    try:
        with closing(http.client.HTTPConnection(LOOPBACK, port, timeout=5)) as connection:
            connection.request("GET", "/health")
            return connection.getresponse().status
    except OSError:
        return 0


def test_ingestd_works_in_its_unit_and_only_it_can_read_its_secrets(
    systemd: PrivateSystemd, broker: PrivateMosquitto, shared_database_url: str, port: int
) -> None:
    started = systemd.run("systemctl start ingestd; systemctl is-active ingestd")
    assert "active\n" == started, systemd.run("journalctl --unit ingestd --output cat; systemctl status ingestd")
    until(lambda: health(port) == http.client.OK)
    with Device(broker.url) as device:
        device.publish(*meter_message("meter-001", datetime.now(UTC)))
    until(lambda: count(shared_database_url, "meter_history") == 1)

    process = "/proc/$(systemctl show --property MainPID --value ingestd)"
    status = systemd.run(f"cat {process}/status")
    assert {"0" * 16} == set(re.findall(r"^Cap(?:Eff|Prm|Bnd|Amb|Inh):\t(\w+)$", status, re.MULTILINE))
    assert "NoNewPrivs:\t1\n" in status
    assert "Seccomp:\t2\n" in status
    limits = systemd.run(f"cat {process}/limits")
    assert re.search(r"^Max open files +1024 +1024 ", limits, re.MULTILINE)
    assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE)

    everything = systemd.run(f"tr '\\0' '\\n' <{process}/environ; tr '\\0' ' ' <{process}/cmdline")
    assert "INGESTD_DATABASE_URL_FILE=/run/credentials/ingestd.service/database_url\n" in everything
    assert "postgresql://" not in everything
    assert "0123456789abcdef" not in everything
    secrets = systemd.run("stat --format '%a %U' /run/credentials/ingestd.service/*")
    assert {"400 ingestd"} == set(secrets.splitlines())
    refused = systemd.run("runuser -u nobody -- cat /run/credentials/ingestd.service/mqtt_password")
    assert "Permission denied" in refused

    systemd.run("systemctl reload ingestd")
    until(lambda: '"file_read"' in systemd.run("journalctl --unit ingestd --output cat"))
    stopped = systemd.run("systemctl stop ingestd; systemctl show --property Result --property ExecMainStatus ingestd")
    assert {"Result=success", "ExecMainStatus=0"} == set(stopped.split())
    assert '"stopped"' in systemd.run("journalctl --unit ingestd --output cat")


def test_a_secret_in_the_environment_file_is_refused(systemd: PrivateSystemd) -> None:
    systemd.run("cp /etc/ingestd/ingestd.env /root; echo INGESTD_MQTT_PASSWORD=secret >>/etc/ingestd/ingestd.env")

    systemd.run("systemctl start --no-block ingestd")

    until(lambda: "INGESTD_MQTT_PASSWORD_FILE are both set" in systemd.run("journalctl --unit ingestd --output cat"))
    systemd.run("systemctl stop ingestd; mv /root/ingestd.env /etc/ingestd")


def test_a_credential_that_is_missing_is_named_by_its_status(systemd: PrivateSystemd) -> None:
    systemd.run("mv /etc/ingestd/credentials/mqtt_password /root")

    systemd.run("systemctl start --no-block ingestd")

    until(lambda: "status=243/CREDENTIALS" in systemd.run("systemctl status ingestd"))
    systemd.run("systemctl stop ingestd; mv /root/mqtt_password /etc/ingestd/credentials")


def test_code_that_the_daemon_is_made_to_run_gets_nowhere(systemd: PrivateSystemd) -> None:
    """The attempts are made as a process of the unit, and without it as the same user, where most of them succeed."""
    systemd.run("echo x >/tmp/of-others; chmod 644 /tmp/of-others")
    without = json.loads(systemd.run(f"runuser -u ingestd -- {ATTACKS}"))
    systemd.run(WITH_ATTACKS)
    systemd.run("systemctl start ingestd")

    within = json.loads(systemd.run("cat /var/lib/ingestd/refused"))
    systemd.run("systemctl stop ingestd; rm -r /etc/systemd/system/ingestd.service.d; systemctl daemon-reload")
    assert [] == [name for name, reason in within.items() if reason is None]
    assert 9 <= len([name for name, reason in without.items() if reason is None]), without
