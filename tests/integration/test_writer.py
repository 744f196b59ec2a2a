# ruff: noqa: SIM300 - expected == actual
"""One batch, one transaction: what the writer leaves in a real database, and what it says when it cannot."""

from __future__ import annotations

import asyncio
import struct
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import urlsplit

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from ingestd.errors import DataStoreError, NoPartitionError, OperatorStoreError, StoreError, TransientStoreError
from ingestd.model.dead_letter import DeadLetter, Reason
from ingestd.model.register import Rule
from ingestd.model.stream import METER, STREAMS, VEHICLE
from ingestd.model.timestamps import MICROSECONDS_PER_DAY, to_datetime, to_microseconds
from ingestd.pipeline.delivery import Batch
from ingestd.store.closing import Closing
from ingestd.store.writer import Writer
from tests.fakes import FakeOrigin
from tests.support.deliveries import NOW, SECOND, dead_letter, delivery_of, meter_row, vehicle_row
from tests.support.polling import eventually
from tests.support.replication import configure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from ingestd.demo.servers import PrivatePostgres
    from ingestd.model.stream import Row, Stream

ORIGIN = FakeOrigin()
WRITERS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'ingestd-writer' AND datname = current_database()"


class Database:
    """The test's own database, seen from beside the writer."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        self._name = sql.Identifier(connection.info.dbname)

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows of a query; of anything else none."""
        cursor = self._connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []

    def history(self, stream: Stream) -> list[tuple[Any, ...]]:
        return self._rows(stream, stream.history)

    def live(self, stream: Stream) -> list[tuple[Any, ...]]:
        return self._rows(stream, stream.live)

    def stale(self, stream: Stream) -> list[tuple[Any, ...]]:
        """(device, start of a quarter that has to be made anew)."""
        return self.execute(f"SELECT {stream.id_column}, start FROM {stream.name}_stale ORDER BY 1, 2")  # noqa: S608

    def is_empty(self) -> bool:
        tables = ["dead_letter", *(table for stream in STREAMS for table in (stream.history, stream.live))]
        return not any(self.execute(f"TABLE {table}") for table in tables)

    def default(self, setting: str, value: str) -> None:
        """What sessions that begin from now on start with."""
        alter = sql.SQL("ALTER DATABASE {} SET {} = {}")
        self._connection.execute(alter.format(self._name, sql.Identifier(setting), sql.Literal(value)))

    def end_writers(self) -> None:
        """As an administrator does, or a server that shuts down; returns when they are gone."""
        ended = self.execute(f"SELECT pg_terminate_backend(pid, 10000) FROM ({WRITERS}) AS writer")  # noqa: S608
        assert [(True,)] == ended

    def _rows(self, stream: Stream, table: str) -> list[tuple[Any, ...]]:
        select = sql.SQL("SELECT {} FROM {} ORDER BY 1, 2").format(
            sql.SQL(", ").join(map(sql.Identifier, stream.row_columns)), sql.Identifier(table)
        )
        return self._connection.execute(select).fetchall()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SET timezone = 'UTC'")
        yield Database(connection)


@pytest.fixture
async def writer(database_url: str) -> AsyncIterator[Writer]:
    writer = Writer(database_url)
    await writer.open()
    yield writer
    await writer.close()


def batch_of(*, meters: Sequence[Row] = (), vehicles: Sequence[Row] = (), dead: Sequence[DeadLetter] = ()) -> Batch:
    """What one delivery becomes."""
    return Batch.of([delivery_of(ORIGIN, meters=meters, vehicles=vehicles, dead=dead)])


def as_stored(*rows: Row) -> list[tuple[Any, ...]]:
    """Rows of the batch as they are to be read back: moments in place of microseconds."""
    return sorted((row[0], to_datetime(row[1]), *row[2:-1], to_datetime(row[-1])) for row in rows)


# What is stored


async def test_new_readings_are_in_history_and_the_newest_of_each_device_is_live(
    writer: Writer, database: Database
) -> None:
    meters = [meter_row("a", 0), meter_row("b", 0), meter_row("a", 2, kwh=0.2), meter_row("a", 1, kwh=0.1)]
    vehicles = [vehicle_row("v", 1), vehicle_row("v", 0)]

    committed = await writer.write(batch_of(meters=meters, vehicles=vehicles))

    assert {METER: Counter({0: 4}), VEHICLE: Counter({0: 2})} == committed
    assert as_stored(*meters) == database.history(METER)
    assert as_stored(*vehicles) == database.history(VEHICLE)
    assert as_stored(meters[1], meters[2]) == database.live(METER)
    assert as_stored(vehicles[0]) == database.live(VEHICLE)


async def test_new_readings_are_copied_straight_into_history_and_redeliveries_by_way_of_a_staging_table(
    writer: Writer, database: Database
) -> None:
    database.execute("""
        CREATE TABLE told (statement text);
        CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql
            AS $$ BEGIN INSERT INTO told VALUES (current_query()); RETURN NULL; END $$;
        CREATE TRIGGER tell AFTER INSERT ON meter_history FOR EACH STATEMENT EXECUTE FUNCTION tell()
    """)

    await writer.write(batch_of(meters=[meter_row("a"), meter_row("b")]))
    await writer.write(batch_of(meters=[meter_row("b"), meter_row("c")]))

    straight, staged = [statement for (statement,) in database.execute("SELECT statement FROM told")]
    assert 'COPY "meter_history"' in straight
    assert "ON CONFLICT" in staged


async def test_a_redelivered_batch_adds_nothing_and_counts_nothing_as_new(writer: Writer, database: Database) -> None:
    batch = batch_of(meters=[meter_row("a"), meter_row("b")], vehicles=[vehicle_row()])
    await writer.write(batch)

    again = await writer.write(batch)

    assert {METER: Counter(), VEHICLE: Counter()} == again
    assert as_stored(meter_row("a"), meter_row("b")) == database.history(METER)
    assert as_stored(vehicle_row()) == database.history(VEHICLE)
    assert as_stored(meter_row("a"), meter_row("b")) == database.live(METER)


async def test_what_is_new_is_counted_for_each_origin(writer: Writer, database: Database) -> None:
    first = [meter_row("a", 0), meter_row("a", 1), meter_row("b", 0)]
    second = [meter_row("b", 1), meter_row("c", 0), meter_row("c", 1), meter_row("c", 2)]
    await writer.write(batch_of(meters=[first[0], first[1], second[1], second[2]]))
    deliveries = [
        delivery_of(ORIGIN, meters=first),
        delivery_of(ORIGIN, meters=second, vehicles=[vehicle_row("v", 1)]),
        delivery_of(ORIGIN, vehicles=[vehicle_row("v", 2), vehicle_row("v", 3)]),
        delivery_of(ORIGIN, meters=first[:2]),
    ]

    committed = await writer.write(Batch.of(deliveries))

    assert {METER: Counter({0: 1, 1: 2}), VEHICLE: Counter({1: 1, 2: 2})} == committed
    assert as_stored(*first, *second) == database.history(METER)


async def test_the_first_value_of_a_key_stands(writer: Writer, database: Database) -> None:
    first, contradiction, other = meter_row("a", kwh=1.0), meter_row("a", kwh=9.0), meter_row("b", kwh=2.0)
    await writer.write(batch_of(meters=[first]))

    committed = await writer.write(batch_of(meters=[contradiction, other]))

    assert {METER: Counter({0: 1})} == committed
    assert as_stored(first, other) == database.history(METER)
    assert as_stored(first, other) == database.live(METER)


async def test_a_late_reading_is_history_but_never_live(writer: Writer, database: Database) -> None:
    newest = vehicle_row("v", 10)
    await writer.write(batch_of(vehicles=[newest]))
    late = [vehicle_row("v", 9), vehicle_row("v", 1), vehicle_row("v", 5)]

    await writer.write(batch_of(vehicles=late))

    assert as_stored(*late, newest) == database.history(VEHICLE)
    assert as_stored(newest) == database.live(VEHICLE)


async def test_a_late_reading_beside_a_redelivery_is_never_live_either(writer: Writer, database: Database) -> None:
    first, newest = vehicle_row("v", 0), vehicle_row("v", 10)
    await writer.write(batch_of(vehicles=[first, newest]))

    await writer.write(batch_of(vehicles=[first, vehicle_row("v", 9)]))

    assert as_stored(first, vehicle_row("v", 9), newest) == database.history(VEHICLE)
    assert as_stored(newest) == database.live(VEHICLE)


async def test_a_newer_reading_replaces_every_figure_of_the_live_row(writer: Writer, database: Database) -> None:
    for newer in (
        ("EV-101", NOW + 1, 12.5, None, -17.25, 10_760.5, NOW + 2),
        ("EV-101", NOW + 3, 13, 0.0, 9, None, NOW),
    ):
        await writer.write(batch_of(vehicles=[vehicle_row()]))

        await writer.write(batch_of(vehicles=[newer]))

        assert as_stored(newer) == database.live(VEHICLE)


async def test_registers_and_intervals_stand_beside_each_other_as_they_were_sent(
    writer: Writer, database: Database
) -> None:
    meters = [meter_row("m", 0, kwh=0.5), meter_row("m", 1, register=10_760.25), meter_row("n", 1, register=0.0)]
    vehicles = [vehicle_row("v", 0, register=1e9), vehicle_row("v", 1)]

    for new in (len(meters), 0):  # straight into history, then by way of the staging table
        committed = await writer.write(batch_of(meters=meters, vehicles=vehicles))

        assert +Counter({0: new}) == committed[METER]
        assert as_stored(*meters) == database.history(METER)
        assert as_stored(*vehicles) == database.history(VEHICLE)
        assert as_stored(*meters[1:]) == database.live(METER)
    assert [(0.5, None), (None, 10_760.25), (None, 0.0)] == database.execute(
        "SELECT kwh_consumed_ac, kwh_consumed_ac_register FROM meter_history ORDER BY meter_id, ts"
    )
    assert [(None, 1e9), (0.38, None)] == database.execute(
        "SELECT kwh_delivered_dc, kwh_delivered_dc_register FROM vehicle_history ORDER BY ts"
    )


async def test_dead_letters_are_stored_with_all_their_fields(writer: Writer, database: Database) -> None:
    received = datetime(2026, 11, 20, 23, 59, 59, 999_999, tzinfo=UTC)
    letters = [
        DeadLetter(
            received_at=to_microseconds(received),
            source="http" if number % 2 else "mqtt",
            stream="unknown",
            topic="meters/mètre-€/telemetry",
            payload=bytes(range(256)) * 32,
            reason=reason,
            detail="“volts”: 1\n2\ttoo many",
        )
        for number, reason in enumerate(get_args(Reason))
    ]

    committed = await writer.write(batch_of(dead=letters))

    assert {} == committed
    assert [
        (received, letter.source, "unknown", letter.topic, letter.payload, letter.reason, letter.detail)
        for letter in letters
    ] == database.execute(
        "SELECT received_at, source, stream, topic, payload, reason, detail FROM dead_letter ORDER BY id"
    )


async def test_an_empty_batch_is_no_error(writer: Writer, database: Database) -> None:
    assert {} == await writer.write(Batch.of([]))
    assert database.is_empty()


# Every bit of it

EXTREMES = [0.0, -0.0, 0.1, 0.1 + 0.2, 1 / 3, 10_000.0, 1e-320, 5e-324, 1.797_693_134_862_315_7e308, -60.0, 2.0**53 + 1]
MOMENTS = [
    datetime(2026, 11, 20, 10, 30, 0, 1, tzinfo=UTC),
    datetime(2026, 11, 20, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2026, 11, 21, tzinfo=UTC),
    datetime(2024, 2, 29, 12, 0, 0, 123_456, tzinfo=UTC),
    datetime(2000, 1, 1, tzinfo=UTC),
    datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),  # before PostgreSQL's epoch
    datetime(2026, 10, 25, 2, 30, tzinfo=UTC) - timedelta(microseconds=1),  # where clocks go back in much of Europe
]


def bits(figure: float) -> bytes:
    """Tells 0.0 from -0.0, and neighbours that print alike."""
    return struct.pack("d", figure)


async def test_figures_come_back_bit_for_bit(writer: Writer, database: Database) -> None:
    meters: list[Row] = [("m", NOW + number, *[figure] * 3, NOW) for number, figure in enumerate(EXTREMES)]
    vehicles: list[Row] = [("v", NOW + number, *[figure] * 4, NOW) for number, figure in enumerate(EXTREMES)]

    await writer.write(batch_of(meters=meters, vehicles=vehicles))

    assert [list(map(bits, row[2:-1])) for row in meters] == [
        list(map(bits, row[2:-1])) for row in database.history(METER)
    ]
    assert [list(map(bits, row[2:-1])) for row in vehicles] == [
        list(map(bits, row[2:-1])) for row in database.history(VEHICLE)
    ]
    assert list(map(bits, meters[-1][2:-1])) == list(map(bits, database.live(METER)[0][2:-1]))


async def test_moments_come_back_to_the_microsecond(writer: Writer, database: Database) -> None:
    rows = [("m", to_microseconds(at), 0.1, 230.0, None, to_microseconds(at)) for at in MOMENTS]

    await writer.write(batch_of(meters=rows))

    assert sorted((at, at) for at in MOMENTS) == [(ts, received) for _, ts, *_, received in database.history(METER)]


identities = st.text("AZaz09._:-", min_size=1, max_size=64)
figures = st.floats(allow_nan=False, allow_infinity=False)
optional_figures = st.none() | figures
microseconds = st.integers(NOW, NOW + 86_400_000_000)  # over a midnight
rows_of_vehicles = st.lists(
    st.tuples(identities, microseconds, figures, optional_figures, figures, optional_figures, microseconds),
    min_size=1,
    unique_by=lambda row: row[:2],
)


@settings(
    max_examples=15,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(rows=rows_of_vehicles)
async def test_rows_come_back_as_they_went(writer: Writer, database: Database, rows: list[Row]) -> None:
    database.execute("TRUNCATE vehicle_history, vehicle_live")

    for new in (len(rows), 0):  # straight into history, then by way of the staging table
        assert {VEHICLE: +Counter({0: new})} == await writer.write(batch_of(vehicles=rows))

        assert as_stored(*rows) == database.history(VEHICLE)


async def test_rows_of_every_width_fit_into_more_than_one_chunk(writer: Writer, database: Database) -> None:
    rows = [meter_row("m" * (1 + number % 64), number, kwh=number / 7) for number in range(2500)]

    await writer.write(batch_of(meters=rows))

    assert as_stored(*rows) == database.history(METER)


# Partitions


async def test_a_partition_is_made_for_a_late_day(writer: Writer, database: Database) -> None:
    at = datetime(2026, 9, 1, 12, tzinfo=UTC)
    late: Row = ("meter-001", to_microseconds(at), 0.42, 231.5, None, NOW)

    await writer.write(batch_of(meters=[late, meter_row()]))

    assert as_stored(late, meter_row()) == database.history(METER)
    places = database.execute("SELECT tableoid::regclass::text FROM meter_history ORDER BY ts")
    assert [("meter_history_20260901",), ("meter_history_20261120",)] == places


async def test_a_partition_dropped_behind_our_back_is_made_again_at_the_next_attempt(
    writer: Writer, database: Database
) -> None:
    await writer.write(batch_of(meters=[meter_row("a", 0)], vehicles=[vehicle_row("v", 0)]))
    database.execute("DROP TABLE meter_history_20261120")
    batch = batch_of(meters=[meter_row("a", 1)], vehicles=[vehicle_row("v", 1)])

    committed = await writer.write(batch)

    assert {METER: Counter({0: 1}), VEHICLE: Counter({0: 1})} == committed
    assert as_stored(meter_row("a", 1)) == database.history(METER)
    assert as_stored(vehicle_row("v", 0), vehicle_row("v", 1)) == database.history(VEHICLE)


async def test_rows_of_a_detached_day_have_no_place_and_the_error_names_it(writer: Writer, database: Database) -> None:
    await writer.write(batch_of(meters=[meter_row("a", 0)]))
    database.execute("ALTER TABLE meter_history DETACH PARTITION meter_history_20261120")
    batch = batch_of(meters=[meter_row("a", 1)])

    for _ in range(2):
        with pytest.raises(NoPartitionError, match="meter_history_20261120 is detached") as refused:
            await writer.write(batch)
        assert (METER.history, NOW // MICROSECONDS_PER_DAY) == (refused.value.history, refused.value.day)
    database.execute("DROP TABLE meter_history_20261120")
    assert {METER: Counter({0: 1})} == await writer.write(batch)


async def test_a_day_within_a_partition_of_another_name_is_stored_there(writer: Writer, database: Database) -> None:
    database.execute(
        "CREATE TABLE november PARTITION OF meter_history FOR VALUES FROM ('2026-11-01Z') TO ('2026-12-01Z')"
    )

    committed = await writer.write(batch_of(meters=[meter_row("a", 0)]))

    assert {METER: Counter({0: 1})} == committed


async def test_a_row_that_no_partition_takes_is_data_the_database_refuses(writer: Writer, database: Database) -> None:
    database.execute(
        "CREATE TABLE half PARTITION OF meter_history FOR VALUES FROM ('2026-11-20 12:00Z') TO ('2026-12-01Z')"
    )

    with pytest.raises(DataStoreError, match="no partition"):
        await writer.write(batch_of(meters=[meter_row("a", 0)]))


# What is stale in the ledger

MINUTE = 60
HALF_AN_HOUR = 30 * MINUTE
DAY = 48 * HALF_AN_HOUR
MIDNIGHT = -(10 * 60 + 30) * MINUTE  # as seen from NOW, which is 10:30


def quarter(hour: int, minute: int, *, day: int = 20) -> datetime:
    """The start of one."""
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC)


def close(database: Database, stream: Stream, second: int = 0) -> None:
    """Quarters up to so many seconds after NOW are closed."""
    at = to_datetime(NOW + second * SECOND)
    database.execute(f"UPDATE ledger SET closed_until = '{at}' WHERE stream = '{stream.name}'")  # noqa: S608


async def test_before_anything_is_closed_nothing_is_stale(writer: Writer, database: Database) -> None:
    await writer.write(batch_of(meters=[meter_row("m", MIDNIGHT - DAY)], vehicles=[vehicle_row()]))

    assert [] == database.stale(METER) == database.stale(VEHICLE)


@pytest.mark.parametrize("redelivered", [False, True], ids=["new", "beside a redelivery"])
async def test_each_closed_quarter_with_a_reading_more_is_stale(
    writer: Writer, database: Database, *, redelivered: bool
) -> None:
    there = [meter_row("there", -1)] if redelivered else []
    await writer.write(batch_of(meters=there))
    close(database, METER)
    meters = [
        meter_row("in-time", 1),
        meter_row("late", 0),
        meter_row("late", -1),
        meter_row("late", 1),
        meter_row("later", -1),
        meter_row("later", -40 * MINUTE, register=5.0),
        meter_row("over-midnight", MIDNIGHT),
        meter_row("over-midnight", MIDNIGHT + 1),
        meter_row("long-ago", MIDNIGHT - 30 * DAY + 29 * MINUTE),
    ]

    await writer.write(batch_of(meters=[*there, *meters], vehicles=[vehicle_row("v", -1)]))

    assert [
        ("late", quarter(10, 15)),
        ("later", quarter(9, 45)),
        ("later", quarter(10, 15)),
        ("long-ago", datetime(2026, 10, 21, 0, 15, tzinfo=UTC)),
        ("over-midnight", quarter(23, 45, day=19)),
        ("over-midnight", quarter(0, 0)),
    ] == database.stale(METER)
    assert [] == database.stale(VEHICLE)


async def test_a_redelivery_makes_nothing_stale(writer: Writer, database: Database) -> None:
    batch = batch_of(meters=[meter_row("m", -1)], vehicles=[vehicle_row("v", -1)])
    await writer.write(batch)
    close(database, METER)
    close(database, VEHICLE)

    await writer.write(batch)

    assert [] == database.stale(METER) == database.stale(VEHICLE)


async def test_each_stream_has_quarters_of_its_own(writer: Writer, database: Database) -> None:
    close(database, METER, -10)
    close(database, VEHICLE, 10)

    await writer.write(batch_of(meters=[meter_row("m", 0)], vehicles=[vehicle_row("v", 10), vehicle_row("w", 11)]))

    assert [] == database.stale(METER)
    assert [("v", quarter(10, 30))] == database.stale(VEHICLE)


async def test_what_is_closed_is_told_to_the_microsecond(writer: Writer, database: Database) -> None:
    close(database, METER)

    await writer.write(
        batch_of(meters=[("at", NOW, 1.0, 230.0, None, NOW), ("just-behind", NOW + 1, 1.0, 230.0, None, NOW)])
    )

    assert ["at"] == [device for device, _ in database.stale(METER)]


async def test_a_batch_that_fails_makes_nothing_stale(writer: Writer, database: Database) -> None:
    close(database, METER)
    database.execute("ALTER TABLE meter_history ADD CHECK (voltage < 100)")

    with pytest.raises(DataStoreError):
        await writer.write(batch_of(meters=[meter_row("m", -1)]))

    assert [] == database.stale(METER)


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
async def test_what_is_closed_while_a_batch_begins_holds_for_that_batch_whatever_the_databases_default(
    database_url: str, database: Database, isolation: str
) -> None:
    """Or a reading could be neither in the row, which has not seen it yet, nor mark it as stale."""
    database.default("default_transaction_isolation", isolation)
    writer = Writer(database_url)
    await writer.open()

    with psycopg.connect(database_url) as closing:
        closing.execute("SELECT pg_advisory_xact_lock(1768843110, 1)")
        closing.execute("UPDATE ledger SET closed_until = %s", (to_datetime(NOW),))
        writing = asyncio.create_task(writer.write(batch_of(meters=[meter_row("m", 0)])))
        await eventually(lambda: len(database.execute(f"{WRITERS} AND wait_event = 'advisory'")) == 1)
    await writing
    await writer.close()

    assert ["m"] == [device for device, _ in database.stale(METER)]


async def test_a_closing_waits_for_the_batches_under_way(database_url: str, writer: Writer, database: Database) -> None:
    """Then whatever marked nothing is committed before its quarter is made."""
    await writer.write(batch_of(meters=[meter_row("m", -2)]))
    close(database, METER, MIDNIGHT)
    close(database, VEHICLE, MIDNIGHT)
    closing = Closing(database_url, rules=dict.fromkeys(STREAMS, Rule(max_kw=400)))
    with psycopg.connect(database_url) as holder:
        holder.execute("SELECT FROM meter_live FOR UPDATE")
        writing = asyncio.create_task(writer.write(batch_of(meters=[meter_row("m", 0)])))
        await eventually(lambda: len(database.execute(f"{WRITERS} AND wait_event_type = 'Lock'")) == 1)
        catching_up = asyncio.create_task(closing.catch_up(to_datetime(NOW + HALF_AN_HOUR * SECOND)))
        waiting = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'ingestd-ledger' AND wait_event = 'advisory'"
        await eventually(lambda: len(database.execute(waiting)) == 1)
        assert [] == database.execute(f"SELECT 1 FROM ledger WHERE closed_until > '{quarter(0, 0)}'")  # noqa: S608
    await writing
    await catching_up
    await closing.close()

    assert [] == database.stale(METER)
    assert [("m", quarter(10, 15), 2)] == database.execute("SELECT meter_id, start, samples FROM meter_quarter")


# When it cannot


@pytest.mark.parametrize("redelivered", [False, True], ids=["new", "beside a redelivery"])
async def test_a_row_the_database_refuses_leaves_nothing_of_its_batch(
    writer: Writer, database: Database, *, redelivered: bool
) -> None:
    there = [meter_row("there")] if redelivered else []
    await writer.write(batch_of(meters=there))
    database.execute("ALTER TABLE vehicle_history ADD CONSTRAINT plausible CHECK (soc < 90)")
    good = batch_of(meters=[*there, meter_row("a")], vehicles=[vehicle_row("v", 0)], dead=[dead_letter()])
    bad = batch_of(
        meters=[*there, meter_row("a")],
        vehicles=[vehicle_row("v", 0), vehicle_row("v", 1, soc=95)],
        dead=[dead_letter()],
    )

    with pytest.raises(DataStoreError, match="plausible"):
        await writer.write(bad)

    assert as_stored(*there) == database.history(METER) == database.live(METER)
    assert [] == database.history(VEHICLE) == database.live(VEHICLE)
    assert [] == database.execute("SELECT 1 FROM dead_letter")
    assert {METER: Counter({0: 1}), VEHICLE: Counter({0: 1})} == await writer.write(good)


async def test_a_dead_letter_the_database_refuses_leaves_nothing_of_its_batch(
    writer: Writer, database: Database
) -> None:
    database.execute("ALTER TABLE dead_letter ADD CHECK (detail <> 'refused')")

    with pytest.raises(DataStoreError):
        await writer.write(batch_of(meters=[meter_row()], vehicles=[vehicle_row()], dead=[dead_letter("refused")]))

    assert database.is_empty()


async def test_a_live_row_the_database_refuses_leaves_nothing_of_its_batch(writer: Writer, database: Database) -> None:
    database.execute("ALTER TABLE meter_live ADD CHECK (voltage < 100)")

    with pytest.raises(DataStoreError):
        await writer.write(batch_of(meters=[meter_row()], dead=[dead_letter()]))

    assert database.is_empty()


async def test_a_terminated_backend_is_worth_another_attempt(writer: Writer, database: Database) -> None:
    batch = batch_of(meters=[meter_row()], dead=[dead_letter()])
    database.end_writers()

    with pytest.raises(TransientStoreError):
        await writer.write(batch)

    assert database.is_empty()
    assert {METER: Counter({0: 1})} == await writer.write(batch)
    assert [(1,)] == database.execute("SELECT count(*) FROM dead_letter")


async def test_a_commit_whose_wait_for_the_standby_was_cancelled_is_worth_another_attempt(
    own_postgres: PrivatePostgres, own_database_url: str
) -> None:
    batches = [batch_of(meters=[meter_row(second=second)]) for second in range(1000)]
    cancelled = (
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'ingestd-writer' AND wait_event = 'SyncRep'"
    )
    writer = Writer(own_database_url)
    await writer.write(batches.pop())  # makes the partition
    configure(own_postgres, synchronous_standby_names="nobody")

    async def write_until_one_waits() -> None:  # the server takes the setting a little later
        while True:
            await writer.write(batches[-1])
            batches.pop()

    with psycopg.connect(own_postgres.dsn(), autocommit=True) as administrator:
        writing = asyncio.create_task(write_until_one_waits())
        await eventually(lambda: administrator.execute(cancelled).fetchone() == (True,))

        with pytest.raises(TransientStoreError, match="the standby has not confirmed the commit"):
            await writing

    configure(own_postgres, synchronous_standby_names="")
    assert {METER: Counter({0: 0})} == await writer.write(batches[-1])
    await writer.close()


async def test_a_read_only_database_is_worth_another_attempt_and_leaves_no_connection_behind(
    writer: Writer, database: Database
) -> None:
    batch = batch_of(meters=[meter_row()])
    database.default("default_transaction_read_only", "on")
    database.end_writers()
    with pytest.raises(TransientStoreError):
        await writer.write(batch)

    for _ in range(3):  # as long as the failover takes
        with pytest.raises(TransientStoreError, match="25006"):
            await writer.write(batch)

    await eventually(lambda: not database.execute(WRITERS))
    database.default("default_transaction_read_only", "off")
    assert {METER: Counter({0: 1})} == await writer.write(batch)
    assert 1 == len(database.execute(WRITERS))


@pytest.mark.parametrize("table", ["meter_live", "meter_history", "dead_letter"])
async def test_a_missing_table_is_for_an_operator(writer: Writer, database: Database, table: str) -> None:
    database.execute(f"ALTER TABLE {table} RENAME TO moved_away")
    batch = batch_of(meters=[meter_row()], dead=[dead_letter()])

    with pytest.raises(OperatorStoreError, match=f'42P01.*"{table}"'):
        await writer.write(batch)

    database.execute(f"ALTER TABLE moved_away RENAME TO {table}")
    assert {METER: Counter({0: 1})} == await writer.write(batch)


async def test_a_table_without_our_rights_is_for_an_operator(
    writer: Writer, database: Database, database_url: str
) -> None:
    name = f"reader_{database_url.rpartition('_')[2]}"
    database.execute(f"CREATE ROLE {name} LOGIN; GRANT pg_read_all_data TO {name}")
    await writer.write(batch_of(meters=[meter_row()]))
    reader = Writer(database_url.replace(f"{urlsplit(database_url).username}@", f"{name}@"))
    try:
        with pytest.raises(OperatorStoreError, match="42501"):
            await reader.write(batch_of(meters=[meter_row("a", 1)]))
    finally:
        await reader.close()
        database.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


async def test_a_database_that_is_not_there_is_named(database_url: str) -> None:
    with pytest.raises(StoreError, match=r'"test_\w+_of_nobody" does not exist'):
        await Writer(f"{database_url}_of_nobody").open()


# Its session


@pytest.mark.parametrize(("default", "effective"), [("off", "on"), ("remote_apply", "remote_apply")])
async def test_a_commit_is_on_disk_whatever_the_databases_default(
    database_url: str, database: Database, default: str, effective: str
) -> None:
    database.default("synchronous_commit", default)
    # The session that inserts is the one that says what holds for it.
    database.execute("ALTER TABLE meter_live ADD durability text DEFAULT current_setting('synchronous_commit')")
    writer = Writer(database_url)
    await writer.open()

    await writer.write(batch_of(meters=[meter_row()]))

    assert [(effective,)] == database.execute("SELECT durability FROM meter_live")
    await writer.close()


async def test_two_writers_of_the_same_devices_do_not_deadlock(
    database_url: str, writer: Writer, database: Database
) -> None:
    other = Writer(database_url)
    await other.open()
    devices = ["a", "b", "c", "d", "e"]
    await writer.write(batch_of(meters=[meter_row(device, 0) for device in devices]))

    for second in (1, 3):
        with psycopg.connect(database_url) as holder:
            # Both stop here; whoever came from the wrong side would now hold what the other goes for next.
            holder.execute("SELECT FROM meter_live WHERE meter_id = 'c' FOR UPDATE")
            both = asyncio.gather(
                writer.write(batch_of(meters=[meter_row(device, second) for device in devices])),
                other.write(batch_of(meters=[meter_row(device, second + 1) for device in reversed(devices)])),
            )
            await eventually(lambda: len(database.execute(f"{WRITERS} AND wait_event_type = 'Lock'")) == 2)
        await both

        newest = as_stored(*(meter_row(device, second + 1) for device in devices))
        assert newest == database.live(METER)
    # A victim would have tried again by itself; the server counts it when the session ends.
    await writer.close()
    await other.close()
    await eventually(lambda: not database.execute(WRITERS))
    assert [(0,)] == database.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")


@pytest.mark.parametrize(("theirs", "ours"), [(1, 2), (2, 1)], ids=["ours is newer", "theirs is newer"])
async def test_the_first_readings_of_a_device_may_come_by_two_writers_at_once(
    database_url: str, writer: Writer, database: Database, *, theirs: int, ours: int
) -> None:
    at = to_datetime(meter_row("new", theirs)[1])
    with psycopg.connect(database_url) as other:
        other.execute("INSERT INTO meter_live VALUES ('new', %s, %s, 0.42, 231.5)", (at, to_datetime(NOW)))
        writing = asyncio.create_task(writer.write(batch_of(meters=[meter_row("new", ours)])))
        await eventually(lambda: len(database.execute(f"{WRITERS} AND wait_event_type = 'Lock'")) == 1)

    assert {METER: Counter({0: 1})} == await writing
    assert as_stored(meter_row("new", 2)) == database.live(METER)


async def test_writers_at_work_at_the_same_time_store_everything_once(
    database_url: str, writer: Writer, database: Database
) -> None:
    others = [Writer(database_url) for _ in range(2)]
    for other in others:
        await other.open()
    rows = [meter_row(f"d-{number % 50}", number) for number in range(600)]

    async def write(writer: Writer, share: Sequence[Row]) -> int:
        committed = [await writer.write(batch_of(meters=share[i : i + 60])) for i in range(0, len(share), 60)]
        return sum(counts[METER].total() for counts in committed)

    # Each has half of its rows in common with the next, in the same order, as redeliveries come.
    new = await asyncio.gather(*(write(w, rows[i * 150 : i * 150 + 300]) for i, w in enumerate([writer, *others])))

    assert 600 == sum(new)
    assert as_stored(*rows) == database.history(METER)
    assert as_stored(*rows[-50:]) == database.live(METER)
    for other in others:
        await other.close()
