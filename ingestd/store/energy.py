"""Composes the statements that read energy out of the blocks of sql/queries/energy.sql."""

from datetime import UTC, date, datetime, timedelta
from typing import Final

from psycopg import sql

from ingestd.analytics import TimeRange
from ingestd.store import queries
from ingestd.telemetry import METER, VEHICLE, Stream

QUARTER: Final = timedelta(minutes=15)
"""The grain of the rollups: the settled part of a window is made of whole ones, aligned to UTC."""

TOTALS_REACH: Final = timedelta(hours=48)
"""How far behind the newest running totals others are relied on; they are kept a little longer."""

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
    return queries.for_stream(_ENERGY["cadences"], stream, spans=sql.Identifier(spans), cadence=_cadence(stream))


def energy_of_all(stream: Stream) -> sql.Composed:
    """Energy of each device; needs the parameters of `parts_of_all` and of `readings`."""
    return queries.for_stream(
        _ENERGY["energy_of_all"],
        stream,
        with_a_register=queries.for_stream(_ENERGY["with_a_register"], stream),
        sums_of_all=queries.for_stream(_ENERGY["sums_of_all"], stream),
        readings_one_by_one=readings(stream, "one_by_one"),
        cadence=_cadence(stream),
    )


def _cadence(stream: Stream) -> sql.Composed:
    return queries.for_stream(_ENERGY["cadence"], stream)


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


def edges(stream: Stream, window: TimeRange, settled: datetime | None) -> dict[str, datetime]:
    """Where the settled part of a window begins and ends; empty, at the window's start, where there is none."""
    head_until = _quarter_after(window.start)
    tail_from = min(quarter_before(window.end), settled or EARLIEST)
    if tail_from <= head_until:
        head_until = tail_from = window.start
    return {f"{stream.name}_head_until": head_until, f"{stream.name}_tail_from": tail_from}


def parts_of_all(
    stream: Stream,
    window: TimeRange,
    settled: datetime | None,
    totals_from: datetime | None,
    totals_until: datetime | None,
) -> dict[str, datetime | date | int]:
    """What `energy_of_all` takes from where. Running totals are those closest to the window's start and end, if any.

    Rollups serve where a quarter of an hour or more lies before the first of them. There the quarters of the first day
    count that follow number `after`, those of the last day up to number `upto`. What is summed up in either way may
    begin before the window does, where less has to be taken away than to be added.
    """
    start = window.start
    totals_from, totals_until = totals_from or window.end, totals_until or window.end
    rolled_until = quarter_before(min(totals_from, settled or EARLIEST))
    first_day, after, last_day, upto = date.max, 0, date.min, 0
    if totals_from - start < QUARTER:
        covered_from = rolled_until = totals_from
    elif rolled_until <= _quarter_after(start):
        covered_from = rolled_until = start
    else:
        covered_from = min(quarter_before(start), _quarter_after(start), key=lambda quarter: abs(quarter - start))
        first_day, after = covered_from.date(), quarter_number(covered_from) - 1
        last_day, upto = (rolled_until - QUARTER).date(), quarter_number(rolled_until - QUARTER)
    parts = {
        "lead_from": min(start, covered_from),
        "lead_until": max(start, covered_from),
        "lead_sign": -1 if covered_from < start else 1,
        "first_day": first_day,
        "after": after,
        "last_day": last_day,
        "upto": upto,
        "rolled_until": rolled_until,
        "totals_from": totals_from,
        "totals_until": totals_until,
    }
    return {f"{stream.name}_{name}": value for name, value in parts.items()}


def quarter_before(moment: datetime) -> datetime:
    """The last whole quarter of an hour not after the moment."""
    return moment - (moment - _ALIGNED) % QUARTER


def _quarter_after(moment: datetime) -> datetime:
    """The first whole quarter of an hour not before the moment."""
    return quarter_before(moment + QUARTER - timedelta(microseconds=1))


def quarter_number(quarter: datetime) -> int:
    """Which of its UTC day it is, from 1 to 96."""
    return (quarter.hour * 60 + quarter.minute) // 15 + 1
