# ruff: noqa: SIM300 - expected == actual
"""A daemon hangs, or its machine is gone, in the midst of a transaction: others soon get the locks that it holds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ingestd.errors import StoreError
from ingestd.model.register import Rule
from ingestd.model.stream import METER
from ingestd.pipeline.delivery import Batch
from ingestd.store import closing_steps
from ingestd.store import pool as pools
from ingestd.store.closing_steps import ClosingSteps
from ingestd.store.connection import connect
from ingestd.store.ledger import LedgerTables
from ingestd.store.pool import Pool
from ingestd.store.queries import Statement
from ingestd.store.writer import Writer
from tests.fakes import FakeOrigin
from tests.support.deliveries import delivery_of, meter_row
from tests.support.polling import eventually

SOCKETS = Path("/proc/net/tcp")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
KEEPALIVE_SECONDS = 5
ONE = Statement(text=b"SELECT 1", parameters=())
LOCK = "LOCK TABLE vehicle_meter_mapping IN EXCLUSIVE MODE"


@pytest.mark.skipif(not SOCKETS.exists(), reason="Linux shows the timers of sockets")
async def test_the_server_soon_asks_a_silent_connection_whether_our_machine_is_still_there(database_url: str) -> None:
    connection = await connect(database_url, application_name="ingestd-silent")
    async with connection:
        cursor = await connection.execute("SELECT inet_client_port(), inet_server_port()")
        client, server = await cursor.fetchone() or (0, 0)
        seconds = await eventually(lambda: seconds_to_keepalive(local=server, remote=client))
        assert seconds <= KEEPALIVE_SECONDS


def seconds_to_keepalive(*, local: int, remote: int) -> float:
    """When the kernel's timer of a connection sends the next probe (Linux, proc_net_tcp; timer 2 is keepalive)."""
    lines = [line.split() for line in SOCKETS.read_text().splitlines()[1:]]
    (timer,) = [line[5] for line in lines if (port_of(line[1]), port_of(line[2])) == (local, remote)]
    kind, ticks = timer.split(":")
    assert "02" == kind
    return int(ticks, 16) / TICKS_PER_SECOND


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2], 16)


async def test_a_change_by_a_request_ends_if_its_daemon_hangs(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "HUNG_TIMEOUT", "300ms")
    async with Pool(database_url) as pool:
        with pytest.raises(StoreError, match=r"25P03: .* idle-in-transaction timeout"):
            await lock_and_hang(pool, until_locked_by=database_url)
        assert [(1,)] == await pool.fetch(ONE, {})


async def test_a_closing_holds_writers_up_for_seconds_only_if_its_daemon_hangs(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing_steps, "HUNG_TIMEOUT", "300ms")
    connection = await connect(database_url, application_name="ingestd-ledger")
    writer = Writer(database_url)
    fetch = LedgerTables.fetch

    async def write_before_close(tables: LedgerTables, name: str, **parameters: object) -> list[Any]:
        if name == "close":
            await writer.write(Batch.of([delivery_of(FakeOrigin(), meters=[meter_row()])]))
        return await fetch(tables, name, **parameters)

    monkeypatch.setattr(LedgerTables, "fetch", write_before_close)
    async with connection:
        with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
            await ClosingSteps(connection, METER, Rule(max_kw=400)).close(0)
    await writer.close()


async def lock_and_hang(pool: Pool, *, until_locked_by: str) -> None:
    """Change something in a transaction, and hang until somebody else has got the lock."""
    async with pool.transaction() as hanging:
        await hanging.execute(LOCK)
        with psycopg.connect(until_locked_by) as other:
            other.execute("SET lock_timeout = '5s'")
            other.execute(LOCK)
        await hanging.execute(LOCK)
