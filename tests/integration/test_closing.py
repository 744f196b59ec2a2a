# ruff: noqa: SIM300 - expected == actual
"""Closing under faults: several at once, ends in the middle, locks, floods, partitions of any kind, lost history."""

from __future__ import annotations

import asyncio
import math
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from ingestd.errors import StoreError
from ingestd.metrics import Metrics
from ingestd.model.ledger import Made, make
from ingestd.model.register import Rule
from ingestd.model.stream import METER, STREAMS
from ingestd.model.timestamps import to_microseconds
from ingestd.store import closing, closing_steps, stale
from ingestd.store.closing import Closing
from ingestd.store.ledger import LedgerTables
from ingestd.store.partitions import Partitions
from ingestd.store.stale import make_anew
from tests.support.energy import Sample
from tests.support.harness import Harness, opened
from tests.support.polling import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
QUARTER = timedelta(minutes=15)
MINUTE = timedelta(minutes=1)
START = datetime(2026, 10, 31, 22, 0, tzinfo=UTC)
"""A month ends two hours later."""
LATER = START + 6 * HOUR


@pytest.fixture
async def harness(database_url: str) -> AsyncIterator[Harness]:
    async with opened(database_url) as harness:
        yield harness


def by_the_minute(device: str, start: datetime, length: timedelta, *, kwh: float = 0.1) -> list[Sample]:
    return [
        Sample(device=device, at=start + number * MINUTE, interval=kwh) for number in range(1, length // MINUTE + 1)
    ]


def query(harness: Harness, statement: str, *parameters: object) -> list[Any]:
    with psycopg.connect(harness.url, autocommit=True, options="-c timezone=UTC") as connection:
        cursor = connection.execute(statement.encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []


def rows(harness: Harness) -> list[tuple[Any, ...]]:
    """(device, start, kWh, readings) of all quarters."""
    return query(
        harness, "SELECT meter_id, start, round(kwh::numeric, 6)::float8, samples FROM meter_quarter ORDER BY 1, 2"
    )


def sums(harness: Harness, table: str = "meter_quarter") -> dict[str, tuple[float, int]]:
    """Of each device kWh and readings."""
    found = query(harness, f"SELECT meter_id, sum(kwh), sum(samples) FROM {table} GROUP BY 1")  # noqa: S608
    return {device: (round(kwh, 6), samples) for device, kwh, samples in found}


def made_until(harness: Harness) -> set[datetime]:
    return {at for (at,) in query(harness, "SELECT made_until FROM ledger_share WHERE stream = 'meter'")}


def copy_in(harness: Harness, moments: Iterable[datetime], *, device: str = "copied", partition: str = "") -> None:
    """Readings that came over no door of ours."""
    if partition:
        query(harness, f"CREATE TABLE meter_history_other PARTITION OF meter_history {partition}")
    for at in moments:
        if not partition:
            query(harness, "SELECT ingestd_make_partition('meter_history', %s::date)", at.date())
        query(
            harness,
            "INSERT INTO meter_history (meter_id, ts, kwh_consumed_ac, voltage, received_at)"
            " VALUES (%s, %s, 1, 230, now())",
            device,
            at,
        )


# Several at once, and ends in the middle


async def test_two_share_the_work_and_make_what_one_makes(harness: Harness) -> None:
    await harness.write(meters=[one for n in range(40) for one in by_the_minute(f"m{n}", START, 4 * HOUR)])
    others = [Closing(harness.url, rules=harness.rules) for _ in range(2)]

    async def made(number: int) -> bool:
        try:
            await others[number].catch_up(LATER)
        except StoreError:  # a lock that the other one has
            return False
        return {LATER - QUARTER} >= made_until(harness) or made_until(harness) == {LATER}

    try:
        await asyncio.gather(*(eventually(partial(made, number), within=60) for number in range(2)))
    finally:
        for other in others:
            await other.close()
    assert {f"m{n}": (24.0, 240) for n in range(40)} == sums(harness) == sums(harness, "meter_hour")
    assert {(15, 1.5)} == {(samples, kwh) for _, _, kwh, samples in rows(harness)}


@pytest.mark.parametrize("statement", ["store", "sum_hours", "move_on"])
async def test_who_ends_in_the_middle_of_a_step_leaves_none_of_it(
    harness: Harness, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await harness.write(meters=[one for n in range(8) for one in by_the_minute(f"m{n}", START, 2 * HOUR)])
    fetch = LedgerTables.fetch

    async def killed(self: LedgerTables, name: str, **parameters: object) -> list[Any]:
        if name == statement:
            query(
                harness,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'ingestd-ledger' AND datname = current_database()",
            )
        return await fetch(self, name, **parameters)

    with monkeypatch.context() as patch:
        patch.setattr(LedgerTables, "fetch", killed)
        with pytest.raises(StoreError):
            await harness.closing.catch_up(LATER)
    await harness.close(LATER)

    assert {f"m{n}": (12.0, 120) for n in range(8)} == sums(harness) == sums(harness, "meter_hour")


async def test_a_share_that_somebody_holds_keeps_no_other_from_being_made(harness: Harness) -> None:
    await harness.write(meters=[one for n in range(20) for one in by_the_minute(f"m{n}", START, HOUR)])
    await harness.closing.catch_up(START + QUARTER + 2 * MINUTE)
    with psycopg.connect(harness.url) as other:
        other.execute("SELECT FROM ledger_share WHERE stream = 'meter' AND share = 1 FOR UPDATE")
        await harness.closing.catch_up(LATER)
        assert 2 == len(made_until(harness))
    await harness.close(LATER)
    assert {(6.0, 60)} == set(sums(harness).values())


async def test_writers_that_hold_a_quarter_open_are_waited_for_but_not_for_ever(harness: Harness) -> None:
    await harness.write(meters=by_the_minute("m", START, HOUR))
    with psycopg.connect(harness.url) as writer:
        writer.execute("SELECT ingestd_closed_until()")
        with pytest.raises(StoreError):
            await harness.closing.catch_up(LATER)
        assert [] == rows(harness)
    await harness.close(LATER)
    assert {"m": (6.0, 60)} == sums(harness)


# Much at once


async def test_a_device_that_sends_very_much_holds_up_no_other(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing_steps, "MOST_OF_A_DEVICE", 500)
    flood = [
        Sample(device="flood", at=START + number * timedelta(seconds=1), interval=0.001) for number in range(1, 1801)
    ]
    await harness.write(meters=[*flood, *by_the_minute("m", START, HOUR)])

    made: list[list[tuple[Any, ...]]] = []
    anew = make_anew

    async def watched(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        made.append(rows(harness))
        await anew(*args, **kwargs)

    monkeypatch.setattr(closing_steps, "make_anew", watched)
    await harness.close(LATER)

    assert {"m"} == {device for device, *_ in made[0]}
    assert {"m": (6.0, 60), "flood": (1.8, 1800)} == sums(harness) == sums(harness, "meter_hour")


async def test_late_readings_of_very_many_devices_are_worked_off(harness: Harness) -> None:
    devices = [f"m{n}" for n in range(1200)]
    await harness.write(meters=[Sample(device=device, at=START + MINUTE, interval=1) for device in devices])
    await harness.close(LATER)
    await harness.write(meters=[Sample(device=device, at=START + 2 * MINUTE, interval=1) for device in devices])

    await harness.closing.catch_up(LATER)
    assert 1200 == harness.closing.stale_devices[METER]
    await harness.closing.catch_up(LATER)
    assert 200 == harness.closing.stale_devices[METER]
    await harness.closing.catch_up(LATER)

    assert 0 == harness.closing.stale_devices[METER]
    assert {(2.0, 2)} == set(sums(harness).values())


async def test_rows_may_take_longer_to_calculate_than_a_closing_may_hold_writers_up(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*arguments: Any, **options: Any) -> Made:  # noqa: ANN401 - whatever make takes
        time.sleep(0.5)
        return make(*arguments, **options)

    monkeypatch.setattr(closing_steps, "HUNG_TIMEOUT", "100ms")
    monkeypatch.setattr(stale, "make", slow)
    await harness.write(meters=[Sample(device="m", at=START + MINUTE, interval=1)])

    await harness.close(LATER)

    assert {"m": (1.0, 1)} == sums(harness)


async def test_a_device_that_is_late_again_and_again_rests_in_between(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "PAUSE_FACTOR", 1e6)
    await harness.write(meters=[*by_the_minute("late", START, HOUR), *by_the_minute("m", START, HOUR)])
    await harness.closing.catch_up(LATER)
    for second in range(3):
        await harness.write(
            meters=[
                Sample(device=device, at=START + timedelta(seconds=second + 1), interval=1)
                for device in ("late", f"m{second}")
            ]
        )
        await harness.closing.catch_up(LATER)

    assert {"late": (7.0, 61), **{f"m{n}": (1.0, 1) for n in range(3)}} == {
        device: its for device, its in sums(harness).items() if device != "m"
    }
    assert 2 == harness.closing.stale_devices[METER]  # the last one, and the one that rests


# History of any kind


@pytest.mark.parametrize("partition", ["DEFAULT", "FOR VALUES FROM (MINVALUE) TO ('2020-01-01Z')"])
async def test_readings_in_a_partition_without_bounds_are_in_the_ledger(harness: Harness, partition: str) -> None:
    at = datetime(2019, 12, 30, 12, 0, tzinfo=UTC)
    copy_in(harness, [at, at + MINUTE], partition=partition)
    await harness.write(meters=by_the_minute("m", START, HOUR))

    await harness.close(LATER)

    assert {"copied": (2.0, 2), "m": (6.0, 60)} == sums(harness)


async def test_a_row_with_neither_interval_nor_register_counts_nothing_and_holds_up_nobody(harness: Harness) -> None:
    registers = [Sample(device="r", at=START + n * MINUTE, register=100 + n / 10) for n in range(61)]
    await harness.write(meters=[*by_the_minute("m", START, HOUR), *registers])
    for device in ("m", "r", "nothing else"):
        for seconds in (30, 600 + 30, 1800 + 30):
            query(
                harness,
                "INSERT INTO meter_history (meter_id, ts, voltage, received_at) VALUES (%s, %s, 230, now())",
                device,
                START + timedelta(seconds=seconds),
            )
    async with harness.snapshots.now() as snapshot:
        window = to_microseconds(START), to_microseconds(START + HOUR)
        open_yet = {
            device: (await snapshot.device(METER, device).energy(*window)).total(*window) for device in ("m", "r")
        }
        assert {"m": (6.0, 60), "r": (6.0, 60)} == {
            device: (round(energy.kwh, 6), energy.samples) for device, energy in open_yet.items()
        }
    await harness.close(LATER)

    assert {"m": (6.0, 60), "r": (6.0, 61)} == sums(harness) == sums(harness, "meter_hour")


async def test_a_hole_of_years_in_history_is_gone_over_in_one_step(harness: Harness) -> None:
    copy_in(harness, [datetime(1985, 1, 1, tzinfo=UTC), datetime(1985, 1, 1, 12, 0, tzinfo=UTC)])
    await harness.write(meters=by_the_minute("m", START, HOUR))

    await asyncio.wait_for(harness.close(LATER), 30)

    assert {"copied": (2.0, 2), "m": (6.0, 60)} == sums(harness)


async def test_a_reading_of_the_far_future_does_not_count_as_history(harness: Harness) -> None:
    copy_in(
        harness,
        [datetime(9999, 12, 30, 12, 0, tzinfo=UTC)],
        partition="FOR VALUES FROM ('9999-12-30') TO ('9999-12-31')",
    )
    await harness.closing.catch_up(LATER)
    await harness.write(meters=by_the_minute("m", START, HOUR))

    await harness.close(LATER)

    assert {"m": (6.0, 60)} == sums(harness)


async def test_a_reading_at_the_midnight_that_history_begins_with_is_in_the_ledger(harness: Harness) -> None:
    midnight = datetime(2026, 11, 1, tzinfo=UTC)
    await harness.write(meters=[Sample(device="m", at=midnight, interval=1)])

    await harness.close(midnight + 6 * HOUR)

    assert [("m", midnight - QUARTER, 1.0, 1)] == rows(harness)


async def test_what_is_made_stays_when_its_readings_are_gone(harness: Harness) -> None:
    """The last reading of a device stays open for what follows it, which may be behind the retention of history."""
    hourly = [Sample(device="m", at=START - DAY + number * HOUR, interval=4) for number in range(4)]
    await harness.write(meters=hourly)
    await harness.close(LATER)
    before = rows(harness)
    assert {"m": (16.0, 4)} == sums(harness)
    query(harness, f"DROP TABLE meter_history_{START - DAY:%Y%m%d}")
    query(harness, "DROP TABLE IF EXISTS meter_history_20261031")

    again = [Sample(device="m", at=START + 30 * DAY + number * HOUR, interval=4) for number in range(3)]
    await harness.write(meters=again)
    await harness.close(START + 30 * DAY + 12 * HOUR)

    assert {"m": (28.0, 7)} == sums(harness)
    assert before == rows(harness)[: len(before)]


async def test_a_register_goes_on_from_its_last_row_when_its_readings_are_gone(harness: Harness) -> None:
    await harness.write(
        meters=[Sample(device="m", at=START - DAY + n * MINUTE, register=100 + n // 60) for n in range(180)]
    )
    await harness.close(LATER)
    query(harness, f"DROP TABLE meter_history_{START - DAY:%Y%m%d}")
    query(harness, "DROP TABLE IF EXISTS meter_history_20261031")

    await harness.write(
        meters=[Sample(device="m", at=START + 30 * DAY + n * MINUTE, register=103 + n // 60) for n in range(180)]
    )
    await harness.close(START + 30 * DAY + 12 * HOUR)

    kwh, _ = sums(harness)["m"]
    assert pytest.approx(5, abs=0.001) == kwh  # but for a minute of the gap, which lies in a row that stays


# Another rule


async def test_another_rule_makes_all_anew_and_of_two_the_newer_stands(harness: Harness) -> None:
    await harness.write(meters=by_the_minute("m", START, HOUR, kwh=3))
    await harness.close(LATER)
    assert {"m": (180.0, 60)} == sums(harness)

    newer = Closing(harness.url, rules=dict.fromkeys(STREAMS, Rule(max_kw=100)))
    try:
        await newer.catch_up(LATER)
        first = {"m": (3.0, 60)}  # may have taken an hour; all others are implausible now
        assert first == sums(harness) == sums(harness, "meter_hour")
        await harness.closing.catch_up(LATER)
        assert first == sums(harness)
    finally:
        await newer.close()


async def test_another_rule_where_nothing_was_ever_sent_is_kept(harness: Harness) -> None:
    for kw in (400.0, 100.0):
        other = Closing(harness.url, rules=dict.fromkeys(STREAMS, Rule(max_kw=kw)))
        await other.catch_up(LATER)
        await other.close()
    assert [(100.0,), (100.0,)] == query(harness, "SELECT max_kw FROM ledger")


# What goes


async def test_history_goes_only_as_far_as_the_ledger_is_made(harness: Harness) -> None:
    await harness.write(meters=by_the_minute("m", START, 4 * HOUR))
    partitions = Partitions(harness.url)
    older = timedelta(seconds=1)
    with pytest.raises(StoreError, match="meter_history_20261031 is past its retention, but not in the ledger yet"):
        await partitions.drop_days(METER, older_than=older)
    await harness.closing.catch_up(datetime(2026, 11, 1, 1, 0, tzinfo=UTC))

    query(harness, "DROP TABLE meter_history_20261101")
    await partitions.drop_days(METER, older_than=older)

    assert [] == query(harness, "SELECT FROM pg_class WHERE relname = 'meter_history_20261031'")


async def test_months_of_the_ledger_go_in_their_time(harness: Harness) -> None:
    now = datetime.now(UTC)
    old = (now - 100 * DAY).replace(hour=12, minute=0, second=0, microsecond=0)
    for at in (old, now.replace(minute=0, second=0, microsecond=0) - DAY):
        await harness.write(meters=by_the_minute("m", at, HOUR))
    await harness.close(now)
    assert {"m": (12.0, 120)} == sums(harness) == sums(harness, "meter_hour")

    await Partitions(harness.url).drop_months(METER, older_than=60 * DAY)

    assert {"m": (6.0, 60)} == sums(harness) == sums(harness, "meter_hour")
    await harness.close(now + HOUR)
    assert [] == query(harness, f"SELECT FROM pg_class WHERE relname LIKE 'meter%{old:%Y%m}'")


async def test_a_partition_of_somebody_else_is_not_taken_for_a_month_because_of_its_name(harness: Harness) -> None:
    for table in ("meter_quarter", "meter_hour"):
        query(
            harness,
            f"CREATE TABLE {table}_old_{START:%Y%m} PARTITION OF {table}"
            " FOR VALUES FROM ('2001-01-01') TO ('2002-01-01')",
        )
    await harness.write(meters=[Sample(device="m", at=START + MINUTE, interval=1)])

    await harness.close(LATER)

    assert {"m": (1.0, 1)} == sums(harness)


# What is told of it


async def test_how_far_it_is_shows_in_metrics(harness: Harness) -> None:
    metrics = Metrics()
    metrics.expose_ledger(lambda: harness.closing.made_until, lambda: harness.closing.stale_devices)
    made = metrics.registry.get_sample_value

    def shown(name: str) -> float:
        value = made(name, {"stream": "meter"})
        assert value is not None
        return value

    assert math.isnan(shown("ingestd_ledger_made_until_timestamp_seconds"))
    assert math.isnan(shown("ingestd_ledger_stale_devices"))
    await harness.write(meters=by_the_minute("m", START, HOUR))
    await harness.close(START + HOUR + 2 * MINUTE)
    assert (START + HOUR).timestamp() == shown("ingestd_ledger_made_until_timestamp_seconds")
    assert 0 == shown("ingestd_ledger_stale_devices")
