"""How long it takes from publication to commit, of a load that means well, while something else goes on."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, LiteralString, TypeVar

import psycopg

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.load import Load

LOOK_SECONDS: Final = 0.01
ATTEMPTS: Final = 3
"""A machine that has something else to do makes everybody wait: the attempt counts in which it has not."""

_Measured = TypeVar("_Measured")

# The devices of the load: each part of it is stored as a whole, and in order.
_NEWEST: Final[LiteralString] = (
    "SELECT greatest((SELECT max(ts) FROM meter_live WHERE meter_id LIKE 'meter-%'),"
    " (SELECT max(ts) FROM vehicle_live WHERE vehicle_id LIKE 'EV-%'))"
)


def undisturbed(measure: Callable[[], _Measured], *, is_good: Callable[[_Measured], bool]) -> _Measured:
    """The first measurement that is good, of ATTEMPTS; else the last one."""
    for _ in range(ATTEMPTS - 1):
        if is_good(measured := measure()):
            return measured
    return measure()


def publish_to_commit(load: Load, url: str, *, is_over: Callable[[], bool], within: float) -> list[float]:
    """Seconds, of the messages from now on until it is over; then the load stops, and all of it has to be stored."""
    seen: list[float] = []
    with psycopg.connect(url, autocommit=True) as watch:
        number = len(load.parts)
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            (newest,) = watch.execute(_NEWEST).fetchone() or (None,)
            now = datetime.now(UTC)
            while newest is not None and number < len(load.parts) and load.parts[number].at <= newest:
                seen.append((now - load.parts[number].at).total_seconds())
                number += 1
            if is_over():
                load.stop()
                if number == len(load.parts):
                    return seen
            time.sleep(LOOK_SECONDS)
    raise AssertionError(f"{len(load.parts) - number} messages of others were not stored in the end")
