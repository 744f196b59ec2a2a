# ruff: noqa: SIM300 - expected == actual
"""Several daemons of one group: they hold the sessions between them, and take over what is free."""

from __future__ import annotations

import re
import subprocess
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg

from tests.faults.load import assert_all_stored_once, load, wait_for_more
from tests.faults.scene import pause
from tests.support.daemon import Daemon
from tests.support.devices import Device
from tests.support.polling import until
from tests.support.readings import endless, keys_promised, keys_stored, vehicle_message

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ingestd.demo.servers import PrivateMosquitto

TAKEOVER_SECONDS = 20.0
"""Four times what docs/scaling.md says, for a busy machine."""
COPY_SECONDS = 0.5
"""Longer than the daemon that goes on sends rows of a batch."""
BLOCKED_SECONDS = 60
"""Longer than the rest of the test may take."""

HOLDERS = """
    SELECT name, pid FROM unnest(%s::text[]) AS name
    LEFT JOIN pg_locks ON classid = 1768843109 AND objid::bigint = hashtext(name)::bigint & 4294967295 AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


HANGS_IN_COPY = """
    SELECT FROM pg_stat_activity
    WHERE datname = current_database() AND state = 'active' AND wait_event = 'ClientRead'
        AND query_start < clock_timestamp() - make_interval(secs => %s)
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


def new_daemon(broker: PrivateMosquitto, database_url: str, *, sessions: int, **settings: str | float) -> Daemon:
    return Daemon(
        mqtt_url=broker.url,
        database_url=database_url,
        **{"flush_interval": 0.2, "mqtt_shared_group": "g", "mqtt_sessions": sessions, **settings},
    )


def suspend_outside_copy(daemon: Daemon, database_url: str) -> None:
    """Not while it sends rows: others would wait for it until it is killed (docs/scaling.md)."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        while True:
            daemon.suspend()
            pause(2 * COPY_SECONDS)
            if not connection.execute(HANGS_IN_COPY, [COPY_SECONDS]).fetchall():
                return
            daemon.resume()


def sessions_of(daemon: Daemon) -> dict[str, Any]:
    """What /health says of each."""
    return {session["session"]: session for session in daemon.request("GET", "/health").json()["sessions"]}


def leave(daemon: Daemon, *, sessions: int) -> str:
    """What `ingestd leave` says, with the daemon's settings but for the number of sessions."""
    left = subprocess.run(
        [*daemon.program, "leave"],
        env=daemon.environment | {"INGESTD_MQTT_SESSIONS": str(sessions)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert 0 == left.returncode, left.stderr
    return left.stdout


def send(broker: PrivateMosquitto, count: int) -> set[tuple[str, datetime]]:
    """Publish so many readings; returns the keys of those that the broker has acknowledged, all of them."""
    numbers = iter(range(count))
    with Device(broker.url) as device:
        sent = device.publish_many(endless(lambda: next(numbers, None) is None))
    promised = keys_promised(sent)
    assert count == len(promised)
    return promised


@contextmanager
def group(
    broker: PrivateMosquitto, database_url: str, *, daemons: int, sessions: int, **settings: float
) -> Iterator[list[Daemon]]:
    """So many daemons, which have spread the sessions."""
    with ExitStack() as stack:
        started = [
            stack.enter_context(new_daemon(broker, database_url, sessions=sessions, **settings)) for _ in range(daemons)
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
            first.kill()
            until(lambda: is_spread(database_url, [4]), within=TAKEOVER_SECONDS)
            wait_for_more(database_url, 200)
        assert_all_stored_once(published, database_url)


def test_a_daemon_added_gets_its_share_without_loss(broker: PrivateMosquitto, database_url: str) -> None:
    with group(broker, database_url, daemons=1, sessions=4) as (first,):
        with load(broker, rate=500) as published:
            wait_for_more(database_url, 100)
            with new_daemon(broker, database_url, sessions=4) as second:
                until(lambda: is_spread(database_url, [2, 2]), within=30)
                second.wait_healthy()
                wait_for_more(database_url, 200)
                assert second.terminate(within=10) == 0
                until(lambda: is_spread(database_url, [4]), within=TAKEOVER_SECONDS)
                wait_for_more(database_url, 200)
        assert_all_stored_once(published, database_url)
        assert first.metric("ingestd_stale_acks_total") == 0


def test_fewer_sessions_are_left_seen_and_drained(broker: PrivateMosquitto, database_url: str) -> None:
    with new_daemon(broker, database_url, sessions=3) as daemon:
        daemon.wait_healthy()
        until(lambda: 3 == daemon.metric("ingestd_session_connected"))
        assert 0 == daemon.terminate(within=10)
        waiting = send(broker, 3000)
        daemon.start(mqtt_sessions=2)
        daemon.wait_healthy()
        until(lambda: sessions_of(daemon)["ingestd-3"]["freeSeconds"] > 5, within=30)
        until(lambda: "session_stranded" in daemon.log.read_text())
        assert sessions_of(daemon)["ingestd-3"]["left"]
        assert daemon.metric("ingestd_session_free_seconds", session="ingestd-3") > 5
        assert 1 == daemon.metric("ingestd_session_connected", session="ingestd-2")
        assert 200 == daemon.request("GET", "/readyz").status
        with load(broker, rate=300) as published:
            said = leave(daemon, sessions=2)
            wait_for_more(database_url, 200)
        matched = re.fullmatch(r"ingestd-3: (\d+) messages stored, ended\n", said)
        assert matched is not None, said
        assert int(matched[1]) >= 1000  # its share of what waited; and of what came until it had unsubscribed
        until(lambda: waiting <= set(keys_stored(database_url)), within=30)
        assert_all_stored_once(published, database_url)
        until(lambda: ["ingestd-1", "ingestd-2"] == list(sessions_of(daemon)))
        later = send(broker, 300)
        until(lambda: later <= set(keys_stored(database_url)), within=30)
        assert "" == leave(daemon, sessions=2)


def test_a_daemon_that_hangs_loses_its_sessions_and_gets_its_share_again(
    broker: PrivateMosquitto, database_url: str
) -> None:
    with group(broker, database_url, daemons=2, sessions=4) as (first, second):
        with load(broker, rate=500) as published:
            wait_for_more(database_url, 100)
            suspend_outside_copy(first, database_url)
            until(lambda: is_spread(database_url, [4]), within=TAKEOVER_SECONDS)
            wait_for_more(database_url, 200)
            first.resume()
            until(lambda: is_spread(database_url, [2, 2]), within=30)
            until(lambda: [200, 200] == [one.request("GET", "/readyz").status for one in (first, second)], within=20)
        assert_all_stored_once(published, database_url)


def test_a_daemon_that_hangs_before_commit_locks_what_others_need_for_seconds_only(
    broker: PrivateMosquitto, database_url: str
) -> None:
    hanging = new_daemon(broker, database_url, sessions=2, failpoints=f"before-commit=block:{BLOCKED_SECONDS}@5")
    with new_daemon(broker, database_url, sessions=2) as daemon, hanging:
        until(lambda: is_spread(database_url, [1, 1]), within=30)
        with load(broker, rate=500) as published:
            until(lambda: is_spread(database_url, [2]), within=TAKEOVER_SECONDS)
            wait_for_more(database_url, 500)
        hanging.kill()
        assert_all_stored_once(published, database_url)
        assert 2 == daemon.metric("ingestd_session_connected")


def test_more_sessions_begin_with_the_first_daemon_that_has_the_new_number(
    broker: PrivateMosquitto, database_url: str
) -> None:
    with group(broker, database_url, daemons=2, sessions=2) as (first, second):
        with load(broker, rate=300) as published:
            assert 0 == first.terminate(within=10)
            first.start(mqtt_sessions=4)
            first.wait_healthy()
            until(lambda: "this daemon" == sessions_of(first)["ingestd-4"]["holder"], within=30)
            assert "ingestd-4" not in sessions_of(second)
            assert 0 == second.terminate(within=10)
            second.start(mqtt_sessions=4)
            until(lambda: is_spread(database_url, [2, 2]), within=30)
            second.wait_healthy()
            wait_for_more(database_url, 200)
        assert_all_stored_once(published, database_url)
        assert [False] * 4 == [session["left"] for session in sessions_of(first).values()]


def test_of_several_daemons_one_alerts_and_another_goes_on_with_it(broker: PrivateMosquitto, database_url: str) -> None:
    hot = [vehicle_message("EV-1", datetime.now(UTC) + timedelta(milliseconds=n), temperature=90.0) for n in range(5)]
    with group(broker, database_url, daemons=3, sessions=3, alert_min_duration=2) as daemons:
        with Device(broker.url) as device:
            device.publish_many(hot)
        until(lambda: ["active"] == alerts(database_url), within=30)
        (alerting,) = [one for one in daemons if "this daemon" == sessions_of(one)["ingestd-1"]["holder"]]
        others = [one for one in daemons if one is not alerting]
        alerting.kill()
        until(lambda: any("this daemon" == sessions_of(one)["ingestd-1"]["holder"] for one in others), within=20)
        with Device(broker.url) as device:
            device.publish_many([vehicle_message("EV-1", datetime.now(UTC), temperature=20.0)])
        until(lambda: ["cleared"] == alerts(database_url), within=30)
        with psycopg.connect(database_url) as connection:
            assert [("ingestd",)] == connection.execute("SELECT DISTINCT holder FROM alert_watch").fetchall()


def alerts(database_url: str) -> list[str]:
    """The states of all that were raised."""
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT state FROM alert WHERE state <> 'pending' AND subject = 'EV-1'").fetchall()
        return [state for (state,) in rows]
