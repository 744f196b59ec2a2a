"""Makes history and its ledger in SQL, as if the fleet had reported every minute."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

import psycopg
from psycopg import sql

from ingestd.config import Settings
from ingestd.model.energy import QUARTER
from ingestd.model.ledger import LOOK_AHEAD
from ingestd.model.register import Rule
from ingestd.model.stream import METER, STREAMS, VEHICLE, Stream
from ingestd.model.timestamps import to_datetime, to_microseconds
from ingestd.store.closing import LAG

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.stage import Place

MINUTE: Final = timedelta(minutes=1)
BEFORE: Final = timedelta(hours=2)
"""History begins this much earlier than asked for, so that windows begin within it."""
_MICROSECOND: Final = timedelta(microseconds=1)
DUE_AFTER: Final = LOOK_AHEAD * _MICROSECOND + LAG
"""How long after its end a quarter is closed."""
RULES: Final[Mapping[Stream, Rule]] = {
    stream: Rule(
        max_kw=Settings.model_fields[f"{stream.name}_max_kw"].default,
        max_gap=Settings.model_fields["max_gap"].default // _MICROSECOND,
    )
    for stream in STREAMS
}
"""The daemon's, with its default settings."""

# Devices are numbered as in `bench.backlog.fleet`: n is even for meters and odd for vehicles.
_FIRST: Final = {METER: 0, VEHICLE: 1}
_IDENTITY: Final = {
    METER: sql.SQL("'meter-' || to_char(n, 'FM999900000')"),
    VEHICLE: sql.SQL("'EV-' || to_char(n, 'FM999900000')"),
}
# kWh of a minute. A vehicle gets nine tenths of what its meter, the number before, gives.
_ENERGY: Final = {METER: sql.SQL("(0.1 + n %% 10 * 0.01)"), VEHICLE: sql.SQL("(0.09 + (n - 1) %% 10 * 0.009)")}
# What a register has counted at a time.
_REGISTER: Final = sql.SQL("(5000 + extract(epoch FROM {at} - %(begun)s) / 60 * {energy})")
_AVERAGED: Final = {METER: 230, VEHICLE: 25}

_PARTITIONS: Final = sql.SQL("""
    SELECT ingestd_make_partition({stream_history}, day::date) FROM generate_series(
        date_trunc('day', %(since)s AT TIME ZONE 'UTC'), %(until)s AT TIME ZONE 'UTC', '1 day'
    ) AS day
""")
_MONTHS: Final = sql.SQL("""
    SELECT ingestd_make_month(parent, month::date)
    FROM unnest(ARRAY[{stream_quarter}, {stream_hour}]) AS parent, generate_series(
        date_trunc('month', %(begun)s AT TIME ZONE 'UTC'), %(until)s AT TIME ZONE 'UTC', '1 month'
    ) AS month
""")
_HISTORY: Final = sql.SQL("""
    INSERT INTO {history} ({id}, ts, {energy}, {register}, {other_columns}, received_at)
    SELECT {identity}, at, {made_energy}, {made_register}, {other_figures}, at
    FROM generate_series(%(since)s, %(until)s, '1 minute') AS at, generate_series(%(first)s, %(devices)s - 1, 2) AS n
""")
_LIVE: Final = sql.SQL("""
    INSERT INTO {live} ({id}, ts, {energy}, {register}, {other_columns}, received_at)
    SELECT {identity}, at, {made_energy}, {made_register}, {other_figures}, at
    FROM generate_series(%(until)s, %(until)s, '1 minute') AS at, generate_series(%(first)s, %(devices)s - 1, 2) AS n
""")
# Of the first reading of all nobody knows since when it counts: its energy, if it is no register's, is that of no time.
_QUARTERS: Final = sql.SQL("""
    INSERT INTO {quarter} (
        {id}, start, kwh, samples, parts, known_seconds, averaged_sum, resets, excluded,
        final_until, previous_at, at_rest, high_water, changed_at, read_at
    )
    SELECT {identity}, start, {made} * samples - {uncounted}, samples, 0, 60 * (samples - first),
        {average} * samples, 0, 0, at, at, {at_rest}, {high_water}
    FROM (
        SELECT at - interval '15 minutes' AS start, at, (at = first_at)::integer AS first,
            least(15, extract(epoch FROM at - %(begun)s)::integer / 60 + 1) AS samples
        FROM (
            SELECT at, min(at) OVER () AS first_at
            FROM generate_series(
                date_bin('15 minutes', %(begun)s - interval '1 microsecond', '2000-01-01Z') + interval '15 minutes',
                %(made_until)s, '15 minutes'
            ) AS at
        ) AS end_of_quarter
    ) AS quarter, generate_series(%(first)s, %(devices)s - 1, 2) AS n
    ORDER BY start, n
""")
_HOURS: Final = sql.SQL("""
    INSERT INTO {hour} ({id}, start, kwh, samples, parts, known_seconds, averaged_sum, resets, excluded, filled)
    SELECT {id}, date_trunc('hour', start, 'UTC') AS hour,
        sum(kwh), sum(samples), sum(parts), sum(known_seconds), sum(averaged_sum), sum(resets), sum(excluded), count(*)
    FROM {quarter}
    WHERE start < date_trunc('hour', %(made_until)s, 'UTC')
    GROUP BY {id}, hour
    ORDER BY hour, {id}
""")
_CLOSED: Final = sql.SQL("""
    WITH made AS (UPDATE ledger_share SET made_until = %(made_until)s WHERE stream = {stream})
    UPDATE ledger SET closed_until = %(closed_until)s, max_kw = {max_kw}, max_gap = {max_gap} WHERE stream = {stream}
""")
# What autovacuum would have done long ago.
_VACUUM: Final = sql.SQL("VACUUM (ANALYZE) {history}, {live}")
_VACUUM_LEDGER: Final = sql.SQL("VACUUM (ANALYZE) {quarter}, {hour}")
_PAIRS: Final = sql.SQL("""
    INSERT INTO vehicle_meter_mapping (vehicle_id, meter_id, valid_from)
    SELECT {vehicle}, (SELECT {meter} FROM (SELECT n - 1 AS n) AS before), %(begun)s - interval '1 day'
    FROM generate_series(1, %(devices)s - 1, 2) AS n
""")


class _Progress(NamedTuple):
    """How far the ledger is."""

    made_until: datetime
    closed_until: datetime

    @classmethod
    def at(cls, at: datetime) -> _Progress:
        """Where readings up to the moment are there."""
        made = (to_microseconds(at) - LOOK_AHEAD) // QUARTER * QUARTER
        return cls(to_datetime(made), to_datetime(made + LOOK_AHEAD))


def make_history(
    place: Place,
    *,
    devices: int,
    days: int,
    kept_days: int | None = None,
    before: timedelta = BEFORE,
    registers: bool = False,
    now: datetime | None = None,
    closed_at: datetime | None = None,
) -> int:
    """Every device has reported for so many days until `now` (None: the present), and every vehicle has a meter.

    Returns how many readings are there: of the last `kept_days` or, by default, of all days, as if the retention had
    let the others go. The ledger has all days, up to the quarter that was closed last at `closed_at` (None: `now`).
    """
    now = now or datetime.now(UTC)
    until = now.replace(second=0, microsecond=0)
    begun = until - timedelta(days=days) - before + MINUTE
    since = max(begun, until - timedelta(days=kept_days or days) - before + MINUTE)
    progress = _Progress.at((closed_at or now) - LAG)
    make_partitions(place.dsn, since=since, until=until)
    values = {"devices": devices, "begun": begun, "since": since, "until": until, **progress._asdict()}
    steps = (_HISTORY, _LIVE, _VACUUM, _MONTHS, _QUARTERS, _HOURS, _CLOSED, _VACUUM_LEDGER)
    _of_both_streams(place, steps, values, registers=registers)
    with place.connect() as connection:
        pairs = _PAIRS.format(vehicle=_IDENTITY[VEHICLE], meter=_IDENTITY[METER])
        connection.execute(pairs, values)
        connection.execute("VACUUM (ANALYZE) vehicle_meter_mapping")
    return devices * ((until - since) // MINUTE + 1)


def report(place: Place, *, devices: int, since: datetime, until: datetime) -> None:
    """Every device reports at each minute from `since` to `until`: history and live rows."""
    make_partitions(place.dsn, since=since, until=until)
    values = {"devices": devices, "begun": since, "since": since, "until": until}
    _of_both_streams(place, (_HISTORY, _LIVE, _VACUUM), values)


def make_partitions(dsn: str, *, since: datetime, until: datetime) -> None:
    """For every day from `since` to `until`, as ingestd would have done."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for stream in STREAMS:
            connection.execute(_for_stream(_PARTITIONS, stream), {"since": since, "until": until})


def run_in(dsn: str) -> None:
    """Leave a migrated database as if ingestd had been there for a while: partitions made, the ledger up to date."""
    now = datetime.now(UTC)
    make_partitions(dsn, since=now, until=now)
    with psycopg.connect(dsn, autocommit=True) as connection:
        _close(connection, now - LAG)


def due_quarter(now: datetime) -> tuple[datetime, datetime]:
    """Start and end of the newest quarter that a daemon closes at that moment."""
    end = _Progress.at(now - LAG).made_until
    return end - timedelta(microseconds=QUARTER), end


def stopped_at(place: Place, at: datetime) -> None:
    """As if ingestd had been stopped at that moment: what comes after it is in no row of the ledger, and not late."""
    with place.connect() as connection:
        _close(connection, at)


def _close(connection: psycopg.Connection, at: datetime) -> None:
    for stream in STREAMS:
        connection.execute(_for_stream(_CLOSED, stream), _Progress.at(at)._asdict())


def _of_both_streams(
    place: Place, statements: Sequence[sql.SQL], values: Mapping[str, object], *, registers: bool = False
) -> None:
    """At the same time, as each keeps one processor busy."""

    def execute(stream: Stream) -> None:
        with place.connect() as connection:
            for statement in statements:
                made = _for_stream(statement, stream, registers=registers)
                connection.execute(made, {**values, "first": _FIRST[stream]})

    with ThreadPoolExecutor() as threads:
        list(threads.map(execute, STREAMS))


def _for_stream(statement: sql.SQL, stream: Stream, *, registers: bool = False) -> sql.Composed:
    null = sql.SQL("NULL")
    energy, rule = _ENERGY[stream], RULES[stream]
    register = _REGISTER.format(at=sql.Identifier("at"), energy=energy)
    figures = {stream.columns[stream.averaged_key]: _AVERAGED[stream]}
    if stream is VEHICLE:
        figures["soc"] = 50
    return statement.format(
        stream=sql.Literal(stream.name),
        history=sql.Identifier(stream.history),
        live=sql.Identifier(stream.live),
        quarter=sql.Identifier(f"{stream.name}_quarter"),
        hour=sql.Identifier(f"{stream.name}_hour"),
        id=sql.Identifier(stream.id_column),
        energy=sql.Identifier(stream.columns[stream.energy_key]),
        register=sql.Identifier(stream.columns[stream.register_key]),
        identity=_IDENTITY[stream],
        made_energy=null if registers else energy,
        made_register=register if registers else null,
        other_columns=sql.SQL(", ").join(map(sql.Identifier, figures)),
        other_figures=sql.SQL(", ").join(map(sql.Literal, figures.values())),
        made=energy,
        uncounted=sql.SQL("first * {}").format(energy) if registers else sql.Literal(0),
        average=sql.Literal(_AVERAGED[stream]),
        # A register that was read once has not risen.
        at_rest=sql.SQL("samples = first" if registers else "false"),
        high_water=sql.SQL("{}, at, at").format(register) if registers else sql.SQL("NULL, NULL, NULL"),
        max_kw=sql.Literal(rule.max_kw),
        max_gap=sql.Literal(to_datetime(rule.max_gap) - to_datetime(0)),
        stream_history=sql.Literal(stream.history),
        stream_quarter=sql.Literal(f"{stream.name}_quarter"),
        stream_hour=sql.Literal(f"{stream.name}_hour"),
    )
