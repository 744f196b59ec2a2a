"""History that was there before: made in SQL, as if the fleet had reported every minute."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import sql

from ingestd.config import Settings
from ingestd.store.energy import quarter_before
from ingestd.store.queries import for_stream
from ingestd.store.rollups import LAG, Rollups
from ingestd.telemetry import METER, STREAMS, VEHICLE, Stream

if TYPE_CHECKING:
    from bench.stage import Place

MINUTE: Final = timedelta(minutes=1)
PLAUSIBLE_KW: Final[float] = Settings.model_fields["plausible_kw"].default

# Devices are numbered as in `bench.backlog.fleet`: n is even for meters and odd for vehicles.
_FIRST: Final = {METER: 0, VEHICLE: 1}
_IDENTITY: Final = {
    METER: sql.SQL("'meter-' || to_char(n, 'FM999900000')"),
    VEHICLE: sql.SQL("'EV-' || to_char(n, 'FM999900000')"),
}
# In the order of a row's columns. A vehicle gets nine tenths of what its meter, the number before, gives.
_FIGURES: Final = {
    METER: sql.SQL("0.1 + n %% 10 * 0.01, 230, NULL"),
    VEHICLE: sql.SQL("50, 0.09 + (n - 1) %% 10 * 0.009, 25, NULL"),
}

_PARTITIONS: Final = sql.SQL("""
    SELECT ingestd_make_partition({stream_history}, day::date) FROM generate_series(
        date_trunc('day', %(since)s AT TIME ZONE 'UTC'), %(until)s AT TIME ZONE 'UTC', '1 day'
    ) AS day
""")
_HISTORY: Final = sql.SQL("""
    INSERT INTO {history} ({columns})
    SELECT {identity}, at, {made_up}, at
    FROM generate_series(%(since)s, %(until)s, '1 minute') AS at, generate_series(%(first)s, %(devices)s - 1, 2) AS n
""")
_LIVE: Final = sql.SQL("""
    INSERT INTO {live} ({columns})
    SELECT {identity}, %(until)s, {made_up}, %(until)s FROM generate_series(%(first)s, %(devices)s - 1, 2) AS n
""")
# What autovacuum would have done long ago.
_VACUUM: Final = sql.SQL("VACUUM (ANALYZE) {history}, {live}")
_VACUUM_ROLLUPS: Final = sql.SQL("VACUUM (ANALYZE) {day}, {late}")
_PAIRS: Final = sql.SQL("""
    INSERT INTO vehicle_meter_mapping (vehicle_id, meter_id, valid_from)
    SELECT {vehicle}, (SELECT {meter} FROM (SELECT n - 1 AS n) AS before), %(since)s - interval '1 day'
    FROM generate_series(1, %(devices)s - 1, 2) AS n
""")
# As if the rollups had been up to date, and all of this had come late: then the daemon's own code makes them, by the
# day rather than by the quarter of an hour.
_SETTLED: Final = sql.SQL("""
    UPDATE rollup SET announced = %(settled)s, settled = %(settled)s, plausible_kw = %(plausible_kw)s
    WHERE stream = {stream}
""")
_LATE: Final = sql.SQL("""
    INSERT INTO {late} ({id}, since)
    SELECT {identity}, greatest(day AT TIME ZONE 'UTC', %(since)s)
    FROM generate_series(%(first)s, %(devices)s - 1, 2) AS n, generate_series(
        date_trunc('day', %(since)s AT TIME ZONE 'UTC'), %(settled)s AT TIME ZONE 'UTC', '1 day'
    ) AS day
""")


def make_history(place: Place, *, devices: int, days: int) -> int:
    """Every device reported up to now, every vehicle has a meter, all is rolled up; returns how many rows there are."""
    until = datetime.now(UTC).replace(second=0, microsecond=0)
    since = until - timedelta(days=days) + MINUTE
    report(place, devices=devices, since=since, until=until)
    values = {
        "devices": devices,
        "since": since,
        "settled": quarter_before(datetime.now(UTC) - LAG),
        "plausible_kw": PLAUSIBLE_KW,
    }
    with place.connect() as connection:
        connection.execute(_PAIRS.format(vehicle=_IDENTITY[VEHICLE], meter=_IDENTITY[METER]), values)
        for stream in STREAMS:
            for statement in (_SETTLED, _LATE):
                connection.execute(_for_stream(statement, stream), {**values, "first": _FIRST[stream]})
        asyncio.run(_roll_up(place.dsn))
        for stream in STREAMS:
            connection.execute(_for_stream(_VACUUM_ROLLUPS, stream))
    return devices * days * 24 * 60


def report(place: Place, *, devices: int, since: datetime, until: datetime) -> None:
    """Every device reports at each minute from `since` to `until`: history and live rows."""
    make_partitions(place.dsn, since=since, until=until)
    with ThreadPoolExecutor() as threads:
        list(threads.map(partial(_report, place, devices=devices, since=since, until=until), STREAMS))


def make_partitions(dsn: str, *, since: datetime, until: datetime) -> None:
    """For every day from `since` to `until`, as ingestd would have done."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for stream in STREAMS:
            connection.execute(_for_stream(_PARTITIONS, stream), {"since": since, "until": until})


def run_in(dsn: str) -> None:
    """Leave a migrated database as if ingestd had been there for a while: partitions made, rollups up to date."""
    now = datetime.now(UTC)
    make_partitions(dsn, since=now, until=now)
    asyncio.run(_roll_up(dsn))


def _report(place: Place, stream: Stream, **values: Any) -> None:  # noqa: ANN401 - whatever psycopg binds
    with place.connect() as connection:
        for statement in (_HISTORY, _LIVE, _VACUUM):
            connection.execute(_for_stream(statement, stream), {**values, "first": _FIRST[stream]})


def _for_stream(statement: sql.SQL, stream: Stream) -> sql.Composed:
    return for_stream(
        statement,
        stream,
        identity=_IDENTITY[stream],
        made_up=_FIGURES[stream],
        stream_history=sql.Literal(stream.history),
    )


async def _roll_up(dsn: str) -> None:
    rollups = Rollups(dsn, plausible_kw=PLAUSIBLE_KW)
    try:
        await rollups.catch_up()
    finally:
        await rollups.close()
