"""Several daemons of one group: they hold the sessions between them, and take over what is free."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import psycopg

from tests.faults.load import assert_all_stored_once, load, wait_for_more
from tests.support.daemon import Daemon
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ingestd.demo.servers import PrivateMosquitto

TAKEOVER_SECONDS = 5.0
ON_A_BUSY_MACHINE = 20.0

HOLDERS = """
    SELECT name, pid FROM unnest(%s::text[]) AS name
    LEFT JOIN pg_locks ON classid = 1768843109 AND objid::bigint = hashtext(name)::bigint & 4294967295 AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def holders(database_url: str, sessions: int) -> dict[str, int | None]:
    """The backend that holds each session."""
    with psycopg.connect(database_url) as connection:
        names = [f"ingestd-{number}" for number in range(1, sessions + 1)]
        return dict(connection.execute(HOLDERS, [names]).fetchall())


def is_spread(database_url: str, counts: Sequence[int]) -> bool:
    """Whether every session is held, and daemons hold so many each."""
    pids = list(holders(database_url, sum(counts)).values())
    return None not in pids and sorted(counts) == sorted(pids.count(pid) for pid in set(pids))


@contextmanager
def group(broker: PrivateMosquitto, database_url: str, *, daemons: int, sessions: int) -> Iterator[list[Daemon]]:
    """So many daemons, which have spread the sessions."""
    with ExitStack() as stack:
        started = [
            stack.enter_context(
                Daemon(
                    mqtt_url=broker.url,
                    database_url=database_url,
                    flush_interval=0.2,
                    mqtt_shared_group="g",
                    mqtt_sessions=sessions,
                )
            )
            for _ in range(daemons)
        ]
        counts = [sessions // daemons + (number < sessions % daemons) for number in range(daemons)]
        until(lambda: is_spread(database_url, counts), within=30)
        for daemon in started:
            daemon.wait_healthy()
        yield started


def test_a_daemon_killed_its_sessions_are_taken_over_and_drained(broker: PrivateMosquitto, database_url: str) -> None:
    with group(broker, database_url, daemons=2, sessions=4) as (first, _second):
        with load(broker, rate=500) as published:
            wait_for_more(database_url, 200)
            killed_at = time.monotonic()
            first.kill()
            until(lambda: is_spread(database_url, [4]), within=ON_A_BUSY_MACHINE)
            took = time.monotonic() - killed_at
            wait_for_more(database_url, 200)
        assert_all_stored_once(published, database_url)
        assert took < TAKEOVER_SECONDS


def test_a_daemon_added_gets_its_share_without_loss(broker: PrivateMosquitto, database_url: str) -> None:
    with group(broker, database_url, daemons=1, sessions=4) as (first,):
        with load(broker, rate=500) as published:
            wait_for_more(database_url, 100)
            first_environment = first.environment
            with Daemon(
                mqtt_url=broker.url,
                database_url=database_url,
                flush_interval=0.2,
                mqtt_shared_group=first_environment["INGESTD_MQTT_SHARED_GROUP"],
                mqtt_sessions=4,
            ) as second:
                until(lambda: is_spread(database_url, [2, 2]), within=30)
                second.wait_healthy()
                wait_for_more(database_url, 200)
                assert second.terminate(within=10) == 0
                until(lambda: is_spread(database_url, [4]), within=ON_A_BUSY_MACHINE)
                wait_for_more(database_url, 200)
        assert_all_stored_once(published, database_url)
        assert first.metric("ingestd_stale_acks_total") == 0
