"""The daemon dies in the worst moments, or stands still; nothing acknowledged is lost or doubled."""

from __future__ import annotations

import resource
import signal
import socket
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest

from tests.faults.load import assert_all_stored_once, assert_counters_balance, load, wait_for_more
from tests.faults.scene import pause, terminate_backends
from tests.support.daemon import Daemon
from tests.support.polling import until
from tests.support.readings import count, rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingestd.demo.servers import PrivateMosquitto

REPETITIONS = 2


@contextmanager
def killed_at(failpoint: str, broker: PrivateMosquitto, database_url: str) -> Iterator[Daemon]:
    """A daemon killed there under load, again and again; all is stored once when it is handed over."""
    with Daemon(
        mqtt_url=broker.url, database_url=database_url, flush_interval=0.2, failpoints=f"{failpoint}=kill@3"
    ) as daemon:
        with load(broker, rate=500) as published:
            for _ in range(REPETITIONS):
                until(lambda: daemon.exit_code == -signal.SIGKILL, within=20)
                daemon.start()
            until(lambda: daemon.exit_code == -signal.SIGKILL, within=20)
            daemon.start(failpoints="")
            daemon.wait_healthy()
        assert_all_stored_once(published, database_url)
        assert_counters_balance(daemon)
        yield daemon


def test_killed_between_commit_and_puback_the_redelivery_becomes_duplicates(
    broker: PrivateMosquitto, database_url: str
) -> None:
    with killed_at("after-commit", broker, database_url) as daemon:
        assert daemon.metric("ingestd_duplicate_total") > 0


def test_killed_before_commit_nothing_of_the_batch_remains_and_all_of_it_comes_again(
    broker: PrivateMosquitto, database_url: str
) -> None:
    with killed_at("before-commit", broker, database_url) as daemon:
        assert daemon.exit_code is None


def test_a_task_that_dies_takes_the_process_down_with_a_clear_word(broker: PrivateMosquitto, database_url: str) -> None:
    with Daemon(
        mqtt_url=broker.url, database_url=database_url, flush_interval=0.2, failpoints="flush=raise@2"
    ) as daemon:
        with load(broker, rate=500) as published:
            until(lambda: daemon.exit_code is not None, within=20)
            assert daemon.exit_code == 70
            assert "unexpected_error" in daemon.log_tail()
            assert "failpoint flush" in daemon.log_tail()
            daemon.start(failpoints="")
            daemon.wait_healthy()
        assert_all_stored_once(published, database_url)


def test_a_blocked_event_loop_costs_time_and_nothing_else(broker: PrivateMosquitto, database_url: str) -> None:
    with Daemon(
        mqtt_url=broker.url, database_url=database_url, flush_interval=0.2, failpoints="flush=block:3@2"
    ) as daemon:
        daemon.wait_healthy()
        with load(broker, rate=500) as published:
            wait_for_more(database_url, 1000)
        assert daemon.metric("ingestd_broker_connections_total") == 1
        assert_all_stored_once(published, database_url)
        assert_counters_balance(daemon)


def test_a_suspended_daemon_goes_on_where_it_was(broker: PrivateMosquitto, database_url: str) -> None:
    with Daemon(mqtt_url=broker.url, database_url=database_url, flush_interval=0.2) as daemon:
        daemon.wait_healthy()
        with load(broker, rate=500) as published:
            for _ in range(REPETITIONS):
                wait_for_more(database_url, 50)
                daemon.suspend()
                pause(1)
                daemon.resume()
        assert daemon.metric("ingestd_broker_connections_total") == 1
        assert_all_stored_once(published, database_url)
        assert_counters_balance(daemon)


def test_file_descriptors_used_up_by_clients_hold_the_daemon_up_and_no_more(
    broker: PrivateMosquitto, database_url: str
) -> None:
    with (
        Daemon(mqtt_url=broker.url, database_url=database_url, flush_interval=0.2) as daemon,
        psycopg.connect(database_url, autocommit=True) as connection,
    ):
        daemon.wait_healthy()
        address = urlsplit(daemon.url)
        with load(broker, rate=500) as published:
            wait_for_more(database_url, 50)
            limits = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
            used = psutil.Process(daemon.pid).num_fds()
            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (used + 3, limits[1]))
            with ExitStack() as clients:
                for _ in range(20):
                    with suppress(OSError):
                        clients.enter_context(socket.create_connection((address.hostname, address.port), timeout=1))
                until(lambda: psutil.Process(daemon.pid).num_fds() >= used + 3)
                terminate_backends(connection)  # and now it needs a new connection, too
                pause(2)
            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, limits)
            daemon.wait_healthy()
        assert daemon.exit_code is None
        assert_all_stored_once(published, database_url)
        assert_counters_balance(daemon)


@pytest.mark.parametrize("failpoint", ["before-commit", "after-commit"])
def test_an_http_client_that_got_no_answer_may_repeat_its_request(
    broker: PrivateMosquitto, database_url: str, failpoint: str
) -> None:
    reading = {"meterId": "m-1", "kwhConsumedAc": 0.5, "voltage": 230.0, "timestamp": rfc3339(datetime.now(UTC))}
    # The long interval keeps the failpoint for the request: the probe's flush would reach it first.
    with Daemon(
        mqtt_url=broker.url, database_url=database_url, flush_interval=60, failpoints=f"{failpoint}=kill"
    ) as daemon:
        daemon.wait_healthy()
        with pytest.raises(OSError, match=r"closed|reset"):
            daemon.request("POST", "/v1/telemetry", body=reading)
        until(lambda: daemon.exit_code == -signal.SIGKILL)
        stored = count(database_url, "meter_history")
        assert stored == (failpoint == "after-commit")
        daemon.start(failpoints="")
        daemon.wait_healthy()

        answer = daemon.request("POST", "/v1/telemetry", body=reading)

        assert answer.json() == {"accepted": 1 - stored, "duplicates": stored, "rejected": []}
        assert count(database_url, "meter_history") == 1
