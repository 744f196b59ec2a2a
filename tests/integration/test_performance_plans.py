# ruff: noqa: SIM300 - expected == actual
"""What a performance costs: few questions, by index, and readings only where rows do not tell."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg

from ingestd.model.periods import TimeRange
from ingestd.store.ledger_snapshot import LedgerSnapshots
from ingestd.store.performance import Performances
from ingestd.store.pool import Pool, Snapshot
from tests.support.harness import POLICY, Harness, opened
from tests.support.scenes import BEGIN, DAY, MINUTE, at

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from ingestd.store.queries import Statement

DEVICES = 20
EVERY = timedelta(minutes=10)
WINDOW = TimeRange(start=at(6), end=at(30))


class ExplainingSnapshot(Snapshot):
    """Keeps how each query was gone about."""

    plans: list[dict[str, Any]]

    async def fetch(self, statement: Statement, parameters: Mapping[str, object]) -> list[Any]:
        await self._explain(statement, parameters)
        return await super().fetch(statement, parameters)

    async def each(self, statement: Statement, parameters: Mapping[str, object]) -> AsyncIterator[Any]:
        await self._explain(statement, parameters)
        async for row in super().each(statement, parameters):
            yield row

    async def _explain(self, statement: Statement, parameters: Mapping[str, object]) -> None:
        explain = replace(statement, text=b"EXPLAIN (ANALYZE, FORMAT JSON) " + statement.text)
        (((explained,),),) = await super().fetch(explain, parameters)
        self.plans.append(explained["Plan"])


class ExplainingReads(Pool):
    """Keeps how the queries of all snapshots were gone about."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        self.plans: list[dict[str, Any]] = []

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        async with super().snapshot() as snapshot:
            explaining = ExplainingSnapshot(snapshot._connection)  # noqa: SLF001 - the same transaction
            explaining.plans = self.plans
            yield explaining


def scans(node: dict[str, Any]) -> Iterator[tuple[str, str, int]]:
    """(kind of node, table, rows) of everything that did read history or the ledger."""
    table = node.get("Relation Name", "")
    if ("_history_" in table or "_quarter_" in table) and node["Actual Loops"]:
        yield node["Node Type"], table, node["Actual Rows"] * node["Actual Loops"]
    for child in node.get("Plans", ()):
        yield from scans(child)


async def a_fleet(harness: Harness) -> None:
    """Three days of twenty vehicles and meters, all closed."""
    with psycopg.connect(harness.url, autocommit=True) as connection:
        for stream, figures in (("meter", "1, 230"), ("vehicle", "50, 0.9, 20")):
            for day in range(3):
                connection.execute(
                    "SELECT ingestd_make_partition(%s, %s)", (f"{stream}_history", (BEGIN + day * DAY).date())
                )
            connection.execute(
                f"INSERT INTO {stream}_history SELECT 'd-' || n, ts, ts, {figures}"  # noqa: S608
                " FROM generate_series(1, %s) AS n, generate_series(%s, %s, %s) AS ts".encode(),
                (DEVICES, BEGIN, BEGIN + 2 * DAY, EVERY),
            )
        connection.execute(
            "INSERT INTO vehicle_meter_mapping SELECT 'd-' || n, %s, NULL, 'd-' || n FROM generate_series(1, %s) AS n",
            (BEGIN, DEVICES),
        )
    await harness.close(BEGIN + 2 * DAY + 30 * MINUTE)
    with psycopg.connect(harness.url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")


async def explained(harness: Harness, window: TimeRange) -> tuple[list[dict[str, Any]], int | None]:
    """How each query was gone about, and how many readings the answer is made of."""
    pool = ExplainingReads(harness.url)
    await pool.open()
    try:
        found = await Performances(LedgerSnapshots(pool, rules=harness.rules), policy=POLICY).of_vehicle("d-7", window)
    finally:
        await pool.close()
    assert found is not None
    return pool.plans, found.samples


async def test_a_performance_asks_few_questions_by_index_and_reads_history_at_edges_only(
    shared_database_url: str,
) -> None:
    async with opened(shared_database_url) as harness:
        await a_fleet(harness)
        whole, samples = await explained(harness, WINDOW)
        cut, _ = await explained(harness, replace(WINDOW, start=at(6, 7), end=at(29, 53)))

    found = {name: [scan for plan in plans for scan in scans(plan)] for name, plans in (("whole", whole), ("cut", cut))}
    assert DAY // EVERY == samples
    assert 11 >= len(whole)
    assert 22 >= len(cut)
    assert [] == [scan for scans in found.values() for scan in scans if scan[0] == "Seq Scan"]
    assert [] == [scan for scan in found["whole"] if "_history_" in scan[1]]
    # At each edge some readings around it, of the vehicle and of its meter.
    assert 40 >= sum(rows for _, table, rows in found["cut"] if "_history_" in table)
