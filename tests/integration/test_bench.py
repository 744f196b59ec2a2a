# ruff: noqa: SIM300 - expected == actual
"""The benchmarks against real servers: everybody stores what it should, and history is what the daemon would make."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from psycopg import sql

from bench import million
from bench.backlog import Backlog
from bench.closing import close_a_quarter
from bench.contestants import BATCHES, INGESTD, ONE_BY_ONE, PIPE, Contestant
from bench.drain import drain
from bench.history import RULES, due_quarter, make_history
from bench.load import Load
from bench.mqtt import Client
from bench.processes import cpu_seconds
from bench.stage import Place
from ingestd.model import ledger
from ingestd.model.stream import METER, VEHICLE
from ingestd.store.closing import LAG, Closing
from tests.support.polling import until

if TYPE_CHECKING:
    from pathlib import Path

    from ingestd.demo.servers import PrivateMosquitto, PrivatePostgres


LOOK_AHEAD = timedelta(microseconds=ledger.LOOK_AHEAD)


@pytest.fixture
def place(broker: PrivateMosquitto, postgres_server: PrivatePostgres, database_url: str, tmp_path: Path) -> Place:
    return Place(broker=broker, postgres_pid=postgres_server.pid, dsn=database_url, directory=tmp_path)


@pytest.mark.parametrize("contestant", [INGESTD, PIPE, BATCHES, ONE_BY_ONE], ids=lambda contestant: contestant.name)
def test_a_contestant_stores_the_whole_backlog(place: Place, contestant: Contestant) -> None:
    drained = drain(place, contestant, Backlog(messages=100, devices=10), "test")

    assert pytest.approx(100) == drained.messages_per_second * drained.seconds
    assert (contestant is PIPE) == (drained.peak_rss_bytes is None)


def test_a_load_keeps_its_rate_and_stamps_each_reading_with_the_time_it_was_sent(broker: PrivateMosquitto) -> None:
    with Client(broker.url, "watcher") as watcher:
        watcher.subscribe([METER.topic_filter, VEHICLE.topic_filter])
    began = datetime.now(UTC)

    with Load(broker.url, rate=1000, devices=10) as load:
        until(lambda: load.published >= 200)
        load.stop()
    took = datetime.now(UTC) - began

    times = [part.at for part in load.parts]
    assert load.published == sum(part.messages for part in load.parts)
    assert began < times[0]
    assert times == sorted(set(times))
    assert took >= timedelta(seconds=0.19)


def test_a_load_stops_at_its_limit(broker: PrivateMosquitto) -> None:
    with Client(broker.url, "watcher") as watcher:
        watcher.subscribe([METER.topic_filter, VEHICLE.topic_filter])
    load = Load(broker.url, rate=100_000)
    load.limit = 5000

    with load:
        until(lambda: load.published == 5000)
        load.limit = 6000
        until(lambda: load.published == 6000)
        load.stop()

    assert 6000 == load.published


def test_a_load_without_a_broker_says_so(broker: PrivateMosquitto) -> None:
    broker.stop()

    with pytest.raises(ConnectionRefusedError), Load(broker.url, rate=10) as load:
        load.stop()


@pytest.mark.parametrize("registers", [False, True], ids=["intervals", "registers"])
@pytest.mark.parametrize("minute", [0, 1, 13, 14])  # at 14, the first reading is alone in its quarter
def test_history_has_the_ledger_that_closing_makes_of_it(
    place: Place,
    minute: int,
    registers: bool,  # noqa: FBT001
) -> None:
    now = datetime.now(UTC).replace(minute=minute) - timedelta(hours=1)
    rows = make_history(place, devices=4, days=1, registers=registers, now=now)

    assert 4 * 26 * 60 == rows  # a day, and what came before it
    assert rows == place.query("SELECT (SELECT count(*) FROM meter_history) + (SELECT count(*) FROM vehicle_history)")
    assert ["EV-00001", "EV-00003", "meter-00000", "meter-00002"] == place.query(
        "SELECT array_agg(id ORDER BY id)"
        " FROM (SELECT meter_id AS id FROM meter_live UNION SELECT vehicle_id FROM vehicle_live) AS device"
    )
    assert ["EV-00001 meter-00000", "EV-00003 meter-00002"] == place.query(
        "SELECT array_agg(vehicle_id || ' ' || meter_id ORDER BY vehicle_id) FROM vehicle_meter_mapping"
    )
    made, made_until = ledger_of(place), place.query("SELECT min(made_until) FROM ledger_share")
    with place.connect() as connection:
        connection.execute("TRUNCATE meter_quarter, meter_hour, vehicle_quarter, vehicle_hour")
        connection.execute("UPDATE ledger_share SET made_until = '-infinity'")
        connection.execute("UPDATE ledger SET closed_until = '-infinity'")

    asyncio.run(catch_up(place.dsn, made_until + LOOK_AHEAD + LAG))

    assert made_until == place.query("SELECT min(made_until) FROM ledger_share")
    assert made == ledger_of(place)
    assert 2 * 24 <= min(map(len, made.values()))


def test_history_may_be_shorter_than_its_ledger(place: Place) -> None:
    rows = make_history(place, devices=2, days=3, kept_days=1)

    assert 2 * 26 * 60 == rows == place.query("SELECT 2 * count(*) FROM meter_history")
    assert 74 * 4 - 2 <= place.query("SELECT count(*) FROM vehicle_quarter") <= 74 * 4 + 1


async def catch_up(dsn: str, now: datetime) -> None:
    closing = Closing(dsn, rules=RULES)
    try:
        await closing.catch_up(now)
    finally:
        await closing.close()


def ledger_of(place: Place) -> dict[str, list[tuple[Any, ...]]]:
    """All rows by table, sums to the millionth: they are added up in another order."""
    found = {}
    with place.connect() as connection:
        for table in ("meter_quarter", "meter_hour", "vehicle_quarter", "vehicle_hour"):
            rows = connection.execute(
                sql.SQL("SELECT * FROM {} ORDER BY 1, 2").format(sql.Identifier(table))
            ).fetchall()
            found[table] = [
                tuple(round(value, 6) if isinstance(value, float) else value for value in row) for row in rows
            ]
    return found


def test_cpu_time_is_told_to_less_than_a_hundredth_of_a_second(place: Place) -> None:
    before = cpu_seconds(place.broker.pid)
    with Client(place.broker.url, "visitor"):
        pass

    assert 0 < cpu_seconds(place.broker.pid) - before < 0.01


def test_closing_makes_the_rows_of_a_quarter_of_all_devices(place: Place) -> None:
    start, _ = due_quarter(datetime.now(UTC))

    figures = close_a_quarter(place, devices=4)

    assert {"seconds", "own_cpu", "postgres_cpu"} == figures.keys()
    with place.connect() as connection:
        made = [
            connection.execute(
                sql.SQL("SELECT count(*), sum(samples)::float FROM {} WHERE start = %s").format(
                    sql.Identifier(f"{stream.name}_quarter")
                ),
                [start],
            ).fetchone()
            for stream in (METER, VEHICLE)
        ]
    assert [(2, 30.0), (2, 30.0)] == made


def test_a_quarter_that_is_due_is_closed_while_readings_come_in(place: Place) -> None:
    began = datetime.now(UTC)

    run = million.run(place, devices=600, seconds=8.0)

    assert run["ledger_made_seconds"] is not None
    assert pytest.approx(10, rel=0.5) == run["rate"]
    assert 1 <= run["samples"][-1]["committed"] <= count_since(place, began) <= run["messages"] + 1


def count_since(place: Place, began: datetime) -> int:
    """Readings of the load: those that history was made of are of whole minutes before."""
    with place.connect() as connection:
        counts = [
            connection.execute(
                sql.SQL("SELECT count(*) FROM {} WHERE ts > %s").format(sql.Identifier(stream.history)), [began]
            ).fetchone()
            for stream in (METER, VEHICLE)
        ]
    return sum(row[0] for row in counts if row)
