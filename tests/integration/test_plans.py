# ruff: noqa: SIM300 - expected == actual
"""How PostgreSQL goes about what is asked: a device by its keys, a fleet by its hours, never through all of history."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from ingestd.model.device import DevicePage
from ingestd.model.periods import TimeRange, buckets_of, parse_bucket_length, periods
from ingestd.model.register import Rule
from ingestd.model.sessions import SessionRule
from ingestd.model.stream import METER, STREAMS, VEHICLE
from ingestd.store import queries
from ingestd.store.closing import Closing
from ingestd.store.devices import Devices
from ingestd.store.fleet import Fleet
from ingestd.store.ledger_snapshot import LedgerSnapshots
from ingestd.store.performance import Performances
from ingestd.store.pool import Pool, Snapshot
from ingestd.store.series import Series
from tests.support.harness import HOUR, POLICY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

    from ingestd.model.periods import Bucket
    from ingestd.store.queries import Statement

DAY = timedelta(days=1)
DEVICES = 60
DAYS = 3
FIRST = datetime(2026, 11, 17, tzinfo=UTC)
NEWEST = FIRST + DAYS * DAY - 7 * HOUR - timedelta(minutes=12, seconds=30)
CLOSED = NEWEST.replace(minute=31, second=30)
"""A quarter of an hour is not closed yet, so that all ways of reading are taken."""
WINDOW = TimeRange(start=NEWEST - DAY - timedelta(minutes=3), end=NEWEST)
"""Its edges lie inside of quarters."""
RULES = dict.fromkeys(STREAMS, Rule(max_kw=400))
PAGE = DevicePage(online=True, below_threshold=False, sort="id", descending=False, after=None, limit=10)

FILL_HISTORY = sql.SQL(
    "INSERT INTO {history} ({columns}) SELECT {stream} || '-' || n, ts, {sent}, ts"
    " FROM generate_series(%(first)s, %(newest)s, interval '1 minute') AS ts, generate_series(1, %(devices)s) AS n"
    " ORDER BY ts, n"  # as they come in
)
CHARGING = sql.SQL("CASE WHEN extract(hour FROM ts) < 3 THEN 0.1 ELSE 0 END")
FILL_LIVE = sql.SQL(
    "INSERT INTO {live} SELECT DISTINCT ON ({id}) * FROM {history} WHERE ts > %(closed)s ORDER BY {id}, ts DESC"
)


@pytest.fixture(scope="module")
def fleet_url(shared_database_url: str) -> str:
    """Half a million readings of three days, one a minute of each device, closed but for the newest quarter."""
    values = {"first": FIRST, "newest": NEWEST, "devices": DEVICES, "closed": CLOSED}
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
        connection.execute(
            "INSERT INTO vehicle_meter_mapping (vehicle_id, meter_id, valid_from)"
            " SELECT 'vehicle-' || n, 'meter-' || n, %(first)s FROM generate_series(1, %(devices)s) AS n",
            values,
        )
        connection.execute("VACUUM ANALYZE")
        asyncio.run(close(shared_database_url))
        connection.execute("VACUUM ANALYZE")  # as autovacuum does; it also sums up what BRIN indexes do not know yet
    return shared_database_url


async def close(url: str) -> None:
    closing = Closing(url, rules=RULES)
    await closing.catch_up(CLOSED)
    await closing.close()


class ExplainedSnapshot(Snapshot):
    """Keeps how each of its queries went, as the daemon asks it."""

    def __init__(self, snapshot: Snapshot, scans: list[Scan]) -> None:
        self._snapshot = snapshot
        self.as_of = snapshot.as_of
        self._scans = scans

    async def fetch(self, statement: Statement, parameters: Mapping[str, object]) -> list[Any]:
        await self._explain(statement, parameters)
        return await self._snapshot.fetch(statement, parameters)

    async def each(self, statement: Statement, parameters: Mapping[str, object]) -> AsyncIterator[Any]:
        await self._explain(statement, parameters)
        async for row in self._snapshot.each(statement, parameters):
            yield row

    async def _explain(self, statement: Statement, parameters: Mapping[str, object]) -> None:
        explain = replace(statement, text=b"EXPLAIN (ANALYZE, FORMAT JSON) " + statement.text)
        (((explained,),),) = await self._snapshot.fetch(explain, parameters)
        self._scans += scans(explained["Plan"])


class ExplainedReads(Pool):
    """The parts of all plans that did read a table."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        self.scans: list[Scan] = []

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        async with super().snapshot() as snapshot:
            yield ExplainedSnapshot(snapshot, self.scans)

    async def fetch(self, statement: Statement, parameters: Mapping[str, object]) -> list[Any]:
        async with self.snapshot() as snapshot:
            return await snapshot.fetch(statement, parameters)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    kind: str
    table: str
    rows: int
    """That were read, also where they were not wanted."""


def scans(node: dict[str, Any]) -> Iterator[Scan]:
    if "Relation Name" in node and (loops := node["Actual Loops"]):
        rows = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
        yield Scan(kind=node["Node Type"], table=node["Relation Name"], rows=round(rows * loops))
    for child in node.get("Plans", ()):
        yield from scans(child)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    performances: Performances
    series: Series
    fleet: Fleet
    devices: Devices


OF_ONE_DEVICE: dict[str, Callable[[Asked], Awaitable[object]]] = {
    "performance": lambda asked: asked.performances.of_vehicle("vehicle-7", WINDOW),
    "live": lambda asked: asked.devices.newest(METER, "meter-7"),
    "series": lambda asked: asked.series.of_device(VEHICLE, "vehicle-7", WINDOW, buckets("15m")),
    "totals": lambda asked: asked.series.totals(METER, "meter-7", WINDOW, periods(WINDOW, "day", UTC)),
    "sessions": lambda asked: asked.series.sessions("vehicle-7", WINDOW),
}
OF_ALL: dict[str, Callable[[Asked], Awaitable[object]]] = {
    "fleet": lambda asked: asked.fleet.energy(WINDOW),
    "efficiencies": lambda asked: asked.fleet.efficiencies(WINDOW),
    "series": lambda asked: asked.fleet.series(WINDOW, buckets("15m")),
    "meters": lambda asked: asked.devices.page(METER, PAGE),
}


def buckets(bucket: str) -> list[Bucket]:
    return buckets_of(WINDOW, parse_bucket_length(bucket), UTC)


async def scans_of(url: str, ask: Callable[[Asked], Awaitable[object]]) -> list[Scan]:
    pool = ExplainedReads(url)
    await pool.open()
    try:
        snapshots = LedgerSnapshots(pool, rules=RULES)
        fleet = Fleet(snapshots, policy=POLICY)
        await ask(
            Asked(
                performances=Performances(snapshots, policy=POLICY),
                series=Series(snapshots, session=SessionRule()),
                fleet=fleet,
                devices=Devices(pool, efficiencies=fleet.efficiencies, offline_after=timedelta(minutes=10)),
            )
        )
    finally:
        await pool.close()
    return pool.scans


@pytest.mark.parametrize("question", OF_ONE_DEVICE)
async def test_a_device_is_read_by_its_key_and_from_the_days_asked_for_only(fleet_url: str, question: str) -> None:
    found = [scan for scan in await scans_of(fleet_url, OF_ONE_DEVICE[question]) if scan.rows and is_large(scan.table)]

    assert {scan.kind for scan in found} <= {"Index Scan", "Index Only Scan", "Bitmap Heap Scan"}
    days = {f"{stream.history}_{day:%Y%m%d}" for stream in STREAMS for day in (WINDOW.start, WINDOW.end)}
    assert {scan.table for scan in found if "history" in scan.table} <= days


@pytest.mark.parametrize("question", ["performance", "series", "totals"])
async def test_what_a_device_did_is_told_by_rows_and_by_readings_of_edges_and_of_what_is_open(
    fleet_url: str, question: str
) -> None:
    found = await scans_of(fleet_url, OF_ONE_DEVICE[question])

    of_history = sum(scan.rows for scan in found if "history" in scan.table)
    assert 0 < of_history < 300  # of two devices at most, which sent 2,880


@pytest.mark.parametrize("question", OF_ALL)
async def test_no_question_is_answered_by_going_through_all_of_history(fleet_url: str, question: str) -> None:
    found = await scans_of(fleet_url, OF_ALL[question])

    of_history = [scan for scan in found if "history" in scan.table]
    assert [] == [scan for scan in of_history if scan.kind == "Seq Scan"]
    assert sum(scan.rows for scan in of_history) < 2 * DEVICES * 24 * 60 / 4
    assert (question == "meters") == (not of_history)


async def test_a_page_of_devices_by_id_is_read_along_the_key(fleet_url: str) -> None:
    with psycopg.connect(fleet_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO meter_live (meter_id, ts, voltage, received_at)"
            " SELECT 'x-' || n, now(), 230, now() FROM generate_series(1, 5000) AS n"
        )
        connection.execute("ANALYZE meter_live")
        try:
            for page in (
                PAGE,
                replace(PAGE, after=("x-30", "x-30")),
                replace(PAGE, after=("x-4", "x-4"), descending=True),
            ):
                found = await scans_of(fleet_url, lambda asked, page=page: asked.devices.page(METER, page))  # type: ignore[misc]

                assert [("Index Scan", "meter_live")] == [
                    (scan.kind, scan.table) for scan in found if scan.table == "meter_live"
                ]
                assert sum(scan.rows for scan in found) < 200
        finally:
            connection.execute("DELETE FROM meter_live WHERE meter_id ~ '^x-'")


def is_large(table: str) -> bool:
    return any(kind in table for kind in ("history", "quarter", "hour"))
