"""History that was there before: made in SQL, as if the fleet had reported every minute."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import sql

from ingestd.config import Settings
from ingestd.store.energy import quarter_before
from ingestd.store.queries import for_stream
from ingestd.store.rollups import LAG, TOTALS_KEPT, Rollups
from ingestd.telemetry import METER, STREAMS, VEHICLE, Stream

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.stage import Place

MINUTE: Final = timedelta(minutes=1)
BEFORE: Final = timedelta(hours=1)
"""History reaches so much further back than asked for: a window begins in the midst of it, as it does in life."""
PLAUSIBLE_KW: Final[float] = Settings.model_fields["vehicle_max_kw"].default

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
_VACUUM_ROLLUPS: Final = sql.SQL("VACUUM (ANALYZE) {day}")
_PAIRS: Final = sql.SQL("""
    INSERT INTO vehicle_meter_mapping (vehicle_id, meter_id, valid_from)
    SELECT {vehicle}, (SELECT {meter} FROM (SELECT n - 1 AS n) AS before), %(since)s - interval '1 day'
    FROM generate_series(1, %(devices)s - 1, 2) AS n
""")
_SETTLED: Final = sql.SQL("""
    WITH begun AS (DELETE FROM running_total WHERE stream = {stream})
    UPDATE rollup SET announced = %(settled)s, settled = %(settled)s, plausible_kw = %(plausible_kw)s
    WHERE stream = {stream}
""")
# What the daemon makes of it quarter by quarter, in one go, as that takes minutes with ten thousand devices.
_ROLLUPS: Final = sql.SQL("""
    INSERT INTO {day} ({id}, day, kwh, samples, averaged, cadence)
    SELECT id, day,
        array_fill(0::double precision, ARRAY[min(number) - 1]) || array_agg(kwh ORDER BY number),
        array_fill(0, ARRAY[min(number) - 1]) || array_agg(samples ORDER BY number),
        array_fill(0::double precision, ARRAY[min(number) - 1]) || array_agg(averaged ORDER BY number),
        CASE WHEN max(samples) > 1 THEN 60 END
    FROM (
        SELECT id, day, number, sum(kwh) OVER so_far AS kwh, (sum(samples) OVER so_far)::integer AS samples,
            sum(averaged) OVER so_far AS averaged
        FROM (
            SELECT {id} AS id, ts::date AS day, extract(epoch FROM ts - ts::date)::integer / 900 + 1 AS number,
                sum({energy}) AS kwh, count(*) AS samples, sum({averaged}) AS averaged
            FROM {history}
            WHERE ts < %(settled)s
            GROUP BY 1, 2, 3
        ) AS quarter
        WINDOW so_far AS (PARTITION BY id, day ORDER BY number)
    ) AS running
    GROUP BY id, day
""")


def make_history(place: Place, *, devices: int, days: int) -> int:
    """Every device reported up to now, every vehicle has a meter, all is rolled up; returns how many rows there are."""
    until = datetime.now(UTC).replace(second=0, microsecond=0)
    length = timedelta(days=days) + BEFORE
    since = until - length + MINUTE
    report(place, devices=devices, since=since, until=until)
    settled = {"settled": quarter_before(datetime.now(UTC) - LAG), "plausible_kw": PLAUSIBLE_KW}
    _of_both_streams(place, (_ROLLUPS, _SETTLED, _VACUUM_ROLLUPS), settled)
    # Running totals begin when they are made for the first time, and then follow the readings.
    asyncio.run(catch_up(place.dsn, max(since, until - TOTALS_KEPT), until))
    with place.connect() as connection:
        pairs = _PAIRS.format(vehicle=_IDENTITY[VEHICLE], meter=_IDENTITY[METER])
        connection.execute(pairs, {"since": since, "devices": devices})
        connection.execute("VACUUM (ANALYZE) vehicle_meter_mapping")
    return devices * (length // MINUTE)


def report(place: Place, *, devices: int, since: datetime, until: datetime) -> None:
    """Every device reports at each minute from `since` to `until`: history and live rows."""
    make_partitions(place.dsn, since=since, until=until)
    values = {"devices": devices, "since": since, "until": until}
    _of_both_streams(place, (_HISTORY, _LIVE, _VACUUM), values)


def make_partitions(dsn: str, *, since: datetime, until: datetime) -> None:
    """For every day from `since` to `until`, as ingestd would have done."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for stream in STREAMS:
            connection.execute(_for_stream(_PARTITIONS, stream), {"since": since, "until": until})


def run_in(dsn: str) -> None:
    """Leave a migrated database as if ingestd had been there for a while: partitions made, rollups up to date."""
    now = datetime.now(UTC)
    make_partitions(dsn, since=now, until=now)
    asyncio.run(catch_up(dsn, now))


def stopped_at(place: Place, moment: datetime) -> None:
    """As if ingestd had been stopped at that moment: what comes after it is not rolled up, and not late."""
    with place.connect() as connection:
        stopped = {"moment": quarter_before(moment)}
        connection.execute("UPDATE rollup SET announced = %(moment)s, settled = %(moment)s", stopped)
        connection.execute("DELETE FROM running_total WHERE until > %(moment)s", stopped)


def _of_both_streams(place: Place, statements: Sequence[sql.SQL], values: Mapping[str, object]) -> None:
    """At the same time, as each keeps one processor busy."""

    def execute(stream: Stream) -> None:
        with place.connect() as connection:
            for statement in statements:
                connection.execute(_for_stream(statement, stream), {**values, "first": _FIRST[stream]})

    with ThreadPoolExecutor() as threads:
        list(threads.map(execute, STREAMS))


def _for_stream(statement: sql.SQL, stream: Stream) -> sql.Composed:
    return for_stream(
        statement,
        stream,
        identity=_IDENTITY[stream],
        made_up=_FIGURES[stream],
        stream_history=sql.Literal(stream.history),
    )


async def catch_up(dsn: str, *moments: datetime) -> None:
    """As the daemon would at these moments, one after the other."""
    rollups = Rollups(dsn, plausible_kw=PLAUSIBLE_KW)
    try:
        for moment in moments:
            await rollups.catch_up(moment)
    finally:
        await rollups.close()
