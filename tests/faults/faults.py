"""The faults of a campaign, how often they come, and in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from tests.faults import strikes

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from tests.faults.scene import Scene


class Fault(NamedTuple):
    """`weight` is how often it comes, relative to the others; `least` the campaign it is too long for below."""

    name: str
    strike: Callable[[Scene], None]
    weight: float = 1.0
    least: float = 0.0  # seconds


FAULTS: Final = (
    # These are there to be about 100 in 600 s.
    Fault("daemon: kill -9", strikes.kill, 40.0),
    Fault("daemon: kill -9 after COMMIT, before PUBACK", strikes.kill_after_commit, 4.0),
    Fault("daemon: kill -9 before COMMIT", strikes.kill_before_commit, 4.0),
    Fault("daemon: a task dies", strikes.task_dies),
    Fault("daemon: event loop blocked", strikes.loop_blocked),
    Fault("daemon: SIGTERM", strikes.terminate, 2.0),
    Fault("daemon: SIGSTOP for 1 to 4 s", strikes.suspend),
    Fault("daemon: SIGSTOP past keepalive", strikes.suspend_past_keep_alive, 0.5, least=300.0),
    Fault("daemon: no file descriptors", strikes.no_file_descriptors),
    Fault("daemon: a second one as standby", strikes.standby, 1.5),
    Fault("broker: connection cut", strikes.broker_cut, 2.0),
    Fault("broker: reset inside a PUBLISH", strikes.broker_reset_inside_publish, 2.0),
    Fault("broker: reset inside a PUBACK", strikes.broker_reset_inside_puback, 2.0),
    Fault("broker: black hole", strikes.broker_black_hole),
    Fault("broker: half-open connection", strikes.broker_half_open),
    Fault("broker: silent past keepalive", strikes.broker_silent_past_keep_alive, 0.5, least=300.0),
    Fault("broker: slow link", strikes.broker_throttled),
    Fault("broker: delay", strikes.broker_delayed),
    Fault("broker: refuses", strikes.broker_refuses),
    Fault("broker: restarted, queue saved", strikes.broker_restarts, 2.0),
    Fault("PostgreSQL: immediate stop", strikes.postgres_stopped, 2.0),
    Fault("PostgreSQL: kill -9", strikes.postgres_killed, 2.0),
    Fault("PostgreSQL: SIGSTOP", strikes.postgres_frozen),
    Fault("PostgreSQL: backends terminated every 0.5 s", strikes.backends_terminated),
    Fault("PostgreSQL: table locked 2 to 4 s", strikes.table_locked),
    Fault("PostgreSQL: table locked past lock_timeout", strikes.table_locked_past_timeout, 0.7, least=120.0),
    Fault("PostgreSQL: deadlock by a foreign writer", strikes.deadlock),
    Fault("PostgreSQL: disk full (53100)", strikes.disk_full),
    Fault("PostgreSQL: read-only (25006)", strikes.read_only),
    Fault("PostgreSQL: answer to COMMIT cut", strikes.commit_answer_cut, 3.0),
    Fault("PostgreSQL: dead letters refused (42501)", strikes.dead_letters_refused),
    Fault("PostgreSQL: one device refused (XX000)", strikes.one_device_refused),
    Fault("PostgreSQL: connection cut", strikes.postgres_cut),
    Fault("PostgreSQL: reset midway", strikes.postgres_reset_midway, 2.0),
    Fault("PostgreSQL: black hole", strikes.postgres_black_hole),
    Fault("PostgreSQL: refuses connections", strikes.postgres_refuses),
)


SHARPEST: Final = frozenset(
    {
        "daemon: kill -9 before COMMIT",
        "daemon: kill -9 after COMMIT, before PUBACK",
        "PostgreSQL: answer to COMMIT cut",
    }
)
"""Between them they find an acknowledgement that is too early, and a repetition that is not safe."""


def sequence(chance: random.Random, *, seconds: float, only: str = "") -> Iterator[Fault]:
    """Faults without end for a campaign of so many seconds: the sharpest once, then as the dice fall.

    `only` is a part of the names that may come.
    """
    eligible = [fault for fault in FAULTS if only in fault.name and (only or fault.least <= seconds)]
    sharpest = [fault for fault in eligible if fault.name in SHARPEST]
    yield from chance.sample(sharpest, len(sharpest))
    while True:
        yield from chance.choices(eligible, weights=[fault.weight for fault in eligible])
