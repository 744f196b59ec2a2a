# ruff: noqa: SIM300 - expected == actual
"""Deliveries merged into a Batch: keys unique, every row with its origin, halves that are the whole."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ingestd.model.dead_letter import DeadLetter
from ingestd.model.stream import METER, STREAMS, VEHICLE, Row, Stream
from ingestd.pipeline.delivery import Batch, Delivery, StreamBatch, newest_per_device
from tests.fakes import FakeOrigin
from tests.support.deliveries import dead_letter, delivery_of, meter_row, vehicle_row

ORIGIN = FakeOrigin()

meter_rows = st.builds(meter_row, st.sampled_from(["a", "b", "c"]), st.integers(0, 5), kwh=st.floats(0, 9))
vehicle_rows = st.builds(vehicle_row, st.sampled_from(["a", "b", "c"]), st.integers(0, 5), soc=st.floats(0, 9))
letters = st.builds(dead_letter, st.text(max_size=3))
deliveries_of_all_kinds = st.lists(
    st.builds(
        lambda meters, vehicles, dead: delivery_of(ORIGIN, meters=meters, vehicles=vehicles, dead=dead),
        st.lists(meter_rows, max_size=5),
        st.lists(vehicle_rows, max_size=5),
        st.lists(letters, max_size=2),
    ),
    max_size=6,
)


def test_a_batch_holds_what_its_deliveries_brought_in_order() -> None:
    batch = Batch.of(
        [
            delivery_of(ORIGIN, meters=[meter_row("b"), meter_row("a")], dead=[dead_letter("1")]),
            delivery_of(ORIGIN, vehicles=[vehicle_row()], dead=[dead_letter("2")]),
            delivery_of(ORIGIN, meters=[meter_row("c")]),
        ]
    )

    assert {
        METER: StreamBatch(rows=[meter_row("b"), meter_row("a"), meter_row("c")], origins=[0, 0, 2]),
        VEHICLE: StreamBatch(rows=[vehicle_row()], origins=[1]),
    } == batch.readings
    assert [dead_letter("1"), dead_letter("2")] == batch.dead_letters
    assert 6 == len(batch)


def test_a_stream_without_rows_is_left_out() -> None:
    assert {} == Batch.of([delivery_of(ORIGIN, dead=[dead_letter()])]).readings
    assert 0 == len(Batch.of([]))


def test_an_exact_repeat_collapses_to_the_first() -> None:
    first, repeat, other = meter_row(kwh=1.0), meter_row(kwh=2.0), meter_row(second=1)

    batch = Batch.of([delivery_of(ORIGIN, meters=[first]), delivery_of(ORIGIN, meters=[repeat, other])])

    assert {METER: StreamBatch(rows=[first, other], origins=[0, 1])} == batch.readings


def test_the_same_key_in_both_streams_is_no_repeat() -> None:
    batch = Batch.of([delivery_of(ORIGIN, meters=[meter_row("x")], vehicles=[vehicle_row("x")])])

    assert 2 == len(batch)


def test_rows_held_from_before_come_first_and_keep_their_origins() -> None:
    held = {METER: StreamBatch(rows=[meter_row(kwh=1.0)], origins=[1])}

    batch = Batch.of([delivery_of(ORIGIN, meters=[meter_row(kwh=2.0), meter_row(second=1)])], first_origin=5, held=held)

    assert {METER: StreamBatch(rows=[meter_row(kwh=1.0), meter_row(second=1)], origins=[1, 5])} == batch.readings


def test_the_middle_of_a_batch_tells_when_its_readings_were_taken() -> None:
    meters = [meter_row(f"m-{number}", number) for number in range(1200)]

    batch = Batch.of([delivery_of(ORIGIN, meters=meters, vehicles=[vehicle_row("v", 9000)])])

    assert meters[600][1] == batch.taken_at()


def test_a_few_readings_tell_nothing_of_a_backlog() -> None:
    assert (
        None is Batch.of([delivery_of(ORIGIN, meters=[meter_row(f"m-{number}") for number in range(999)])]).taken_at()
    )
    assert None is Batch.of([]).taken_at()


def test_a_split_parts_kind_from_kind_before_it_halves() -> None:
    batch = Batch.of(
        [delivery_of(ORIGIN, meters=[meter_row(), meter_row("b")], vehicles=[vehicle_row()], dead=[dead_letter()])]
    )

    meters, vehicles, dead = batch.split()

    assert [METER] == list(meters.readings)
    assert [VEHICLE] == list(vehicles.readings)
    assert (0, [dead_letter()]) == (len(dead.readings), dead.dead_letters)
    assert [1, 1] == [len(half) for half in meters.split()]


@given(deliveries_of_all_kinds)
def test_merging_keeps_the_first_row_of_every_key_with_its_delivery(deliveries: list[Delivery]) -> None:
    batch = Batch.of(deliveries)

    for stream in STREAMS:
        expected: dict[Row, tuple[Row, int]] = {}
        for index, delivery in enumerate(deliveries):
            for row in delivery.readings[stream]:
                expected.setdefault(row[:2], (row, index))
        part = batch.readings.get(stream, StreamBatch(rows=[], origins=[]))
        assert list(expected.values()) == list(zip(part.rows, part.origins, strict=True))
    assert [letter for delivery in deliveries for letter in delivery.dead_letters] == batch.dead_letters


def test_rows_up_to_a_moment_are_parted_from_the_others_each_with_its_delivery() -> None:
    rows = [meter_row("a", 3), meter_row("b", 1), meter_row("a", 2), meter_row("c", 0)]
    batch = StreamBatch(rows=rows, origins=[0, 1, 2, 3])
    moment = rows[1][1]

    older, others = batch.parted(moment)

    assert StreamBatch(rows=[rows[1], rows[3]], origins=[1, 3]) == older
    assert StreamBatch(rows=[rows[0], rows[2]], origins=[0, 2]) == others


def test_where_all_rows_are_later_the_batch_stays_as_it_is() -> None:
    batch = StreamBatch(rows=[meter_row("a", 3), meter_row("b", 1)], origins=[0, 1])

    for moment in (None, batch.rows[1][1] - 1):
        older, others = batch.parted(moment)
        assert [] == older.rows
        assert batch is others


@given(deliveries_of_all_kinds)
def test_splitting_down_to_single_rows_loses_and_doubles_nothing(deliveries: list[Delivery]) -> None:
    batch = Batch.of(deliveries)
    whole, parts, singles, dead = contents(batch), [batch], list[Batch](), list[DeadLetter]()

    while parts:
        part = parts.pop()
        if not part.readings:
            dead += part.dead_letters
        elif len(part) == 1:
            singles.append(part)
        else:
            halves = part.split()
            assert len(halves) >= 2
            assert all(len(half) for half in halves)
            assert len(part) == sum(map(len, halves))
            parts += halves

    assert whole == sum(map(contents, singles), Counter())
    assert batch.dead_letters == dead


def contents(batch: Batch) -> Counter[tuple[Stream, Row, int]]:
    return Counter(
        (stream, row, origin)
        for stream, part in batch.readings.items()
        for row, origin in zip(part.rows, part.origins, strict=True)
    )


def test_the_newest_row_of_each_device_goes_to_the_live_table_sorted_by_id() -> None:
    rows = [meter_row("b", 1), meter_row("a", 3), meter_row("b", 9), meter_row("a", 2), meter_row("B", 0)]

    assert [meter_row("B", 0), meter_row("a", 3), meter_row("b", 9)] == newest_per_device(rows)


@given(st.lists(meter_rows))
def test_newest_per_device_agrees_with_the_plain_definition(rows: list[Row]) -> None:
    newest = newest_per_device(rows)

    assert sorted({row[0] for row in rows}) == [row[0] for row in newest]
    assert all(row in rows for row in newest)
    assert all(row[1] == max(other[1] for other in rows if other[0] == row[0]) for row in newest)


def test_a_delivery_counts_its_messages_by_stream() -> None:
    delivery = delivery_of(ORIGIN, meters=[meter_row(), meter_row("b")], vehicles=[vehicle_row()], dead=[dead_letter()])

    assert 4 == len(delivery)
    assert {("meter", 2), ("vehicle", 1), ("meter", 1)} == set(delivery.counts())
