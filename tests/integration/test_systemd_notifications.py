# ruff: noqa: SIM300 - expected == actual
"""What the daemon tells systemd: ready, reloading, stopping, and signs of life as long as its event loop runs."""

from __future__ import annotations

import os
import re
import signal
import time
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from tests.support.daemon import Daemon
from tests.support.devices import Device
from tests.support.notifications import NotifySocket
from tests.support.polling import until
from tests.support.readings import count, meter_message

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from ingestd.demo.servers import PrivateMosquitto

ALIVE = "WATCHDOG=1"
BLOCKED = 3.0


def test_ready_comes_before_reloading_and_stopping_comes_last(
    broker: PrivateMosquitto, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with NotifySocket(tmp_path) as systemd:
        monkeypatch.setenv("NOTIFY_SOCKET", str(systemd.path))
        with Daemon(mqtt_url=broker.url, database_url=database_url) as daemon:
            until(lambda: systemd.states == ["READY=1"])
            before = time.monotonic_ns() // 1000
            os.kill(daemon.pid, signal.SIGHUP)
            until(lambda: len(systemd.states) == 3)
            daemon.terminate()
            until(lambda: len(systemd.states) == 4)

    ready, reloading, ready_again, stopping = systemd.states
    assert ("READY=1", "READY=1", "STOPPING=1") == (ready, ready_again, stopping)
    found = re.fullmatch("RELOADING=1\nMONOTONIC_USEC=([0-9]+)", reloading)
    assert found
    assert before <= int(found[1]) <= time.monotonic_ns() // 1000


def test_a_standby_that_reads_files_again_does_not_say_that_it_is_ready(
    broker: PrivateMosquitto, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Daemon(mqtt_url=broker.url, database_url=database_url) as active:
        active.wait_healthy()
        with NotifySocket(tmp_path) as systemd:
            monkeypatch.setenv("NOTIFY_SOCKET", str(systemd.path))
            with Daemon(mqtt_url=broker.url, database_url=database_url) as standby:
                until(lambda: "standby" in standby.log.read_text())
                until(lambda: active.command("reload").count("daemon ingestd: ") == 2)  # both have read
                assert [] == systemd.states


def test_no_sign_of_life_comes_while_the_event_loop_is_blocked(
    broker: PrivateMosquitto, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with NotifySocket(tmp_path) as systemd:
        monkeypatch.setenv("NOTIFY_SOCKET", str(systemd.path))
        monkeypatch.setenv("WATCHDOG_USEC", "800000")  # fed every 0.2 s
        with Daemon(
            mqtt_url=broker.url, database_url=database_url, flush_interval=0.1, failpoints=f"flush=block:{BLOCKED}"
        ) as daemon:
            until(lambda: systemd.states.count(ALIVE) >= 5)
            with Device(broker.url) as device:
                device.publish(*meter_message("meter-001", datetime.now(UTC)))
            until(lambda: count(database_url, "meter_history") == 1)
            after = len(systemd.times(ALIVE))
            until(lambda: len(systemd.times(ALIVE)) >= after + 5)
            daemon.terminate()

    longest = max(later - earlier for earlier, later in pairwise(systemd.times(ALIVE)))
    assert BLOCKED - 0.5 <= longest
