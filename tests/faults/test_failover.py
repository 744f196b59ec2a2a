"""The primary fails under load, a standby is promoted, and the daemon goes on there by itself."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

import pytest

from tests.faults.load import assert_all_stored_once, assert_counters_balance, load, wait_for_more
from tests.faults.scene import frozen
from tests.support.daemon import Daemon
from tests.support.polling import until
from tests.support.readings import count
from tests.support.replication import commit_on_both, several_hosts, standby_of

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


def seconds_until_it_commits(url: str, promoted_at: float) -> float:
    before = count(url, "meter_history")
    until(lambda: count(url, "meter_history") > before, within=COMMITS_WITHIN)
    return time.monotonic() - promoted_at


def test_a_killed_primary_loses_and_doubles_nothing_where_the_standby_is_synchronous(
    broker: PrivateMosquitto, own_postgres: PrivatePostgres, own_database_url: str, standby: StandbyPostgres
) -> None:
    url = several_hosts(own_postgres, standby)
    with Daemon(mqtt_url=broker.url, database_url=url, flush_interval=0.1) as daemon:
        daemon.wait_healthy()
        with load(broker, rate=RATE) as published:
            wait_for_more(own_database_url, 500)
            own_postgres.kill()
            until(lambda: daemon.request("GET", "/health").status == 503)
            standby.promote()
            promoted_at = time.monotonic()
            took = seconds_until_it_commits(standby.dsn("ingestd"), promoted_at)
            log.info("committing again %.2f s after the promotion", took)
            daemon.wait_healthy()
        assert_all_stored_once(published, standby.dsn("ingestd"))
        assert_counters_balance(daemon)
        assert took < COMMITS_WITHIN


def test_a_primary_that_hangs_is_left_for_the_promoted_standby(
    broker: PrivateMosquitto, own_postgres: PrivatePostgres, own_database_url: str, standby: StandbyPostgres
) -> None:
    url = several_hosts(own_postgres, standby)
    with Daemon(mqtt_url=broker.url, database_url=url, flush_interval=0.1) as daemon:
        daemon.wait_healthy()
        with load(broker, rate=RATE) as published:
            wait_for_more(own_database_url, 500)
            with frozen(own_postgres):
                until(lambda: daemon.metric("ingestd_in_flight") > RATE)
                standby.promote()
                promoted_at = time.monotonic()
                took = seconds_until_it_commits(standby.dsn("ingestd"), promoted_at)
                log.info("committing again %.2f s after the promotion", took)
                daemon.wait_healthy()
            # It wakes up and takes writes. It cannot commit any, as no standby follows it.
            wait_for_more(standby.dsn("ingestd"), RATE)
        assert_all_stored_once(published, standby.dsn("ingestd"))
        assert_counters_balance(daemon)
