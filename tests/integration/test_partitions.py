# ruff: noqa: SIM300 - expected == actual
"""History as a table of days: made ahead, listed, and dropped without a word to those who read and write."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from structlog.testing import capture_logs

from ingestd.errors import NoPartitionError, StoreError, TransientStoreError
from ingestd.model.dead_letter import DeadLetter
from ingestd.model.decode import Window, decode
from ingestd.model.register import Rule
from ingestd.model.stream import METER, STREAMS, VEHICLE
from ingestd.model.timestamps import now_microseconds, to_microseconds
from ingestd.pipeline.delivery import Batch
from ingestd.store.closing import Closing
from ingestd.store.partitions import DAYS_AHEAD, DROP_COMMENT, Partitions
from ingestd.store.writer import Writer
from tests.fakes import FakeOrigin
from tests.support.daemon import Daemon
from tests.support.deliveries import delivery_of
from tests.support.polling import eventually, until
from tests.support.readings import meter_message, rfc3339

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from ingestd.demo.servers import PrivateMosquitto
    from ingestd.model.stream import Row, Stream

ORIGIN = FakeOrigin()
OLD = date(2020, 1, 1)
"""Past every retention."""
RETENTION = timedelta(days=3)
A_DAY = timedelta(days=1)
WAITING = "SELECT pid FROM pg_stat_activity WHERE application_name = 'ingestd-partitions' AND wait_event_type = 'Lock'"


class History:
    """The partitions of the test's own database, seen from beside."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows of a query; of anything else none."""
        cursor = self._connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []

    def make(self, *days: date, stream: Stream = METER, rows: int = 0) -> None:
        """Partitions with so many readings each."""
        for day in days:
            self._connection.execute("SELECT ingestd_make_partition(%s, %s)", (stream.history, day))
            self.execute(
                f"INSERT INTO {stream.history} ({', '.join(stream.row_columns)})"  # noqa: S608
                f" SELECT 'old', timestamptz '{day} 12:00Z' + n * interval '1 second'"
                f"{', 0' * len(stream.columns)}, now() FROM generate_series(1, {rows}) AS n"
            )

    def half_detach(self, day: date) -> None:
        """As DETACH CONCURRENTLY leaves it when it is interrupted."""
        with psycopg.connect(self._connection.info.dsn) as reader:
            reader.execute("SELECT FROM meter_history")
            self.execute("SET lock_timeout = '20ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                self.execute(f"ALTER TABLE meter_history DETACH PARTITION meter_history_{day:%Y%m%d} CONCURRENTLY")
        self.execute("RESET lock_timeout")

    def mark(self, day: date) -> None:
        self.execute(f"COMMENT ON TABLE meter_history_{day:%Y%m%d} IS '{DROP_COMMENT}'")

    def tables(self, stream: Stream = METER) -> list[str]:
        """What there is under names of days, attached or not."""
        return [
            name
            for (name,) in self.execute(
                f"SELECT relname FROM pg_class WHERE relname ~ '^{stream.history}_[0-9]+$' ORDER BY 1"  # noqa: S608
            )
        ]


@contextmanager
def beside(dsn: str) -> Iterator[History]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET timezone = 'UTC'")
        connection.execute("UPDATE ledger SET closed_until = now()")  # as where the daemon is at work
        connection.execute("UPDATE ledger_share SET made_until = now()")
        yield History(connection)


@pytest.fixture
def history(shared_database_url: str) -> Iterator[History]:
    """Without a single day, whatever the tests before have left."""
    with beside(shared_database_url) as history:
        for stream in STREAMS:
            for name in history.tables(stream):
                history.execute(f"DROP TABLE {name} CASCADE")
            for table in ("quarter", "hour"):
                parent = f"'{stream.name}_{table}'::regclass"
                for (name,) in history.execute(
                    f"SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = {parent}"  # noqa: S608
                ):
                    history.execute(f"DROP TABLE {name}")
        yield history


@pytest.fixture
def partitions(shared_database_url: str) -> Partitions:
    return Partitions(shared_database_url)


@pytest.fixture
async def writer(shared_database_url: str, history: History) -> AsyncIterator[Writer]:  # noqa: ARG001 - cleared first
    writer = Writer(shared_database_url)
    await writer.open()
    yield writer
    await writer.close()


def today() -> date:
    return datetime.now(UTC).date()


def names(*days: date, stream: Stream = METER) -> list[str]:
    return [f"{stream.history}_{day:%Y%m%d}" for day in days]


def midday(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


def batch_of(*moments: datetime) -> Batch:
    """One meter's readings."""
    rows: list[Row] = [("m", to_microseconds(at), *(1.0 for _ in METER.columns), 0) for at in moments]
    return Batch.of([delivery_of(ORIGIN, meters=rows)])


def stored(*, new: int) -> dict[Stream, Counter[int]]:
    return {METER: Counter({0: new})}


# Partitions of other names


@pytest.mark.parametrize(
    "bounds",
    ["FOR VALUES FROM (MINVALUE) TO ('2020-01-01Z')", "FOR VALUES FROM ('2019-01-01Z') TO ('2020-01-01Z')", "DEFAULT"],
)
async def test_a_partition_of_any_other_name_keeps_nobody_from_work(
    shared_database_url: str, history: History, partitions: Partitions, bounds: str
) -> None:
    at = midday(today())
    history.execute(f"CREATE TABLE meter_history_others PARTITION OF meter_history {bounds}")
    rules = dict.fromkeys(STREAMS, Rule(max_kw=400))
    writer, closing = Writer(shared_database_url), Closing(shared_database_url, rules=rules)
    try:
        await writer.open()
        await partitions.make_ahead()
        assert stored(new=1) == await writer.write(batch_of(at))
        await closing.catch_up(at + A_DAY)
        assert names(today()) == [partition.name for partition in await partitions.days()][:1]
        await partitions.drop_days(METER, older_than=RETENTION)
    finally:
        await closing.close()
        await writer.close()
        history.execute("DROP TABLE meter_history_others")


async def test_a_day_of_which_the_default_partition_has_rows_is_stored_there(
    shared_database_url: str, history: History, partitions: Partitions
) -> None:
    history.execute("CREATE TABLE meter_history_others PARTITION OF meter_history DEFAULT")
    writer = Writer(shared_database_url)
    try:
        history.execute(
            f"INSERT INTO meter_history ({', '.join(METER.row_columns)})"  # noqa: S608
            f" VALUES ('old', '{midday(today())}'{', 0' * len(METER.columns)}, now())"
        )
        await partitions.make_ahead()
        await writer.open()
        assert stored(new=1) == await writer.write(batch_of(midday(today())))
        assert [(2,)] == history.execute("SELECT count(*) FROM meter_history_others")
    finally:
        await writer.close()
        history.execute("DROP TABLE meter_history_others")


async def test_a_day_is_made_beside_its_table_whatever_the_search_path_has_in_front(
    shared_database_url: str, history: History, partitions: Partitions
) -> None:
    path = f"{shared_database_url}?options=-csearch_path%3Dfront,public"
    history.execute(f"CREATE SCHEMA front CREATE TABLE {names(today())[0]} (id integer)")
    writer = Writer(path)
    try:
        await writer.open()
        await Partitions(path).make_ahead()
        assert stored(new=1) == await writer.write(batch_of(midday(today())))
        assert names(*(today() + n * A_DAY for n in range(DAYS_AHEAD + 1))) == [
            partition.name for partition in await partitions.days() if partition.table == METER.history
        ]
    finally:
        await writer.close()
        history.execute("DROP SCHEMA front CASCADE")


# Made ahead


async def test_the_next_days_have_their_partitions_before_they_begin(partitions: Partitions, history: History) -> None:
    await partitions.make_ahead()

    ahead = [today() + n * A_DAY for n in range(DAYS_AHEAD + 1)]
    for stream in STREAMS:
        assert names(*ahead, stream=stream) == history.tables(stream)


async def test_they_are_made_once_a_day(shared_database_url: str, partitions: Partitions, history: History) -> None:
    await partitions.make_ahead()
    (dropped,) = names(today() + A_DAY)
    history.execute(f"DROP TABLE {dropped}")

    await partitions.make_ahead()
    assert dropped not in history.tables()
    await Partitions(shared_database_url).make_ahead()
    assert dropped in history.tables()


async def test_a_day_ahead_that_somebody_detached_does_not_keep_the_others_from_being_made(
    shared_database_url: str, partitions: Partitions, history: History
) -> None:
    await partitions.make_ahead()
    (detached,) = names(today() + A_DAY)
    history.execute(f"ALTER TABLE meter_history DETACH PARTITION {detached}")
    (dropped,) = names(today() + 2 * A_DAY)
    history.execute(f"DROP TABLE {dropped}")

    await Partitions(shared_database_url).make_ahead()

    assert dropped in history.tables()


# Listed


async def test_every_day_is_listed_with_its_size_and_age(partitions: Partitions, history: History) -> None:
    tomorrow = today() + A_DAY
    history.make(OLD, rows=1000)
    history.make(tomorrow)
    history.make(OLD, stream=VEHICLE)
    history.execute(f"ANALYZE meter_history_{OLD:%Y%m%d}")

    old, ahead, vehicles = await partitions.days()

    assert ("meter_history", "meter_history_20200101", OLD) == (old.table, old.name, old.day)
    assert ((today() - OLD).days, 1000, "attached") == (old.age_days, old.rows, old.state)
    assert [(old.bytes,)] == history.execute("SELECT pg_total_relation_size('meter_history_20200101')")
    assert (tomorrow, -1, None) == (ahead.day, ahead.age_days, ahead.rows)
    assert old.bytes > ahead.bytes > 0
    assert ("vehicle_history", OLD) == (vehicles.table, vehicles.day)


async def test_what_is_no_partition_any_more_is_listed_as_such(partitions: Partitions, history: History) -> None:
    by_hand, left_behind, half = OLD, OLD + A_DAY, OLD + 2 * A_DAY
    history.make(by_hand, left_behind, half, OLD + 3 * A_DAY)
    history.execute("CREATE TABLE meter_history_20200101_copy (LIKE meter_history)")
    for day in (by_hand, left_behind):
        history.execute(f"ALTER TABLE meter_history DETACH PARTITION meter_history_{day:%Y%m%d}")
    history.mark(left_behind)
    history.half_detach(half)

    assert ["detached", "dropping", "detaching", "attached"] == [day.state for day in await partitions.days()]
    history.mark(half)
    assert ["detached", "dropping", "dropping", "attached"] == [day.state for day in await partitions.days()]


# Dropped


async def test_whole_days_go_once_they_ended_longer_ago_than_the_retention(
    partitions: Partitions, history: History
) -> None:
    day, next_day = today() - 5 * A_DAY, today() - 4 * A_DAY
    history.make(OLD, day, next_day, today(), rows=10)
    history.make(OLD, stream=VEHICLE)
    ended = datetime.now(UTC) - (midday(day) + timedelta(hours=12))

    await partitions.drop_days(METER, older_than=ended + timedelta(minutes=1))
    assert names(day, next_day, today()) == history.tables()

    await partitions.drop_days(METER, older_than=ended - timedelta(minutes=1))
    assert names(next_day, today()) == history.tables()
    assert [(20,)] == history.execute("SELECT count(*) FROM meter_history")
    assert names(OLD, stream=VEHICLE) == history.tables(VEHICLE)


async def test_a_round_that_drops_many_days_more_than_the_last_says_so(
    partitions: Partitions, history: History
) -> None:
    async def said(*days: date) -> list[tuple[int, int]]:
        history.make(*days)
        with capture_logs() as logs:
            await partitions.drop_days(METER, older_than=RETENTION)
        return [(line["partitions"], line["before"]) for line in logs if line["log_level"] == "warning"]

    days = [OLD + number * A_DAY for number in range(6)]
    assert [] == await said(days[0])
    assert [] == await said(*days[:2])
    assert [(4, 2)] == await said(*days[:4])
    assert [] == await said(*days[:5])
    assert [] == history.tables()


async def test_a_day_is_not_dropped_before_it_is_in_the_ledger(partitions: Partitions, history: History) -> None:
    history.make(OLD, OLD + A_DAY)
    history.execute("UPDATE ledger_share SET made_until = '2020-01-02' WHERE stream = 'meter' AND share = 1")

    with pytest.raises(TransientStoreError, match="meter_history_20200102 is past its retention, but not in"):
        await partitions.drop_days(METER, older_than=RETENTION)

    assert names(OLD + A_DAY) == history.tables()


async def test_bounds_and_not_names_tell_how_new_the_readings_are(partitions: Partitions, history: History) -> None:
    bounds = {"20200301": "('2020-01-01Z') TO ('2199-01-01Z')", "20200302": "('2199-01-01Z') TO (MAXVALUE)"}
    for tail, span in bounds.items():
        history.execute(f"CREATE TABLE meter_history_{tail} PARTITION OF meter_history FOR VALUES FROM {span}")

    await partitions.drop_days(METER, older_than=RETENTION)

    assert [f"meter_history_{tail}" for tail in bounds] == history.tables()


async def test_what_a_crash_left_undone_is_finished(partitions: Partitions, history: History) -> None:
    marked, half, detached = OLD, OLD + A_DAY, OLD + 2 * A_DAY
    history.make(marked, half, detached, today())
    for day in (marked, half, detached):
        history.mark(day)
    history.execute(f"ALTER TABLE meter_history DETACH PARTITION meter_history_{detached:%Y%m%d}")
    history.half_detach(half)

    await partitions.drop_days(METER, older_than=RETENTION)

    assert names(today()) == history.tables()


async def test_what_somebody_else_detached_is_left_alone(partitions: Partitions, history: History) -> None:
    history.make(OLD, OLD + A_DAY, today())
    history.execute("ALTER TABLE meter_history DETACH PARTITION meter_history_20200101")

    await partitions.drop_days(METER, older_than=RETENTION)

    assert names(OLD, today()) == history.tables()


async def test_what_somebody_else_has_half_detached_is_theirs_to_finish(
    partitions: Partitions, history: History
) -> None:
    history.make(OLD, OLD + A_DAY)
    history.half_detach(OLD)

    with pytest.raises(StoreError, match='"meter_history_20200101" already pending detach'):
        await partitions.drop_days(METER, older_than=RETENTION)

    assert names(OLD, OLD + A_DAY) == history.tables()
    history.execute("ALTER TABLE meter_history DETACH PARTITION meter_history_20200101 FINALIZE")
    await partitions.drop_days(METER, older_than=RETENTION)
    assert names(OLD) == history.tables()


async def test_a_day_that_is_to_stay_after_all_may_be_detached_by_hand(
    partitions: Partitions, history: History
) -> None:
    day = today() - 5 * A_DAY
    history.make(day)
    history.mark(day)
    await partitions.drop_days(METER, older_than=10 * A_DAY)  # the retention was raised meanwhile
    history.execute(f"ALTER TABLE meter_history DETACH PARTITION meter_history_{day:%Y%m%d}")

    await partitions.drop_days(METER, older_than=RETENTION)

    assert names(day) == history.tables()


async def test_a_table_that_others_depend_on_stays_and_holds_up_no_other(
    partitions: Partitions, history: History
) -> None:
    history.make(OLD, OLD + A_DAY)
    history.execute("CREATE VIEW new_year AS SELECT * FROM meter_history_20200101")

    for _ in range(2):
        with pytest.raises(StoreError, match="other objects depend on it"):
            await partitions.drop_days(METER, older_than=RETENTION)

    assert names(OLD) == history.tables()
    history.execute("DROP VIEW new_year")
    await partitions.drop_days(METER, older_than=RETENTION)
    assert [] == history.tables()


async def test_several_daemons_may_drop_at_once(shared_database_url: str, history: History) -> None:
    history.make(*(OLD + n * A_DAY for n in range(10)), today())

    drops = (Partitions(shared_database_url).drop_days(METER, older_than=RETENTION) for _ in range(3))
    ended = await asyncio.gather(*drops, return_exceptions=True)

    # Whoever comes in between is told to try again later.
    assert {TransientStoreError, type(None)} >= set(map(type, ended))
    assert None in ended
    assert names(today()) == history.tables()


# While others are at work


async def test_a_reader_keeps_a_day_for_as_long_as_it_likes_and_nobody_else_waits(
    shared_database_url: str, partitions: Partitions, history: History, writer: Writer
) -> None:
    history.make(OLD, OLD + A_DAY, rows=10)
    with psycopg.connect(shared_database_url) as reader:
        reader.execute("SELECT FROM meter_history")
        dropping = asyncio.create_task(partitions.drop_days(METER, older_than=RETENTION))
        await eventually(lambda: len(history.execute(WAITING)) == 1)

        late = midday(today() - A_DAY)
        assert stored(new=2) == await writer.write(batch_of(late, midday(today())))  # and their partitions are made
        assert [(12,)] == history.execute("SELECT count(*) FROM meter_history")  # without the day that goes
        assert not dropping.done()
        with pytest.raises(TransientStoreError, match="meter_history_20200101 is past its retention, but in use"):
            await dropping

        assert "dropping" == (await partitions.days())[0].state
        assert stored(new=1) == await writer.write(batch_of(midday(today() + A_DAY)))

    await partitions.drop_days(METER, older_than=RETENTION)
    assert names(*(today() + n * A_DAY for n in (-1, 0, 1))) == history.tables()


async def test_days_are_dropped_while_readings_are_written(
    partitions: Partitions, history: History, writer: Writer
) -> None:
    history.make(*(OLD + n * A_DAY for n in range(20)))
    begin = midday(today())
    dropping = asyncio.create_task(partitions.drop_days(METER, older_than=RETENTION))
    number = 0
    while not dropping.done():
        assert stored(new=1) == await writer.write(batch_of(begin + timedelta(seconds=number)))
        number += 1
    await dropping

    assert names(today()) == history.tables()
    assert [(number,)] == history.execute("SELECT count(*) FROM meter_history")


async def test_a_reading_that_was_on_its_way_to_a_dropped_day_is_stored(
    partitions: Partitions, history: History, writer: Writer
) -> None:
    at = midday(OLD)
    await writer.write(batch_of(at))
    await partitions.drop_days(METER, older_than=RETENTION)
    late = batch_of(at + timedelta(seconds=1), midday(today()))

    assert stored(new=2) == await writer.write(late)

    await partitions.drop_days(METER, older_than=RETENTION)
    assert names(today()) == history.tables()


async def test_a_reading_on_its_way_to_a_half_dropped_day_has_no_place_until_it_is_gone(
    partitions: Partitions, history: History, writer: Writer
) -> None:
    at = midday(OLD)
    late = batch_of(at + timedelta(seconds=1))
    await writer.write(batch_of(at))
    history.mark(OLD)
    history.half_detach(OLD)
    for _ in range(3):
        with pytest.raises(NoPartitionError, match="meter_history_20200101 is detached"):
            await writer.write(late)
    history.execute("ALTER TABLE meter_history DETACH PARTITION meter_history_20200101 FINALIZE")
    with pytest.raises(NoPartitionError, match="meter_history_20200101 is detached"):
        await writer.write(late)

    await partitions.drop_days(METER, older_than=RETENTION)

    assert stored(new=1) == await writer.write(late)


# The ledger


async def test_months_of_the_ledger_go_once_they_ended_longer_ago_than_their_retention(
    partitions: Partitions, history: History
) -> None:
    for stream, month in [(METER, OLD), (METER, today()), (VEHICLE, OLD)]:
        for table in ("quarter", "hour"):
            history.execute(f"SELECT ingestd_make_month('{stream.name}_{table}', '{month}')")
    history.execute("CREATE TABLE meter_hour_20200101_copy (LIKE meter_hour)")

    await partitions.drop_months(METER, older_than=RETENTION)

    left = history.execute(
        r"SELECT relname FROM pg_class WHERE relname ~ '^(meter|vehicle)_(quarter|hour)_\d{6}$' AND relkind = 'r'"
        " ORDER BY 1"
    )
    this_month = [f"meter_{table}_{today():%Y%m}" for table in ("hour", "quarter")]
    expected = [*this_month, "vehicle_hour_202001", "vehicle_quarter_202001"]
    assert [(name,) for name in expected] == left
    history.execute("DROP TABLE meter_hour_20200101_copy")


# Hostile clocks


async def test_no_timestamp_makes_a_partition_outside_the_accepted_window(history: History, writer: Writer) -> None:
    window = Window(max_age=3 * A_DAY, max_skew=timedelta(minutes=5))
    now = now_microseconds()
    oldest, newest = window.around(now)
    far = [datetime(year, 6, 1, tzinfo=UTC) for year in (1, 1900, 1970, 1999, 2000, 2038, 2262, 9999)]
    near = [datetime.now(UTC) + hours * timedelta(hours=1) for hours in range(-24 * 30, 24 * 30)]
    decoded = [decode(*meter_message("m", at), oldest=oldest, newest=newest, received_at=now) for at in [*far, *near]]

    readings = [one[1] for one in decoded if not isinstance(one, DeadLetter)]
    letters = [one for one in decoded if isinstance(one, DeadLetter)]
    await writer.write(Batch.of([delivery_of(ORIGIN, meters=readings, dead=letters)]))

    assert len(far) + len(near) == len(readings) + len(letters)
    assert {"timestamp-out-of-range"} == {letter.reason for letter in letters}
    accepted = [name[-8:] for name in history.tables()]
    assert 4 <= len(accepted) <= 5  # 3 days and 5 minutes touch as many: one more after midnight
    assert f"{datetime.now(UTC) - window.max_age - A_DAY:%Y%m%d}" <= accepted[0]
    assert accepted[-1] <= f"{datetime.now(UTC) + window.max_skew:%Y%m%d}"


# The daemon


def test_the_daemon_drops_what_is_past_its_retention_and_finishes_after_a_crash(
    broker: PrivateMosquitto, database_url: str
) -> None:
    reading = {"meterId": "m", "kwhConsumedAc": 0.5, "voltage": 230.0, "timestamp": rfc3339(datetime.now(UTC))}
    with beside(database_url) as history, psycopg.connect(database_url) as reader:
        history.make(OLD)
        history.make(OLD, stream=VEHICLE)
        # Stands in for the real one, to tell how often the days ahead are asked for.
        history.execute("""
            CREATE TABLE asked (parent text, day date);
            ALTER FUNCTION ingestd_make_partition RENAME TO really_make_partition;
            CREATE FUNCTION ingestd_make_partition(parent text, day date) RETURNS boolean LANGUAGE plpgsql
                AS $$ BEGIN INSERT INTO asked VALUES (parent, day); RETURN really_make_partition(parent, day); END $$
        """)
        reader.execute("SELECT FROM meter_history")
        settings = {"retention": "90d", "rollup_retention": "400d"}
        with Daemon(mqtt_url=broker.url, database_url=database_url, **settings) as daemon:
            daemon.wait_healthy()
            until(lambda: names(OLD, stream=VEHICLE)[0] not in history.tables(VEHICLE))
            assert [(len(STREAMS) * (DAYS_AHEAD + 1),)] == history.execute("SELECT count(*) FROM asked")
            assert 201 == daemon.request("POST", "/v1/telemetry", body=reading).status
            assert "meter_history_20200101 is past its retention, but in use" in daemon.log.read_text()
            assert names(OLD)[0] in history.tables()

            daemon.kill()
            reader.rollback()
            daemon.start()
            until(lambda: names(OLD)[0] not in history.tables())
            assert 0 == daemon.terminate()
        assert [(1,)] == history.execute("SELECT count(*) FROM meter_history")
