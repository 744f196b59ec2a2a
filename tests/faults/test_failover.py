"""The primary fails under load, a standby is promoted, and the daemon goes on there by itself."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

import pytest

from tests.faults.load import assert_all_stored_once, assert_counters_balance, load, wait_for_more
from tests.faults.scene import frozen, pause
from tests.support.daemon import Daemon
from tests.support.polling import until
from tests.support.readings import count, keys_promised, keys_stored
from tests.support.replication import commit_on_both, configure, several_hosts, standby_of, states

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingestd.demo.servers import PrivateMosquitto, PrivatePostgres
    from tests.support.replication import StandbyPostgres

log = logging.getLogger(__name__)

COMMITS_WITHIN: Final = 20.0
"""The contract: seconds on this process's monotonic clock, from the return of pg_promote to the next commit."""
RATE: Final = 500


@pytest.fixture
def standby(own_postgres: PrivatePostgres, own_database_url: str) -> Iterator[StandbyPostgres]:
    """A synchronous one, of a migrated database."""
    assert own_database_url
    with standby_of(own_postgres) as server:
        commit_on_both(own_postgres)
        yield server


@pytest.fixture
def daemon(broker: PrivateMosquitto, own_postgres: PrivatePostgres, standby: StandbyPostgres) -> Iterator[Daemon]:
    """One that knows both hosts, and is healthy."""
    url = several_hosts(own_postgres, standby)
    with Daemon(mqtt_url=broker.url, database_url=url, flush_interval=0.1) as daemon:
        daemon.wait_healthy()
        yield daemon


def promote(standby: StandbyPostgres) -> None:
    """Returns when somebody has committed there, which has to be in time."""
    standby.promote()
    promoted_at = time.monotonic()
    url = standby.dsn("ingestd")
    before = count(url, "meter_history")
    until(lambda: count(url, "meter_history") > before, within=COMMITS_WITHIN)
    log.info("committing again %.2f s after the promotion", time.monotonic() - promoted_at)


def test_a_killed_primary_loses_and_doubles_nothing_where_the_standby_is_synchronous(
    broker: PrivateMosquitto,
    own_postgres: PrivatePostgres,
    own_database_url: str,
    standby: StandbyPostgres,
    daemon: Daemon,
) -> None:
    with load(broker, rate=RATE) as published:
        wait_for_more(own_database_url, 500)
        own_postgres.kill()
        until(lambda: daemon.request("GET", "/health").status == 503)
        promote(standby)
        daemon.wait_healthy()
    assert_all_stored_once(published, standby.dsn("ingestd"))
    assert_counters_balance(daemon)


def test_a_primary_that_hangs_is_left_for_the_promoted_standby(
    broker: PrivateMosquitto,
    own_postgres: PrivatePostgres,
    own_database_url: str,
    standby: StandbyPostgres,
    daemon: Daemon,
) -> None:
    with load(broker, rate=RATE) as published:
        wait_for_more(own_database_url, 500)
        with frozen(own_postgres):
            until(lambda: daemon.metric("ingestd_in_flight") > RATE)
            promote(standby)
            daemon.wait_healthy()
        # It wakes up and takes writes. It cannot commit any, as no standby follows it.
        wait_for_more(standby.dsn("ingestd"), RATE)
    assert_all_stored_once(published, standby.dsn("ingestd"))
    assert_counters_balance(daemon)


def test_a_daemon_that_starts_while_the_first_host_is_away_and_its_commands_use_the_other(
    broker: PrivateMosquitto, own_postgres: PrivatePostgres, standby: StandbyPostgres
) -> None:
    own_postgres.kill()
    standby.promote()
    with Daemon(mqtt_url=broker.url, database_url=several_hosts(own_postgres, standby), flush_interval=0.1) as daemon:
        daemon.wait_healthy()
        assert "the database can be used" in daemon.command("check-config", "--connect")
        assert "connected" in daemon.command("status")
        assert "meter_history" in daemon.command("partitions")
        assert "meterId" in daemon.command("export", "meters", "--start", "2026-01-01T00:00:00Z")
        daemon.command("dead-letters", "replay")
        daemon.command("migrate")


def test_a_primary_that_restarts_without_its_standby_acknowledges_nothing_that_only_it_has(
    broker: PrivateMosquitto,
    own_postgres: PrivatePostgres,
    own_database_url: str,
    standby: StandbyPostgres,
    daemon: Daemon,
) -> None:
    """Its recovery shows what the standby does not have. That is no duplicate yet: the standby may be promoted."""
    with load(broker, rate=RATE) as published:
        wait_for_more(own_database_url, RATE)
        standby.stop()
        until(lambda: daemon.metric("ingestd_in_flight") > RATE)
        own_postgres.kill()
        own_postgres.start()
        until(lambda: count(own_database_url, "meter_history") > 0, within=30)
        settled = daemon.metric("ingestd_committed_total") + daemon.metric("ingestd_duplicate_total")
        pause(5)
        assert settled == daemon.metric("ingestd_committed_total") + daemon.metric("ingestd_duplicate_total")
        own_postgres.kill()
        standby.start()
        standby.promote()
        daemon.wait_healthy(within=60)
    assert_all_stored_once(published, standby.dsn("ingestd"))
    assert_counters_balance(daemon)


@pytest.mark.parametrize("behind_seconds", [0.0, 1.0])
def test_what_an_asynchronous_standby_has_not_received_is_lost(
    broker: PrivateMosquitto, own_postgres: PrivatePostgres, own_database_url: str, behind_seconds: float
) -> None:
    """Measured, not promised: it is why the standby has to be synchronous."""
    rate = 2000
    with standby_of(own_postgres) as standby:
        url = several_hosts(own_postgres, standby)
        with Daemon(mqtt_url=broker.url, database_url=url, flush_interval=0.1) as daemon:
            daemon.wait_healthy()
            with load(broker, rate=rate) as published:
                wait_for_more(own_database_url, rate)
                if behind_seconds:
                    configure(standby, primary_conninfo="")
                    until(lambda: not states(own_postgres))
                    pause(behind_seconds)
                own_postgres.kill()
                standby.promote()
                daemon.wait_healthy(within=COMMITS_WITHIN)
            until(lambda: daemon.metric("ingestd_received_total") >= len(published.acknowledged), within=30)
            until(lambda: daemon.metric("ingestd_in_flight") == 0)
            promised, stored = keys_promised(published.acknowledged), keys_stored(standby.dsn("ingestd"))
            lost = len(promised - set(stored))
            log.info("%s s behind at %s/s: %s of %s readings lost", behind_seconds, rate, lost, len(promised))
            assert len(set(stored)) == len(stored)
            assert (lost > 0) or not behind_seconds
