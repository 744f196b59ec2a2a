"""Composes the statements that read energy out of the blocks of sql/queries/energy.sql."""

from datetime import UTC, date, datetime, timedelta
from typing import Final

from psycopg import sql

from ingestd.analytics import TimeRange
from ingestd.store import queries
from ingestd.telemetry import METER, VEHICLE, Stream

QUARTER: Final = timedelta(minutes=15)
"""The grain of the rollups: the settled part of a window is made of whole ones, aligned to UTC."""

_ENERGY: Final = queries.load("energy.sql")
HOUR: Final = timedelta(hours=1)
EARLIEST: Final = datetime(1, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(9999, 12, 31, tzinfo=UTC)
_ALIGNED: Final = datetime(2000, 1, 1, tzinfo=UTC)


def readings(stream: Stream, spans: str) -> sql.Composed:
    """What devices sent in the stretches of the relation `spans`; needs parameters `rolled` and `plausible_kw`."""
    return queries.for_stream(_ENERGY["readings"], stream, spans=sql.Identifier(spans))


def cadences(stream: Stream, spans: str) -> sql.Composed:
    """Seconds between readings of the devices of `spans`."""
    return queries.for_stream(_ENERGY["cadences"], stream, spans=sql.Identifier(spans))


def sums_of_all(stream: Stream) -> sql.Composed:
    """What `energy_of_all` sets out from; needs `start`, `end` and the parameters of `edges`."""
    return queries.for_stream(_ENERGY["sums_of_all"], stream)


def energy_of_all(stream: Stream) -> sql.Composed:
    """Energy of each device, out of the relation `meter_sums` or `vehicle_sums`; needs the parameters of `readings`."""
    return queries.for_stream(_ENERGY["energy_of_all"], stream, readings_one_by_one=readings(stream, "one_by_one"))


SHARES: Final = _ENERGY["shares"].format(
    meter_readings_in_stretches=readings(METER, "stretch"),
    vehicle_readings_while_sharing=readings(VEHICLE, "sharing"),
)
"""The AC of each row of a relation `pairs`; needs the parameters of `readings`."""


def history_bounds(window: TimeRange, reliable_until: datetime | None) -> dict[str, datetime]:
    """The stretch of history that is looked at at most, so that other partitions can be left out of the plan.

    It takes in the whole hours of the window, and where that reaches beyond what is rolled up, all the rest.
    """
    first = quarter_before(window.start).replace(minute=0)
    if reliable_until is None:
        first = EARLIEST
    elif reliable_until < window.end:
        first = min(first, reliable_until)
    return {
        "history_from": first,
        "history_until": min(window.end, LATEST).replace(minute=0, second=0, microsecond=0) + HOUR,
    }


def edges(stream: Stream, window: TimeRange, settled: datetime | None) -> dict[str, datetime | date | int]:
    """Where the settled part of a window begins and ends; empty, at the window's start, where there is none.

    For sums over all devices it may begin a quarter earlier, where less has to be taken away than to be added. There
    the quarters of its first day count that follow number `after`, those of its last day up to number `upto`.
    """
    quarter = quarter_before(window.start)
    head_until = quarter_before(window.start + QUARTER - timedelta(microseconds=1))
    tail_from = quarter_before(window.end)
    if settled is None or min(tail_from, settled) <= head_until:
        rolled_from = head_until = tail_from = window.start
        last_day, upto = date.min, 0
    else:
        tail_from = min(tail_from, settled)
        rolled_from = quarter if window.start - quarter < head_until - window.start else head_until
        last = tail_from - QUARTER
        last_day, upto = last.date(), quarter_number(last)
    return {
        f"{stream.name}_head_until": head_until,
        f"{stream.name}_head_sign": -1 if rolled_from < window.start else 1,
        f"{stream.name}_rolled_from": rolled_from,
        f"{stream.name}_first_day": rolled_from.date(),
        f"{stream.name}_after": quarter_number(rolled_from) - 1,
        f"{stream.name}_last_day": last_day,
        f"{stream.name}_upto": upto,
        f"{stream.name}_tail_from": tail_from,
    }


def quarter_before(moment: datetime) -> datetime:
    """The last whole quarter of an hour not after the moment."""
    return moment - (moment - _ALIGNED) % QUARTER


def quarter_number(quarter: datetime) -> int:
    """Which of its UTC day it is, from 1 to 96."""
    return (quarter.hour * 60 + quarter.minute) // 15 + 1
