"""The faults of a campaign: each breaks something, waits for a while, and repairs it."""

from __future__ import annotations

import resource
import socket
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import psutil
import psycopg

from tests.faults.numbered import REFUSED_DEVICE
from tests.faults.scene import frozen, pause, refusing_trigger, terminate_backends, writer_waits_for_lock
from tests.support.daemon import Daemon
from tests.support.polling import until

if TYPE_CHECKING:
    from tests.faults.scene import Scene

STOP_SECONDS: Final = 10.0
"""SIGTERM must end the daemon within this time, also during other faults."""
FAILPOINT_SECONDS: Final = 20.0
PAST_KEEP_ALIVE_SECONDS: Final = 50.0
PAST_LOCK_TIMEOUT_SECONDS: Final = 12.0


# The daemon


def kill(scene: Scene) -> None:
    pause(scene.random.uniform(0, 1))  # at any time within the interval of flushes
    scene.supervisor.kill()


def kill_all(scene: Scene) -> None:
    """All daemons at once, so that nobody reads."""
    pause(scene.random.uniform(0, 1))
    for unit in scene.units:
        unit.supervisor.daemon.kill()
    pause(0.5)


def kill_others(scene: Scene) -> None:
    """All daemons but one, which gets all sessions for a while."""
    pause(scene.random.uniform(0, 1))
    for unit in scene.units:
        if unit is not scene.unit:
            unit.supervisor.kill()
    pause(scene.random.uniform(0, 3))


def kill_after_commit(scene: Scene) -> None:
    """The batch is committed, but not acknowledged."""
    _fail_at(scene, f"after-commit=kill@{scene.random.randint(1, 3)}")


def kill_before_commit(scene: Scene) -> None:
    _fail_at(scene, f"before-commit=kill@{scene.random.randint(1, 3)}")


def task_dies(scene: Scene) -> None:
    _fail_at(scene, f"flush=raise@{scene.random.randint(1, 3)}")


def _fail_at(scene: Scene, failpoints: str) -> None:
    scene.supervisor.terminate(failpoints=failpoints, within=STOP_SECONDS)
    assert scene.supervisor.wait_for_end(within=FAILPOINT_SECONDS), f"{failpoints} was never reached"


def loop_blocked(scene: Scene) -> None:
    scene.supervisor.terminate(failpoints=f"flush=block:{scene.random.uniform(1, 3):.1f}", within=STOP_SECONDS)
    scene.supervisor.wait_recovered(time.time(), within=FAILPOINT_SECONDS)


def terminate(scene: Scene) -> None:
    pause(scene.random.uniform(0, 1))
    scene.supervisor.terminate(within=STOP_SECONDS)


def suspend(scene: Scene) -> None:
    _suspend(scene, scene.random.uniform(1, 4))


def suspend_past_keep_alive(scene: Scene) -> None:
    _suspend(scene, PAST_KEEP_ALIVE_SECONDS)


def _suspend(scene: Scene, seconds: float) -> None:
    daemon = scene.supervisor.daemon
    daemon.suspend()
    try:
        pause(seconds)
    finally:
        daemon.resume()


def no_file_descriptors(scene: Scene) -> None:
    """No file descriptor is left for new connections: to PostgreSQL, to the broker, from HTTP clients."""
    pid = scene.supervisor.daemon.pid
    address = urlsplit(scene.supervisor.daemon.url)
    with suppress(psutil.NoSuchProcess, ProcessLookupError), ExitStack() as clients:
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (psutil.Process(pid).num_fds() + 3, hard))
        for _ in range(10):
            with suppress(OSError):
                clients.enter_context(socket.create_connection((address.hostname, address.port), timeout=1.0))
        scene.to_postgres.cut()
        scene.to_broker.cut()
        pause(scene.random.uniform(1, 3))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


def standby(scene: Scene) -> None:
    """A further daemon of the same client id waits, or gets its share; perhaps takes over, and goes."""
    with Daemon(mqtt_url=scene.to_broker.url, database_url=scene.to_postgres.url, **scene.settings) as second:
        until(lambda: _status(second) in {"standby", "healthy"}, within=20.0)
        if scene.random.random() < 0.5:
            scene.supervisor.kill()
            # The one started again may win the race for the lock; either way one of them is active.
            until(lambda: "healthy" in (_status(second), _status(scene.supervisor.daemon)), within=20.0)
            pause(scene.random.uniform(0, 2))
        second.terminate(within=STOP_SECONDS)


def _status(daemon: Daemon) -> str | None:
    try:
        status: str = daemon.request("GET", "/health", timeout=5.0).json()["status"]
    except OSError:
        return None
    return status


# The broker and the way to it


def broker_cut(scene: Scene) -> None:
    scene.to_broker.cut(reset=scene.random.random() < 0.5)


def broker_reset_inside_publish(scene: Scene) -> None:
    triggered = scene.to_broker.reset_after(scene.random.randint(1, 200_000), "to client")
    triggered.wait(5.0)


def broker_reset_inside_puback(scene: Scene) -> None:
    triggered = scene.to_broker.reset_after(scene.random.randint(1, 5_000), "to server")
    triggered.wait(5.0)


def broker_black_hole(scene: Scene) -> None:
    scene.to_broker.black_hole()
    scene.hold(1, 5)
    scene.to_broker.heal()


def broker_half_open(scene: Scene) -> None:
    """The daemon's end is gone and the broker does not know."""
    scene.to_broker.half_open()


def broker_silent_past_keep_alive(scene: Scene) -> None:
    """No byte and no reset: only its own keepalive can tell the daemon."""
    scene.to_broker.black_hole()
    pause(PAST_KEEP_ALIVE_SECONDS)
    scene.to_broker.heal()


def broker_throttled(scene: Scene) -> None:
    scene.to_broker.throttle(scene.random.choice([100, 1_000, 20_000]))
    scene.hold(2, 4)
    scene.to_broker.heal()


def broker_delayed(scene: Scene) -> None:
    scene.to_broker.delay(scene.random.uniform(0.05, 0.5))
    scene.hold(2, 4)
    scene.to_broker.heal()


def broker_refuses(scene: Scene) -> None:
    scene.to_broker.refuse()
    scene.to_broker.cut()
    scene.hold(1, 3)
    scene.to_broker.heal()


def broker_restarts(scene: Scene) -> None:
    """The broker stops and saves all its messages, so none is lost. (`oracle` says why it is never killed.)"""
    scene.broker.stop()
    pause(scene.random.uniform(0, 2))
    scene.broker.start()


# PostgreSQL and the way to it


def postgres_stopped(scene: Scene) -> None:
    scene.postgres.stop("immediate")
    scene.hold(0, 3)
    scene.postgres.start()


def postgres_killed(scene: Scene) -> None:
    scene.postgres.kill()
    scene.hold(0, 2)
    scene.postgres.start()


def postgres_frozen(scene: Scene) -> None:
    with frozen(scene.postgres):
        scene.hold(1, 6)


def backends_terminated(scene: Scene) -> None:
    with scene.database() as connection:
        for _ in range(scene.random.randint(4, 8)):
            terminate_backends(connection)
            pause(0.5)


def table_locked(scene: Scene) -> None:
    _lock_table(scene, 2, 4)


def table_locked_past_timeout(scene: Scene) -> None:
    _lock_table(scene, PAST_LOCK_TIMEOUT_SECONDS, PAST_LOCK_TIMEOUT_SECONDS + 3)


def _lock_table(scene: Scene, low: float, high: float) -> None:
    table = scene.random.choice(["meter_history", "vehicle_live", "dead_letter"])
    with scene.database() as connection, connection.transaction():
        connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
        scene.hold(low, high)


def deadlock(scene: Scene) -> None:
    """Another program locks two live rows in the opposite order of ours."""
    touch = "UPDATE meter_live SET voltage = voltage WHERE meter_id = %s"
    with scene.database() as connection, suppress(psycopg.errors.DeadlockDetected), connection.transaction():
        connection.execute(touch, ["m-9"])
        with scene.database() as observer:
            writer_waits_for_lock(observer)
        connection.execute(touch, ["m-1"])


def disk_full(scene: Scene) -> None:
    with scene.database() as connection, refusing_trigger(connection, table="meter_history", state="53100"):
        scene.hold(1, 3)


def read_only(scene: Scene) -> None:
    with scene.database() as connection:
        connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        connection.execute("SELECT pg_reload_conf()")
        scene.hold(1, 3)
        connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
        connection.execute("SELECT pg_reload_conf()")


def commit_answer_cut(scene: Scene) -> None:
    scene.to_postgres.cut_next_commit().wait(5.0)
    scene.to_postgres.heal()


def dead_letters_refused(scene: Scene) -> None:
    with scene.database() as connection, refusing_trigger(connection, table="dead_letter", state="42501"):
        scene.hold(1, 3)


def one_device_refused(scene: Scene) -> None:
    """The SQLSTATE is of a class that ingestd does not know."""
    with (
        scene.database() as connection,
        refusing_trigger(
            connection, table="meter_history", state="XX000", level="ROW", when=f"NEW.meter_id = '{REFUSED_DEVICE}'"
        ),
    ):
        scene.hold(2, 4)


def postgres_cut(scene: Scene) -> None:
    scene.to_postgres.cut(reset=scene.random.random() < 0.5)


def postgres_reset_midway(scene: Scene) -> None:
    size = scene.random.randint(1, 100_000)
    if scene.random.random() < 0.5:
        triggered = scene.to_postgres.reset_after(size, "to server")
    else:
        triggered = scene.to_postgres.reset_after(size // 100 + 1, "to client")
    triggered.wait(5.0)
    scene.to_postgres.heal()


def postgres_black_hole(scene: Scene) -> None:
    scene.to_postgres.black_hole()
    scene.hold(1, 4)
    scene.to_postgres.heal()


def postgres_refuses(scene: Scene) -> None:
    scene.to_postgres.refuse()
    scene.to_postgres.cut()
    scene.hold(1, 3)
    scene.to_postgres.heal()
