"""The faults of a campaign, how often they come, and in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from tests.faults import faults

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from tests.faults.scene import Scene


class Fault(NamedTuple):
    """`weight`: how often the fault comes, relative to others.

    `least`: the shortest campaign (seconds) that it is for.
    """

    name: str
    cause: Callable[[Scene], None]
    weight: float = 1.0
    least: float = 0.0  # seconds
    daemons: int = 1
    """The fewest daemons that it is for."""


FAULTS: Final = (
    # These weights make about 100 kills in 600 s.
    Fault("daemon: kill -9", faults.kill, 40.0),
    Fault("daemon: kill -9 after COMMIT, before PUBACK", faults.kill_after_commit, 4.0),
    Fault("daemon: kill -9 before COMMIT", faults.kill_before_commit, 4.0),
    Fault("daemon: a task dies", faults.task_dies),
    Fault("daemon: event loop blocked", faults.loop_blocked),
    Fault("daemon: SIGTERM", faults.terminate, 2.0),
    Fault("daemon: SIGSTOP for 1 to 4 s", faults.suspend),
    Fault("daemon: SIGSTOP past keepalive", faults.suspend_past_keep_alive, 0.5, least=300.0),
    Fault("daemon: no file descriptors", faults.no_file_descriptors),
    Fault("daemon: a second one as standby", faults.standby, 1.5),
    Fault("daemons: all killed at once", faults.kill_all, 4.0, daemons=2),
    Fault("daemons: all but one killed", faults.kill_others, 4.0, daemons=2),
    Fault("broker: connection cut", faults.broker_cut, 2.0),
    Fault("broker: reset inside a PUBLISH", faults.broker_reset_inside_publish, 2.0),
    Fault("broker: reset inside a PUBACK", faults.broker_reset_inside_puback, 2.0),
    Fault("broker: black hole", faults.broker_black_hole),
    Fault("broker: half-open connection", faults.broker_half_open),
    Fault("broker: silent past keepalive", faults.broker_silent_past_keep_alive, 0.5, least=300.0),
    Fault("broker: slow link", faults.broker_throttled),
    Fault("broker: delay", faults.broker_delayed),
    Fault("broker: refuses", faults.broker_refuses),
    Fault("broker: restarted, queue saved", faults.broker_restarts, 2.0),
    Fault("PostgreSQL: immediate stop", faults.postgres_stopped, 2.0),
    Fault("PostgreSQL: kill -9", faults.postgres_killed, 2.0),
    Fault("PostgreSQL: SIGSTOP", faults.postgres_frozen),
    Fault("PostgreSQL: backends terminated every 0.5 s", faults.backends_terminated),
    Fault("PostgreSQL: table locked 2 to 4 s", faults.table_locked),
    Fault("PostgreSQL: table locked past lock_timeout", faults.table_locked_past_timeout, 0.7, least=120.0),
    Fault("PostgreSQL: deadlock by a foreign writer", faults.deadlock),
    Fault("PostgreSQL: disk full (53100)", faults.disk_full),
    Fault("PostgreSQL: read-only (25006)", faults.read_only),
    Fault("PostgreSQL: answer to COMMIT cut", faults.commit_answer_cut, 3.0),
    Fault("PostgreSQL: dead letters refused (42501)", faults.dead_letters_refused),
    Fault("PostgreSQL: one device refused (XX000)", faults.one_device_refused),
    Fault("PostgreSQL: connection cut", faults.postgres_cut),
    Fault("PostgreSQL: reset midway", faults.postgres_reset_midway, 2.0),
    Fault("PostgreSQL: black hole", faults.postgres_black_hole),
    Fault("PostgreSQL: refuses connections", faults.postgres_refuses),
)


ALWAYS_FIRST: Final = frozenset(
    {
        "daemon: kill -9 before COMMIT",
        "daemon: kill -9 after COMMIT, before PUBACK",
        "PostgreSQL: answer to COMMIT cut",
    }
)
"""These find acknowledgements that come too early, and repetitions that are not safe."""


def sequence(chance: random.Random, *, seconds: float, only: str = "", daemons: int = 1) -> Iterator[Fault]:
    """Faults without end for a campaign of so many seconds and daemons: first ALWAYS_FIRST, then at random.

    `only` is a part of the names that may come.
    """
    eligible = [
        fault
        for fault in FAULTS
        if only in fault.name and (only or fault.least <= seconds) and fault.daemons <= daemons
    ]
    first = [fault for fault in eligible if fault.name in ALWAYS_FIRST]
    yield from chance.sample(first, len(first))
    while True:
        yield from chance.choices(eligible, weights=[fault.weight for fault in eligible])
