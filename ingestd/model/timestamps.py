"""Timestamps as whole numbers of microseconds since 2000-01-01T00:00Z.

This is PostgreSQL's own epoch and unit for timestamptz. Comparing, hashing and storing such a number takes a fraction
of the time of a datetime.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Final

EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)


MICROSECONDS_PER_DAY: Final = 86_400_000_000


_UNIX_TO_EPOCH: Final = 946_684_800_000_000


def to_microseconds(at: datetime) -> int:
    """An aware datetime as microseconds since 2000-01-01T00:00Z."""
    since = at - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def to_datetime(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds)


def now_microseconds() -> int:
    return time.time_ns() // 1000 - _UNIX_TO_EPOCH
