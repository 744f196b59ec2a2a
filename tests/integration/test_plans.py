# ruff: noqa: SIM300 - expected == actual
"""How PostgreSQL goes about what dashboards ask: by indexes, never through all of history."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from ingestd.store.fleet_series import FleetSeries
from ingestd.store.reads import Analytics
from ingestd.store.rollups import LAG, Rollups
from psycopg import sql
from tests.support.house import JUDGEMENT

from ingestd.analytics import DevicePage, TimeRange
from ingestd.periods import Stretch, parse_bucket, stretches
from ingestd.store import queries
from ingestd.store.database import READ_SETTINGS, Reads
from ingestd.store.devices import Devices
from ingestd.telemetry import METER, STREAMS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from ingestd.store.database import Connection
    from ingestd.store.queries import Statement
    from ingestd.telemetry import Stream

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
DEVICES = 60
DAYS = 3
FIRST = datetime(2026, 11, 17, tzinfo=UTC)
NEWEST = FIRST + DAYS * DAY - 7 * HOUR - timedelta(minutes=12, seconds=30)
SETTLED = NEWEST.replace(minute=30, second=0)
"""A quarter of an hour is not settled yet, so that all ways of reading are taken."""
WINDOW = TimeRange(start=NEWEST - DAY - timedelta(minutes=3), end=NEWEST)

FILL_HISTORY = sql.SQL(
    "INSERT INTO {history} ({columns}) SELECT {stream} || '-' || n, ts, {sent}, ts"
    " FROM generate_series(%(first)s, %(newest)s, interval '1 minute') AS ts, generate_series(1, %(devices)s) AS n"
    " ORDER BY ts, n"  # as they come in
)
CHARGING = sql.SQL("CASE WHEN extract(hour FROM ts) < 3 THEN 0.1 ELSE 0 END")
FILL_LIVE = sql.SQL(
    "INSERT INTO {live} SELECT DISTINCT ON ({id}) * FROM {history} WHERE ts > %(settled)s ORDER BY {id}, ts DESC"
)
FILL_ROLLUPS = sql.SQL(
    "INSERT INTO {day} ({id}, day, kwh, samples, averaged, cadence) SELECT {stream} || '-' || n, day,"
    " array_fill(1.5::float8, ARRAY[96]), array_fill(15, ARRAY[96]), array_fill(750::float8, ARRAY[96]), 60"
    " FROM generate_series(%(first)s, %(newest)s, interval '1 day') AS day, generate_series(1, %(devices)s) AS n"
)

TYPES = {
    bool: "bool",
    int: "int",
    float: "float8",
    date: "date",
    datetime: "timestamptz",
    timedelta: "interval",
}
"""What psycopg says that parameters are; PostgreSQL finds out itself about the rest."""


class NotedReads(Reads):
    """Notes what is asked."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        self.asked: list[tuple[Statement, Mapping[str, object]]] = []

    async def fetch(self, statement: Statement, parameters: Mapping[str, object]) -> list[Any]:
        self.asked.append((statement, parameters))
        return await super().fetch(statement, parameters)


@pytest.fixture(scope="module")
def fleet(shared_database_url: str) -> str:
    """A database with half a million readings, one a minute of 60 meters and 60 vehicles over three days."""
    values = {"first": FIRST, "newest": NEWEST, "devices": DEVICES, "settled": SETTLED}
    with psycopg.connect(shared_database_url, autocommit=True) as connection:
        connection.execute("SET timezone = 'UTC'")
        for stream in STREAMS:
            for day in range(DAYS + 2):  # with those ahead
                connection.execute(
                    "SELECT ingestd_make_partition(%s, %s)", (stream.history, (FIRST + day * DAY).date())
                )
            sent = sql.SQL(", ").join(
                CHARGING if key == stream.energy_key else sql.Literal(None if key == stream.register_key else 50.0)
                for key in stream.columns
            )
            connection.execute(queries.for_stream(FILL_HISTORY, stream, sent=sent), values)
            connection.execute(queries.for_stream(FILL_LIVE, stream), values)
            connection.execute(queries.for_stream(FILL_ROLLUPS, stream), values)
        connection.execute(
            "INSERT INTO vehicle_meter_mapping (vehicle_id, meter_id, valid_from)"
            " SELECT 'vehicle-' || n, 'meter-' || n, %(first)s FROM generate_series(1, %(devices)s) AS n",
            values,
        )
        connection.execute("UPDATE rollup SET settled = %(settled)s, announced = %(settled)s", values)
        connection.execute("VACUUM ANALYZE")  # as autovacuum does; it also sums up what BRIN indexes do not know yet
    return shared_database_url


def prepared(statement: Statement, values: Sequence[object]) -> bytes:
    """As the daemon prepares it, with types."""
    types = ", ".join(TYPES.get(type(value), "unknown") for value in values)
    return f"PREPARE asked {f'({types})' if values else ''} AS ".encode() + statement.text


def executed(values: Sequence[object]) -> sql.Composed:
    given = sql.SQL(", ").join(sql.Literal(value) for value in values)
    return sql.SQL("EXECUTE asked {}").format(sql.SQL("({})").format(given) if values else sql.SQL(""))


def explained(connection: psycopg.Connection, statement: Statement, parameters: Mapping[str, object]) -> dict[str, Any]:
    """The plan that the statement gets when it is asked as the daemon asks it."""
    values = [parameters[name] for name in statement.parameters]
    connection.execute(prepared(statement, values))
    try:
        ((found,),) = connection.execute(sql.SQL("EXPLAIN (FORMAT JSON) ") + executed(values)).fetchall()
    finally:
        connection.execute("DEALLOCATE asked")
    root: dict[str, Any] = found[0]["Plan"]
    return root


def scans(node: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(kind of node, table) of everything that reads a table."""
    if "Relation Name" in node:
        yield node["Node Type"], node["Relation Name"]
    for child in node.get("Plans", ()):
        yield from scans(child)


def buckets(bucket: str) -> list[Stretch]:
    return stretches(WINDOW, parse_bucket(bucket), UTC)


PAGE = DevicePage(online=True, below_threshold=False, sort="id", descending=False, after=None, limit=10)
QUESTIONS: dict[str, Callable[[Analytics, FleetSeries, Devices], Awaitable[object]]] = {
    "performance": lambda analytics, _, __: analytics.performance("vehicle-7", WINDOW),
    "fleet": lambda analytics, _, __: analytics.fleet(WINDOW),
    "efficiencies": lambda analytics, _, __: analytics.efficiencies(WINDOW),
    "live": lambda analytics, _, __: analytics.live(METER, "meter-7"),
    "series of the fleet": lambda _, series, __: series.of_fleet(WINDOW, buckets("15m")),
    "meters": lambda _, __, devices: devices.page(METER, PAGE),
}
LIVE_ROWS_ALONE = {"live", "meters"}


@pytest.mark.parametrize("question", QUESTIONS)
async def test_no_question_is_answered_by_going_through_all_of_history(fleet: str, question: str) -> None:
    reads = NotedReads(fleet)
    await reads.open()
    try:
        analytics = Analytics(reads, judgement=JUDGEMENT)
        devices = Devices(reads, analytics=analytics, offline_after=timedelta(minutes=10))
        await QUESTIONS[question](analytics, FleetSeries(reads, analytics=analytics), devices)
    finally:
        await reads.close()

    with psycopg.connect(fleet, autocommit=True) as connection:
        connection.execute(READ_SETTINGS)
        found = [scan for asked in reads.asked for scan in scans(explained(connection, *asked))]

    of_history = [(kind, table) for kind, table in found if "_history" in table]
    assert [] == [(kind, table) for kind, table in of_history if kind == "Seq Scan"]
    assert (question in LIVE_ROWS_ALONE) == (not of_history)


class ExplainedRollups(Rollups):
    """Keeps how the last roll-up went."""

    plan: dict[str, Any]

    async def _execute(self, connection: Connection, stream: Stream, name: str, **parameters: Any) -> Any:  # noqa: ANN401 - as in Rollups
        if name != "roll_up":
            return await super()._execute(connection, stream, name, **parameters)
        statement = queries.ready(self._sql[stream][name])
        values = [parameters[parameter] for parameter in statement.parameters]
        await connection.execute(prepared(statement, values))
        explain = sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) ") + executed(values)
        ((found,),) = await (await connection.execute(explain)).fetchall()
        await connection.execute("DEALLOCATE asked")
        self.plan = found[0]["Plan"]
        return None


def compared(node: dict[str, Any]) -> float:
    """Pairs of rows that were looked at and did not belong together."""
    here: float = node.get("Rows Removed by Join Filter", 0) * node["Actual Loops"]
    return here + sum(map(compared, node.get("Plans", ())))


@pytest.mark.parametrize("minute", [0, 15], ids=["made with care", "appended"])
async def test_no_device_is_compared_with_every_other_though_statistics_know_nothing_of_the_newest_quarter(
    database_url: str, minute: int
) -> None:
    devices = 300
    newest = FIRST + timedelta(hours=6, minutes=minute)
    report = (
        "INSERT INTO vehicle_history (vehicle_id, ts, soc, kwh_delivered_dc, battery_temp, received_at)"
        " SELECT 'vehicle-' || n, ts, 50, 0.1, 20, ts"
        " FROM generate_series(%(from)s, %(until)s - interval '1 minute', '1 minute') AS ts,"
        " generate_series(1, %(devices)s) AS n"
    )
    rollups = ExplainedRollups(database_url, plausible_kw=400.0)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SELECT ingestd_make_partition('vehicle_history', %s)", (FIRST.date(),))
        connection.execute(report, {"from": FIRST, "until": newest, "devices": devices})
        connection.execute("ANALYZE vehicle_history")
        await rollups.catch_up(newest + LAG)
        connection.execute(report, {"from": newest, "until": newest + timedelta(minutes=15), "devices": devices})
        connection.execute("ANALYZE vehicle_day")

        await rollups.catch_up(newest + timedelta(minutes=15) + LAG)
        await rollups.close()

        ((rolled_up,),) = connection.execute("SELECT sum(samples[cardinality(samples)]) FROM vehicle_day").fetchall()
    assert (6 * 60 + minute + 15) * devices == rolled_up
    assert compared(rollups.plan) < 10 * devices
