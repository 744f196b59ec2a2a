# ruff: noqa: SIM300 - expected == actual
"""The Flusher: nothing is settled before it is committed or kept as a dead letter, whatever the database does."""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise, repeat
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.errors import DataStoreError, NoPartitionError, OperatorStoreError, StoreError, TransientStoreError
from ingestd.metrics import Metrics
from ingestd.model.decode import decode
from ingestd.model.stream import METER, VEHICLE, Row, Stream
from ingestd.model.timestamps import MICROSECONDS_PER_DAY, to_datetime
from ingestd.pipeline.buffer import Buffer
from ingestd.pipeline.delivery import Delivery, Rejection
from ingestd.pipeline.flusher import (
    RETRY_FIRST_SECONDS,
    RETRY_LONGEST_SECONDS,
    SLOW_RETRY_SECONDS,
    STALLED_SECONDS,
    SUSPECT_ROUNDS,
    Flusher,
)
from ingestd.pipeline.known_devices import KnownDevices
from ingestd.pipeline.letter_limits import LetterLimits
from ingestd.pipeline.progress import GIVE_UP_AFTER, UNKNOWN_BEFORE_ISOLATING
from tests.fakes import AnswerLostError, FakeOrigin, FakeStore, clock, in_virtual_time
from tests.support.deliveries import (
    all_devices,
    all_letters,
    assert_balanced,
    balance,
    dead_letter,
    delivery_of,
    meter_row,
    vehicle_row,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ingestd.model.dead_letter import DeadLetter, Source
    from ingestd.pipeline.delivery import Batch


class Harness:
    """A buffer and a flusher between fakes; the balance is checked at every write and every settlement."""

    def __init__(
        self,
        store: FakeStore,
        *,
        flush_at: int = 100,
        max_messages: int = 1000,
        devices: KnownDevices | None = None,
        letters: LetterLimits | None = None,
    ) -> None:
        self.metrics = Metrics()
        self.buffer = Buffer(metrics=self.metrics, max_messages=max_messages, flush_at=flush_at, interval=1.0)
        self.flusher = Flusher(
            buffer=self.buffer,
            store=store,
            devices=devices or all_devices(),
            letters=letters or all_letters(),
            metrics=self.metrics,
        )
        self.origin = FakeOrigin(self._watch)
        self.metrics.expose_in_flight(self.buffer.in_flight)
        store.watch = self._watch

    def put(
        self,
        *,
        meters: Sequence[Row] = (),
        vehicles: Sequence[Row] = (),
        dead: Sequence[DeadLetter] = (),
        source: Source = "mqtt",
    ) -> Delivery:
        delivery = delivery_of(self.origin, meters=meters, vehicles=vehicles, dead=dead, source=source)
        self.buffer.put(delivery)
        return delivery

    async def finish(self) -> None:
        """Flush all there is, until it is settled."""
        self.buffer.close()
        await self.flusher.run()

    def _watch(self) -> None:
        assert_balanced(self.metrics)


def minding(keys: Iterable[str], error: Callable[[str], StoreError]) -> Callable[[Stream, Row], StoreError | None]:
    """A store's objection to these devices."""
    minded = frozenset(keys)
    return lambda _, row: error("so it is") if row[0] in minded else None


def unknown(message: str) -> TransientStoreError:
    return TransientStoreError(message, known=False)


def meters(count: int, *, second: int = 0) -> list[Row]:
    return [meter_row(f"m-{number}", second) for number in range(count)]


def gaps(store: FakeStore) -> list[float]:
    """Seconds between one write and the next."""
    return [later.at - earlier.at for earlier, later in pairwise(store.writes)]


def sizes(store: FakeStore) -> list[int]:
    return [len(write.batch) for write in store.writes]


def stored(store: FakeStore, stream: Stream) -> list[Row]:
    return list(store.rows[stream].values())


# The ordinary way ------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_nothing_is_settled_before_the_store_has_committed() -> None:
    store = FakeStore(seconds=0.5)
    harness = Harness(store)
    delivery = harness.put(meters=meters(2), vehicles=[vehicle_row()], dead=[dead_letter()])
    harness.buffer.close()
    flush = asyncio.create_task(harness.flusher.run())

    await asyncio.sleep(0.25)
    assert ([4], []) == (sizes(store), harness.origin.settled)
    await flush

    assert [[delivery]] == harness.origin.settlements
    assert (meters(2), [vehicle_row()]) == (stored(store, METER), stored(store, VEHICLE))
    assert [dead_letter()] == store.dead_letters
    assert {METER: 2, VEHICLE: 1} == delivery.outcome.committed


@in_virtual_time
async def test_every_origin_is_told_once_a_flush_in_the_order_of_receipt() -> None:
    harness = Harness(FakeStore())
    other = FakeOrigin()
    mine, others = [], []
    for second in range(4):
        mine.append(harness.put(meters=[meter_row("mine", second)]))
        others.append(delivery_of(other, meters=[meter_row("other", second)]))
        harness.buffer.put(others[-1])

    await harness.finish()

    assert [mine] == harness.origin.settlements
    assert [others] == other.settlements


@in_virtual_time
async def test_flushes_are_settled_in_the_order_of_receipt() -> None:
    store = FakeStore([None, TransientStoreError("away"), None])
    harness = Harness(store, flush_at=3)
    deliveries = [harness.put(meters=meters(2, second=second)) for second in range(5)]

    await harness.finish()

    assert deliveries == harness.origin.settled
    assert 5 == len(harness.origin.settlements)


@in_virtual_time
async def test_run_goes_on_flushing_until_the_buffer_is_closed() -> None:
    store = FakeStore()
    harness = Harness(store)
    running = asyncio.create_task(harness.flusher.run())

    for second in range(3):
        harness.put(meters=[meter_row(second=second)])
        await asyncio.sleep(10)
    assert [1.0, 11.0, 21.0] == pytest.approx([write.at for write in store.writes])
    assert not running.done()
    harness.buffer.close()
    await running


@in_virtual_time
async def test_room_is_made_before_an_origin_hears_of_it() -> None:
    harness = Harness(FakeStore())
    held: list[int] = []
    origin = FakeOrigin(lambda: held.append(harness.buffer.messages))
    harness.buffer.put(delivery_of(origin, meters=meters(3)))

    await harness.finish()

    assert [0] == held


@in_virtual_time
async def test_a_delivery_with_nothing_to_store_is_settled_in_its_turn() -> None:
    harness = Harness(FakeStore())
    deliveries = [harness.put(meters=meters(1)), harness.put(), harness.put(vehicles=[vehicle_row()])]

    await harness.finish()

    assert [deliveries] == harness.origin.settlements


@in_virtual_time
async def test_a_delivery_with_nothing_to_store_is_settled_when_it_comes_alone() -> None:
    harness = Harness(FakeStore())
    delivery = harness.put()

    await harness.finish()

    assert [delivery] == harness.origin.settled


@in_virtual_time
async def test_the_time_of_the_last_commit_is_known() -> None:
    harness = Harness(FakeStore())
    assert None is harness.flusher.last_commit_at
    harness.put(meters=meters(1))

    await harness.finish()

    assert harness.flusher.last_commit_at is not None


# Duplicates ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "known"), [(1000, True), (999, False)])
@in_virtual_time
async def test_when_readings_were_taken_is_known_while_many_come_in(count: int, known: bool) -> None:  # noqa: FBT001
    harness = Harness(FakeStore(), flush_at=1000)
    rows = meters(count)
    harness.put(meters=rows)

    await harness.finish()

    assert (to_datetime(rows[0][1]) if known else None) == harness.flusher.arriving


async def test_duplicates_are_counted_for_the_delivery_that_brought_them() -> None:
    harness = Harness(FakeStore())
    harness.put(meters=[meter_row("a"), meter_row("b")])
    await harness.finish()
    again = harness.put(meters=[meter_row("b"), meter_row("c")])
    twice = harness.put(
        meters=[meter_row("c"), meter_row("d"), meter_row("d")], vehicles=[vehicle_row()], source="http"
    )

    await harness.finish()

    assert {METER: 1, VEHICLE: 0} == again.outcome.committed
    assert {METER: 1, VEHICLE: 1} == twice.outcome.committed
    assert {"received": 8, "committed": 5, "duplicate": 3, "dead_lettered": 0, "in_flight": 0} == balance(
        harness.metrics
    )


@in_virtual_time
async def test_of_a_repeated_key_the_first_reading_stands() -> None:
    store = FakeStore()
    harness = Harness(store)
    harness.put(meters=[meter_row(kwh=1.0)])
    harness.put(meters=[meter_row(kwh=2.0)])
    await harness.finish()
    harness.put(meters=[meter_row(kwh=3.0)])

    await harness.finish()

    assert [meter_row(kwh=1.0)] == stored(store, METER)


@in_virtual_time
async def test_a_commit_whose_answer_was_lost_is_replayed_whole() -> None:
    store = FakeStore([AnswerLostError("server closed the connection")])
    harness = Harness(store)
    delivery = harness.put(meters=meters(3))

    await harness.finish()

    assert [3, 3] == sizes(store)
    assert meters(3) == stored(store, METER)
    assert [delivery] == harness.origin.settled
    assert {METER: 0, VEHICLE: 0} == delivery.outcome.committed
    assert 3 == balance(harness.metrics)["duplicate"]


# Transient errors ------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_transient_error_repeats_the_whole_batch_and_settles_nothing_meanwhile() -> None:
    store = FakeStore(repeat(TransientStoreError("57P01: shutting down"), 20))
    harness = Harness(store)
    delivery = harness.put(meters=meters(5), vehicles=[vehicle_row()], dead=[dead_letter()])
    harness.buffer.close()
    flush = asyncio.create_task(harness.flusher.run())

    await asyncio.sleep(10)
    assert [] == harness.origin.settled
    assert "57P01: shutting down" == harness.flusher.reason
    assert 7 == balance(harness.metrics)["in_flight"]
    await flush

    assert [7] * 21 == sizes(store)
    assert [delivery] == harness.origin.settled
    assert None is harness.flusher.reason


@in_virtual_time
async def test_repeating_backs_off_with_jitter_up_to_a_bound() -> None:
    store = FakeStore(repeat(TransientStoreError("away"), 12))
    harness = Harness(store)
    harness.put(meters=meters(1))

    await harness.finish()

    delays = [min(RETRY_FIRST_SECONDS * 2**attempt, RETRY_LONGEST_SECONDS) for attempt in range(12)]
    assert all(0.75 * delay <= gap <= 1.25 * delay for delay, gap in zip(delays, gaps(store), strict=True))


@in_virtual_time
async def test_the_next_flush_begins_with_the_shortest_delay_again() -> None:
    store = FakeStore([*repeat(TransientStoreError("away"), 6), None, TransientStoreError("away")])
    harness = Harness(store, flush_at=1)
    harness.put(meters=[meter_row("a")])
    harness.put(meters=[meter_row("b")])

    await harness.finish()

    assert gaps(store)[-1] <= 1.25 * RETRY_FIRST_SECONDS


@in_virtual_time
async def test_a_known_transient_error_never_splits_a_batch() -> None:
    store = FakeStore(repeat(TransientStoreError("08006: connection failure"), 50))
    harness = Harness(store)
    harness.put(meters=meters(4))

    await harness.finish()

    assert [4] * 51 == sizes(store)
    assert [] == store.dead_letters


@in_virtual_time
async def test_what_comes_while_a_batch_is_repeated_waits_for_the_next() -> None:
    store = FakeStore(repeat(TransientStoreError("away"), 5))
    harness = Harness(store)
    running = asyncio.create_task(harness.flusher.run())
    first = harness.put(meters=meters(2))
    await asyncio.sleep(1.5)
    second = harness.put(meters=meters(3, second=1))
    harness.buffer.close()

    await running

    assert [2, 2, 2, 2, 2, 2, 3] == sizes(store)
    assert [[first], [second]] == harness.origin.settlements


# Data errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", [0, 1, 31, 62, 63])
@in_virtual_time
async def test_a_row_at_fault_is_found_by_bisection_and_its_neighbours_are_kept(position: int) -> None:
    rows = meters(64)
    store = FakeStore(objection=minding([rows[position][0]], DataStoreError))
    harness = Harness(store)
    delivery = harness.put(meters=rows, vehicles=[vehicle_row()], dead=[dead_letter()])

    await harness.finish()

    kept = rows[:position] + rows[position + 1 :]
    assert sorted(kept) == sorted(stored(store, METER))
    assert [vehicle_row()] == stored(store, VEHICLE)
    assert {METER: 63, VEHICLE: 1} == delivery.outcome.committed
    assert [
        Rejection(stream=METER, row=rows[position], reason="database", detail="so it is")
    ] == delivery.outcome.rejected
    assert ["database", "not-json"] == sorted(letter.reason for letter in store.dead_letters)
    assert len(store.writes) <= 3 + 2 * math.log2(64) + 2
    assert {"received": 66, "committed": 64, "duplicate": 0, "dead_lettered": 2, "in_flight": 0} == balance(
        harness.metrics
    )


@in_virtual_time
async def test_a_rejected_row_is_kept_as_a_dead_letter_that_can_be_replayed() -> None:
    store = FakeStore(objection=minding(["EV-13"], DataStoreError))
    harness = Harness(store)
    row = vehicle_row("EV-13")
    harness.put(vehicles=[row], source="http")

    await harness.finish()

    (letter,) = store.dead_letters
    assert ("http", "vehicle", "vehicles/EV-13/telemetry", "database", "so it is") == (
        letter.source,
        letter.stream,
        letter.topic,
        letter.reason,
        letter.detail,
    )
    again = decode(letter.topic, letter.payload, oldest=row[1], newest=row[1], received_at=row[-1])
    assert (VEHICLE, row) == again
    assert "EV-13" == json.loads(letter.payload)["vehicleId"]


@in_virtual_time
async def test_bisection_does_not_wait() -> None:
    harness = Harness(FakeStore(objection=minding(["m-3"], DataStoreError)))
    harness.put(meters=meters(50))

    await harness.finish()

    assert pytest.approx(0) == clock()


@in_virtual_time
async def test_nothing_is_settled_before_the_dead_letters_are_committed() -> None:
    store = FakeStore(objection=minding(["m-1"], DataStoreError), letter_objection=OperatorStoreError("42501: no"))
    harness = Harness(store)
    delivery = harness.put(meters=meters(4))
    harness.buffer.close()
    flush = asyncio.create_task(harness.flusher.run())

    await asyncio.sleep(3600)
    assert (3, [], []) == (len(stored(store, METER)), store.dead_letters, harness.origin.settled)
    assert "42501: no" == harness.flusher.reason
    store.letter_objection = None
    await flush

    assert [delivery] == harness.origin.settled
    assert [METER.topic("m-1")] == [letter.topic for letter in store.dead_letters]
    assert None is harness.flusher.reason


@in_virtual_time
async def test_an_outage_while_a_refused_dead_letter_is_reduced_does_not_cost_its_payload() -> None:
    store = FakeStore([DataStoreError("22021: no"), TransientStoreError("08006: gone")])
    harness = Harness(store)
    harness.put(dead=[dead_letter()])

    await harness.finish()

    assert [dead_letter().payload] == [letter.payload for letter in store.dead_letters]


@pytest.mark.parametrize(
    "refusal",
    [
        DataStoreError("22021: no"),
        OperatorStoreError("42P01: no"),
        TransientStoreError("08006: no"),
        unknown("XX000: no"),
    ],
    ids=["data", "operator", "transient", "unknown"],
)
@in_virtual_time
async def test_a_dead_letter_is_never_given_up(refusal: StoreError) -> None:
    store = FakeStore(letter_objection=refusal)
    harness = Harness(store)
    delivery = harness.put(meters=meters(2), dead=[dead_letter()])
    harness.buffer.close()
    flush = asyncio.create_task(harness.flusher.run())

    await asyncio.sleep(60)
    assert ([], []) == (harness.origin.settled, store.dead_letters)
    store.letter_objection = None
    await flush

    assert [delivery] == harness.origin.settled
    assert [dead_letter()] == store.dead_letters
    assert meters(2) == stored(store, METER)


@in_virtual_time
async def test_many_rows_at_fault_of_several_deliveries_are_told_to_each() -> None:
    store = FakeStore(objection=minding(["m-1", "m-2", "EV-1"], DataStoreError))
    harness = Harness(store)
    first = harness.put(meters=meters(3), vehicles=[vehicle_row("EV-1")])
    second = harness.put(meters=meters(2, second=1), vehicles=[vehicle_row("EV-2")], source="http")

    await harness.finish()

    assert {"m-1", "m-2", "EV-1"} == {rejection.row[0] for rejection in first.outcome.rejected}
    assert {"m-1"} == {rejection.row[0] for rejection in second.outcome.rejected}
    assert {METER: 1, VEHICLE: 0} == first.outcome.committed
    assert {METER: 1, VEHICLE: 1} == second.outcome.committed
    assert Counter({"mqtt": 3, "http": 1}) == Counter(letter.source for letter in store.dead_letters)
    assert {"received": 7, "committed": 3, "duplicate": 0, "dead_lettered": 4, "in_flight": 0} == balance(
        harness.metrics
    )


@in_virtual_time
async def test_a_transient_error_amid_bisection_repeats_only_the_part() -> None:
    store = FakeStore([None, None, TransientStoreError("away")], objection=minding(["m-5"], DataStoreError))
    harness = Harness(store)
    harness.put(meters=meters(8))

    await harness.finish()

    assert 7 == len(stored(store, METER))
    assert 1 == len(store.dead_letters)
    assert sizes(store).count(8) == 1


@in_virtual_time
async def test_a_part_that_commits_makes_the_next_delay_the_shortest_again() -> None:
    away = TransientStoreError("away")
    store = FakeStore([*repeat(away, 6), None, None, away], objection=minding(["m-0"], DataStoreError))
    harness = Harness(store)
    harness.put(meters=meters(2))

    await harness.finish()

    assert [2] * 7 + [1, 1, 1, 1] == sizes(store)  # away, split, committed, away, at fault, dead letter
    assert 0 < gaps(store)[8] <= 1.25 * RETRY_FIRST_SECONDS


# Errors for an operator ------------------------------------------------------------------------------------------


@in_virtual_time
async def test_an_error_for_an_operator_is_repeated_slowly_and_whole() -> None:
    store = FakeStore(repeat(OperatorStoreError("42P01: no such table"), 30))
    harness = Harness(store)
    delivery = harness.put(meters=meters(3))
    harness.buffer.close()
    flush = asyncio.create_task(harness.flusher.run())

    await asyncio.sleep(SLOW_RETRY_SECONDS * 29.5)
    assert ([], "42P01: no such table") == (harness.origin.settled, harness.flusher.reason)
    await flush

    assert [SLOW_RETRY_SECONDS] * 30 == pytest.approx(gaps(store))
    assert [3] * 31 == sizes(store)
    assert [delivery] == harness.origin.settled


# Unknown errors --------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_an_unknown_error_is_repeated_whole_before_the_rows_are_tried_one_by_one() -> None:
    store = FakeStore(objection=minding(["m-2"], unknown))
    harness = Harness(store)
    delivery = harness.put(meters=meters(8))

    await harness.finish()

    assert [8] * UNKNOWN_BEFORE_ISOLATING == sizes(store)[:UNKNOWN_BEFORE_ISOLATING]
    assert max(sizes(store)[UNKNOWN_BEFORE_ISOLATING:]) == 4
    assert 7 == len(stored(store, METER))
    assert [("database", METER.topic("m-2"))] == [(letter.reason, letter.topic) for letter in store.dead_letters]
    assert ["m-2"] == [rejection.row[0] for rejection in delivery.outcome.rejected]


@in_virtual_time
async def test_a_known_error_makes_no_suspects_while_rows_are_tried_one_by_one() -> None:
    script = [*repeat(None, UNKNOWN_BEFORE_ISOLATING), *repeat(TransientStoreError("08006: away"), 20)]
    store = FakeStore(script, objection=minding(["m-2"], unknown))
    harness = Harness(store)
    harness.put(meters=meters(8))

    await harness.finish()

    assert 7 == len(stored(store, METER))
    assert [METER.topic("m-2")] == [letter.topic for letter in store.dead_letters]


@in_virtual_time
async def test_an_unknown_error_that_passes_costs_nobody_anything() -> None:
    store = FakeStore(repeat(unknown("XX000: another"), UNKNOWN_BEFORE_ISOLATING - 1))
    harness = Harness(store)
    harness.put(meters=meters(8))

    await harness.finish()

    assert [8] * UNKNOWN_BEFORE_ISOLATING == sizes(store)
    assert [] == store.dead_letters


@in_virtual_time
async def test_an_unknown_error_of_every_row_confirms_none() -> None:
    store = FakeStore(objection=lambda _stream, _row: unknown("XX000: all broken"))
    harness = Harness(store)
    delivery = harness.put(meters=meters(8), vehicles=[vehicle_row()])
    harness.buffer.close()
    flush = asyncio.create_task(harness.flusher.run())

    await asyncio.sleep(60)
    assert ([], [], "XX000: all broken") == (harness.origin.settled, store.dead_letters, harness.flusher.reason)
    store.objection = lambda _stream, _row: None
    await flush

    assert [delivery] == harness.origin.settled
    assert {METER: 8, VEHICLE: 1} == delivery.outcome.committed
    assert [] == store.dead_letters


@in_virtual_time
async def test_a_lone_row_is_kept_until_neighbours_commit() -> None:
    store = FakeStore(objection=minding(["m-0"], unknown))
    harness = Harness(store)
    running = asyncio.create_task(harness.flusher.run())
    alone = harness.put(meters=meters(1))

    await asyncio.sleep(SUSPECT_ROUNDS * SLOW_RETRY_SECONDS / 2)
    assert ([], []) == (harness.origin.settled, store.dead_letters)
    neighbour = harness.put(meters=[meter_row("m-1")])
    await asyncio.sleep(2 * SLOW_RETRY_SECONDS)

    assert [[alone, neighbour]] == harness.origin.settlements
    assert (0, ["m-0"]) == (alone.outcome.committed[METER], [rejection.row[0] for rejection in alone.outcome.rejected])
    assert (1, []) == (neighbour.outcome.committed[METER], neighbour.outcome.rejected)
    assert [METER.topic("m-0")] == [letter.topic for letter in store.dead_letters]
    assert [meter_row("m-1")] == stored(store, METER)
    harness.buffer.close()
    await running


@in_virtual_time
async def test_a_lone_row_is_stored_when_the_error_goes() -> None:
    store = FakeStore(objection=minding(["m-0"], unknown))
    harness = Harness(store)
    delivery = harness.put(meters=meters(1))
    harness.buffer.close()
    flush = asyncio.create_task(harness.flusher.run())
    await asyncio.sleep(60)

    store.objection = lambda _stream, _row: None
    await flush

    assert {METER: 1, VEHICLE: 0} == delivery.outcome.committed
    assert [] == store.dead_letters


@in_virtual_time
async def test_neighbours_of_the_other_stream_confirm_nothing() -> None:
    store = FakeStore(objection=lambda stream, _row: unknown("XX000: vehicles only") if stream is VEHICLE else None)
    harness = Harness(store)
    delivery = harness.put(meters=meters(3), vehicles=[vehicle_row("EV-1"), vehicle_row("EV-2")])
    harness.buffer.close()
    flush = asyncio.create_task(harness.flusher.run())

    await asyncio.sleep(60)
    assert (3, [], []) == (len(stored(store, METER)), store.dead_letters, harness.origin.settled)
    store.objection = lambda _stream, _row: None
    await flush

    assert {METER: 3, VEHICLE: 2} == delivery.outcome.committed


@in_virtual_time
async def test_a_row_that_fails_for_ever_does_not_hold_up_those_behind_it() -> None:
    store = FakeStore(objection=minding(["m-0"], unknown))
    harness = Harness(store, flush_at=5)
    running = asyncio.create_task(harness.flusher.run())

    for second in range(120):
        harness.put(meters=meters(5, second=second))
        await asyncio.sleep(1)
    harness.buffer.close()
    await running

    assert 120 * 4 == len(stored(store, METER))
    assert 120 == len(store.dead_letters)
    assert 120 == len(harness.origin.settled)


# Cancellation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0.25, 0.75, 1.25], ids=["writing", "waiting to repeat", "writing again"])
@in_virtual_time
async def test_a_flush_that_is_cancelled_settles_nothing(at: float) -> None:
    store = FakeStore([OperatorStoreError("no"), *repeat(TransientStoreError("away"), 50)], seconds=0.5)
    harness = Harness(store)
    harness.put(meters=meters(3), dead=[dead_letter()])
    harness.buffer.close()
    flush = asyncio.create_task(harness.flusher.run())
    await asyncio.sleep(at)

    flush.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flush

    assert [] == harness.origin.settled
    assert 4 == balance(harness.metrics)["in_flight"]
    assert_balanced(harness.metrics)


@in_virtual_time
async def test_an_error_that_is_no_store_error_ends_the_flusher_and_settles_nothing() -> None:
    def mistake(_stream: Stream, _row: Row) -> StoreError | None:
        raise ZeroDivisionError

    harness = Harness(FakeStore(objection=mistake))
    harness.put(meters=meters(1))

    with pytest.raises(ZeroDivisionError):
        await harness.finish()

    assert [] == harness.origin.settled


# Properties ------------------------------------------------------------------------------------------------------


class Plan(NamedTuple):
    """One delivery to come: (device number, poison) of each reading, dead letters, and the pause behind it."""

    meters: list[str]
    vehicles: list[str]
    dead: int
    pause: float


kinds = st.sampled_from(["good", "good", "good", "poison", "puzzle"])
plans = st.lists(
    st.builds(Plan, st.lists(kinds, max_size=6), st.lists(kinds, max_size=6), st.integers(0, 2), st.floats(0, 3)),
    min_size=1,
    max_size=8,
).filter(lambda plans: all(plan.meters or plan.vehicles or plan.dead for plan in plans))
known_errors = st.sampled_from([TransientStoreError, OperatorStoreError, AnswerLostError])
scripts = st.lists(st.one_of(st.none(), st.builds(lambda error: error("scripted"), known_errors)), max_size=12)
scripts_with_the_unknown = st.lists(
    st.one_of(st.none(), st.builds(lambda error: error("scripted"), st.one_of(known_errors, st.just(unknown)))),
    max_size=12,
)


def poisonous(_stream: Stream, row: Row) -> StoreError | None:
    if row[0].startswith("poison"):
        return DataStoreError("22003: poison")
    return unknown("XX000: puzzle") if row[0].startswith("puzzle") else None


class Field:
    """Plays plans into a Harness while a healthy device of each stream goes on sending, as devices do."""

    def __init__(self, store: FakeStore) -> None:
        self.harness = Harness(store, flush_at=8)
        self.store = store
        self.deliveries: list[Delivery] = []
        self.steady = FakeOrigin()
        self._second = 0

    async def play(self, plans: Sequence[Plan]) -> None:
        running = asyncio.create_task(self.harness.flusher.run())
        for number, plan in enumerate(plans):
            self.put(
                meters=[meter_row(f"{kind}-{number}-{index}") for index, kind in enumerate(plan.meters)],
                vehicles=[vehicle_row(f"{kind}-{number}-{index}") for index, kind in enumerate(plan.vehicles)],
                dead=[dead_letter(f"{number}-{index}") for index in range(plan.dead)],
            )
            await asyncio.sleep(plan.pause)
        await self.wait(running)

    def put(self, *, meters: list[Row], vehicles: list[Row], dead: Sequence[DeadLetter] = ()) -> None:
        self.deliveries.append(self.harness.put(meters=meters, vehicles=vehicles, dead=dead))

    async def wait(self, running: asyncio.Task[None]) -> None:
        """Until everything is settled; a minute's read_delay per delivery is more than any script takes."""
        while len(self.harness.origin.settled) < len(self.deliveries):
            assert self._second < 60 * (10 + len(self.deliveries)), "wedged"
            self._second += 1
            row = meter_row("steady", self._second)
            self.harness.buffer.put(
                delivery_of(self.steady, meters=[row], vehicles=[vehicle_row("steady", self._second)])
            )
            await asyncio.sleep(1)
        self.harness.buffer.close()
        await running

    def keys(self, stream: Stream) -> set[str]:
        return {row[0] for delivery in self.deliveries for row in delivery.readings[stream]}

    def stored(self, stream: Stream) -> set[str]:
        return {identity for identity, _ in self.store.rows[stream]} - {"steady"}

    def rejected(self, stream: Stream) -> Counter[str]:
        """Devices with a dead letter of the database's."""
        return Counter(
            letter.topic.split("/")[1]
            for letter in self.store.dead_letters
            if letter.reason == "database" and letter.stream == stream.name and "steady" not in letter.topic
        )


@given(plans, scripts_with_the_unknown)
@in_virtual_time
async def test_every_reading_ends_once_whatever_the_database_does(
    plans: list[Plan], script: list[StoreError | None]
) -> None:
    field = Field(FakeStore(script, objection=poisonous))
    # What was committed unheard is written again, and a dead letter has no key that would tell it is the same.
    answers_lost = any(isinstance(error, AnswerLostError) for error in script)

    await field.play(plans)

    assert field.deliveries == field.harness.origin.settled
    for stream in (METER, VEHICLE):
        stored, rejected = field.stored(stream), field.rejected(stream)
        assert field.keys(stream) == stored | set(rejected)
        assert set() == {key for key in stored if not key.startswith("good")}
        if not answers_lost:
            assert set() == stored & set(rejected)
            assert {1} >= set(rejected.values())
    decoded = Counter(letter.detail for letter in field.store.dead_letters if letter.reason == "not-json")
    expected = Counter(letter.detail for delivery in field.deliveries for letter in delivery.dead_letters)
    assert set(expected) == set(decoded)
    assert answers_lost or expected == decoded
    assert_balanced(field.harness.metrics)
    assert 0 == balance(field.harness.metrics)["in_flight"]


@given(plans, scripts)
@in_virtual_time
async def test_good_readings_are_stored_when_only_their_neighbours_are_bad(
    plans: list[Plan], script: list[StoreError | None]
) -> None:
    field = Field(FakeStore(script, objection=poisonous))

    await field.play(plans)

    for stream in (METER, VEHICLE):
        assert {key for key in field.keys(stream) if key.startswith("good")} == field.stored(stream)


@given(
    st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), min_size=1, max_size=8),
    st.sets(st.integers(0, 9), max_size=2),
    scripts,
)
@in_virtual_time
async def test_redelivered_readings_are_stored_once_and_told_apart_by_delivery(
    repeats: list[list[int]], poison: set[int], script: list[StoreError | None]
) -> None:
    store = FakeStore(script, objection=poisonous)
    field = Field(store)
    running = asyncio.create_task(field.harness.flusher.run())
    for devices in repeats:
        rows = [meter_row(f"{'poison' if device in poison else 'good'}-{device}") for device in devices]
        field.put(meters=rows, vehicles=[])
        await asyncio.sleep(0.5)
    await field.wait(running)

    sent = field.keys(METER)
    assert {key for key in sent if key.startswith("good")} == field.stored(METER)
    assert {key for key in sent if key.startswith("poison")} == set(field.rejected(METER))
    assert field.deliveries == field.harness.origin.settled
    new = sum(delivery.outcome.committed[METER] for delivery in field.deliveries)
    if any(isinstance(error, AnswerLostError) for error in script):
        assert new <= len(field.stored(METER))  # what was new in a lost answer looks like a duplicate afterwards
    else:
        assert len(field.stored(METER)) == new
    assert_balanced(field.harness.metrics)


def batch_keys(batch: Batch) -> Counter[tuple[str, str]]:
    return Counter((stream.name, row[0]) for stream, part in batch.readings.items() for row in part.rows)


@given(plans)
@in_virtual_time
async def test_a_row_that_has_committed_is_not_written_again(plans: list[Plan]) -> None:
    store = FakeStore(objection=lambda _stream, row: DataStoreError("22003") if row[0].startswith("p") else None)
    field = Field(store)

    await field.play(plans)

    written: Counter[tuple[str, str]] = Counter()
    for write in store.writes:
        if not any(key[1].startswith("p") for key in batch_keys(write.batch)):
            written += batch_keys(write.batch)
    assert {1} >= {count for key, count in written.items() if key[1] != "steady"}


@in_virtual_time
async def test_a_row_nobody_can_judge_is_kept_as_a_dead_letter_after_a_minute() -> None:
    store = FakeStore(objection=minding(["m-0"], unknown))
    harness = Harness(store)
    delivery = harness.put(meters=meters(1))
    harness.buffer.close()
    flush = asyncio.create_task(harness.flusher.run())

    await asyncio.sleep((SUSPECT_ROUNDS - 1) * SLOW_RETRY_SECONDS)
    assert ([], []) == (harness.origin.settled, store.dead_letters)
    await flush

    assert [delivery] == harness.origin.settled
    assert [METER.topic("m-0")] == [letter.topic for letter in store.dead_letters]


@in_virtual_time
async def test_a_stream_that_fails_as_a_whole_does_not_hold_up_the_other_for_ever() -> None:
    store = FakeStore(objection=lambda stream, _row: unknown("XX002: index is broken") if stream is VEHICLE else None)
    harness = Harness(store, max_messages=1000)
    running = asyncio.create_task(harness.flusher.run())
    vehicles = [vehicle_row(f"v-{number}") for number in range(400)]
    first = harness.put(meters=meters(400), vehicles=vehicles)

    await asyncio.sleep(2 * SUSPECT_ROUNDS * SLOW_RETRY_SECONDS)

    assert [first] == harness.origin.settled
    assert (400, 0) == (first.outcome.committed[METER], first.outcome.committed[VEHICLE])
    assert sorted(VEHICLE.topic(row[0]) for row in vehicles) == sorted(letter.topic for letter in store.dead_letters)
    harness.buffer.close()
    await running


@in_virtual_time
async def test_a_stream_that_fails_as_a_whole_is_not_tried_row_by_row() -> None:
    store = FakeStore(objection=lambda _stream, _row: unknown("XX000: all broken"))
    harness = Harness(store, max_messages=40_000)
    harness.put(meters=meters(20_000))
    harness.buffer.close()
    flush = asyncio.create_task(harness.flusher.run())

    await asyncio.sleep(SLOW_RETRY_SECONDS - 1)

    assert len(store.writes) < 200
    store.objection = lambda _stream, _row: None
    await flush
    assert (20_000, []) == (len(store.rows[METER]), store.dead_letters)


@in_virtual_time
async def test_neighbours_that_were_there_already_confirm_too() -> None:
    store = FakeStore(objection=minding(["m-poison"], unknown))
    harness = Harness(store)
    running = asyncio.create_task(harness.flusher.run())
    harness.put(meters=meters(8))
    await asyncio.sleep(60)
    redelivered = harness.put(meters=[*meters(8), meter_row("m-poison")])

    await asyncio.sleep(5)

    assert redelivered in harness.origin.settled
    assert [METER.topic("m-poison")] == [letter.topic for letter in store.dead_letters]
    harness.buffer.close()
    await running


@in_virtual_time
async def test_a_good_reading_under_the_key_of_a_rejected_one_is_stored() -> None:
    bad, good = meter_row("m-1", kwh=9999.0), meter_row("m-1", kwh=0.5)
    store = FakeStore(objection=lambda _stream, row: DataStoreError("23514: too much") if row[2] > 1000 else None)
    harness = Harness(store)
    first, second = harness.put(meters=[bad]), harness.put(meters=[good])

    await harness.finish()

    assert [good] == stored(store, METER)
    assert [bad] == [rejection.row for rejection in first.outcome.rejected]
    assert 1 == second.outcome.committed[METER]
    assert [METER.topic("m-1")] == [letter.topic for letter in store.dead_letters]


@in_virtual_time
async def test_a_flush_that_takes_too_long_is_a_reason_until_it_ends() -> None:
    store = FakeStore(seconds=2 * STALLED_SECONDS)
    harness = Harness(store)
    running = asyncio.create_task(harness.flusher.run())
    harness.put(meters=meters(1))

    await asyncio.sleep(STALLED_SECONDS / 2)
    assert harness.flusher.reason is None
    await asyncio.sleep(STALLED_SECONDS)
    assert "a flush has been under way for 44 s" == harness.flusher.reason
    await asyncio.sleep(STALLED_SECONDS)

    assert harness.flusher.reason is None
    harness.buffer.close()
    await running


# Devices that are refused again and again ------------------------------------------------------------------------


async def flushes(harness: Harness, count: int, *, of: Callable[[int], list[Row]]) -> None:
    """So many deliveries, each flushed before the next one comes."""
    running = asyncio.create_task(harness.flusher.run())
    for second in range(count):
        harness.put(meters=of(second))
        await asyncio.sleep(30)
    harness.buffer.close()
    await running


@pytest.mark.parametrize("error", [DataStoreError, unknown], ids=["data", "unknown"])
@in_virtual_time
async def test_a_device_that_is_refused_again_and_again_is_written_apart_from_its_neighbours(
    error: Callable[[str], StoreError],
) -> None:
    store = FakeStore(objection=minding(["m-7"], error))
    harness = Harness(store)
    begun = len(store.writes)

    await flushes(harness, 10, of=lambda second: meters(20, second=second))

    last = [write.batch for write in store.writes[begun:]][-3:]
    assert [19, 1, 0] == [sum(len(part.rows) for part in batch.readings.values()) for batch in last]
    assert 1 == len(last[2].dead_letters)
    assert 10 * 19 == len(stored(store, METER))
    assert [METER.topic("m-7")] * 10 == [letter.topic for letter in store.dead_letters]


@in_virtual_time
async def test_of_a_refused_device_only_some_rows_are_tried_one_by_one() -> None:
    store = FakeStore(objection=minding(["bad"], DataStoreError))
    harness = Harness(store, flush_at=20_000, max_messages=100_000)

    def rows(second: int) -> list[Row]:
        bad = [meter_row("bad", second * 1000 + number) for number in range(360)]
        return [*meters(9640, second=second), *bad]

    await flushes(harness, 3, of=rows)

    assert 3 * 9640 == len(stored(store, METER))
    assert 3 * 360 == len(store.dead_letters)
    last = [write for write in store.writes if write.at >= 60]
    assert len(last) <= 3 * GIVE_UP_AFTER


@in_virtual_time
async def test_many_devices_that_are_always_refused_cost_a_transaction_each() -> None:
    devices = 150
    store = FakeStore(objection=minding([f"bad-{number}" for number in range(devices)], DataStoreError))
    harness = Harness(store, flush_at=20_000, max_messages=100_000)

    def rows(second: int) -> list[Row]:
        bad = [meter_row(f"bad-{number % devices}", second * 1000 + number) for number in range(20 * devices)]
        return [*meters(2000, second=second), *bad]

    await flushes(harness, 5, of=rows)

    assert 5 * 2000 == len(stored(store, METER))
    assert 5 * 20 * devices == len(store.dead_letters)
    last = [write for write in store.writes if write.at >= 120]
    assert len(last) == devices + 2


@in_virtual_time
async def test_a_device_that_was_always_refused_and_is_taken_again_loses_nothing() -> None:
    store = FakeStore(objection=minding(["bad"], DataStoreError))
    harness = Harness(store, flush_at=1000)
    healed = [meter_row("bad", 10_000 + number) for number in range(100)]

    def rows(second: int) -> list[Row]:
        if second == 4:
            store.objection = lambda _stream, row: DataStoreError("no") if row == healed[50] else None
            return healed
        return [meter_row("bad", second * 1000 + number) for number in range(100)]

    await flushes(harness, 5, of=rows)

    assert healed[:50] + healed[51:] == sorted(stored(store, METER))


@in_virtual_time
async def test_good_rows_of_a_device_are_stored_though_others_of_it_are_refused() -> None:
    store = FakeStore(objection=lambda _stream, row: DataStoreError("too much") if row[2] > 1 else None)
    harness = Harness(store, flush_at=1000)

    await flushes(
        harness,
        5,
        of=lambda second: [meter_row("m", second * 1000 + n, kwh=2.0 if n % 3 else 0.5) for n in range(300)],
    )

    assert 5 * 100 == len(stored(store, METER))
    assert 5 * 200 == len(store.dead_letters)


@in_virtual_time
async def test_a_refused_device_that_is_taken_again_loses_nothing() -> None:
    store = FakeStore(objection=minding(["m-7"], DataStoreError))
    harness = Harness(store)
    await flushes(harness, 5, of=lambda second: meters(20, second=second))
    store.objection = lambda _stream, _row: None
    row = meter_row("m-7", 500)
    delivery = harness.put(meters=[row])
    await harness.flusher.run()

    assert [delivery] == harness.origin.settled[-1:]
    assert row in stored(store, METER)


# Days without a partition ----------------------------------------------------------------------------------------


@in_virtual_time
async def test_all_rows_of_a_day_without_partition_become_dead_letters_at_once() -> None:
    day = meter_row()[1] // MICROSECONDS_PER_DAY - 3

    def is_of_day(row: Row) -> bool:
        return bool(row[1] // MICROSECONDS_PER_DAY == day)

    def no_place(stream: Stream, row: Row) -> StoreError | None:
        if stream is METER and is_of_day(row):
            return NoPartitionError("meter_history_20261117 is no partition", history="meter_history", day=day)
        return None

    store = FakeStore(objection=no_place)
    harness = Harness(store, flush_at=1000)
    late = [meter_row(f"m-{number}", -3 * 86_400 + number) for number in range(100)]
    delivery = harness.put(meters=[*meters(50), *late], vehicles=[vehicle_row(second=-3 * 86_400)])

    await harness.finish()

    assert [151, 51, 100] == sizes(store)
    assert sorted(meters(50)) == sorted(stored(store, METER))
    assert 1 == delivery.outcome.committed[VEHICLE]
    assert [("database", "meter_history_20261117 is no partition")] * 100 == [
        (letter.reason, letter.detail) for letter in store.dead_letters
    ]


# Dead letters that the database refuses --------------------------------------------------------------------------


def refusing(refuses: Callable[[DeadLetter], bool]) -> FakeStore:
    """A store that objects to certain dead letters."""
    return FakeStore(letter_objections=lambda letter: DataStoreError("22021: no") if refuses(letter) else None)


@in_virtual_time
async def test_a_dead_letter_that_is_refused_as_it_is_is_kept_in_ascii_and_holds_up_nobody() -> None:
    store = refusing(lambda letter: not letter.topic.isascii())
    harness = Harness(store)
    strange = replace(dead_letter(), topic="meters/⚡/telemetry")
    delivery = harness.put(meters=meters(3), dead=[dead_letter("1"), strange, dead_letter("2")])

    await harness.finish()

    assert [delivery] == harness.origin.settled
    assert pytest.approx(0) == clock()
    kept = {letter.topic: letter for letter in store.dead_letters}
    reduced = kept[r"meters/\u26a1/telemetry"]
    assert strange.payload == reduced.payload
    assert "22021: no" in reduced.detail
    assert {"1", "2"} <= {letter.detail for letter in store.dead_letters}


@in_virtual_time
async def test_a_dead_letter_whose_payload_is_refused_is_kept_without_it() -> None:
    store = refusing(lambda letter: bool(letter.payload))
    harness = Harness(store)
    delivery = harness.put(dead=[dead_letter()])

    await harness.finish()

    assert [delivery] == harness.origin.settled
    assert [(dead_letter().topic, b"")] == [(letter.topic, letter.payload) for letter in store.dead_letters]


@in_virtual_time
async def test_neighbours_that_join_a_refused_device_are_tried_by_halves_again() -> None:
    store = FakeStore(objection=minding(["m-1", "m-1500"], unknown))
    harness = Harness(store, flush_at=10_000, max_messages=10_000)
    harness.put(meters=meters(3))
    harness.put(meters=[meter_row("m-1", second) for second in range(3)])
    await harness.flusher.flush(harness.buffer.take_now())  # in which m-1 is found
    harness.put(meters=[meter_row("m-1", 10)])
    flush = asyncio.create_task(harness.flusher.flush(harness.buffer.take_now()))
    await asyncio.sleep(1)
    before = len(store.writes)
    harness.put(meters=meters(3000, second=20))
    await flush

    assert 2 + 2998 == len(stored(store, METER))
    assert len(store.writes) - before < 100


# Limits --------------------------------------------------------------------------------------------------------------


def devices_up_to(most: int, *, read_at: float | None = None) -> KnownDevices:
    """None is known yet. With `read_at`, it is so long ago (seconds) that the live tables were read."""
    now = [0.0]
    devices = KnownDevices(most=most, clock=lambda: now[0])
    if read_at is not None:
        devices.replace({METER: set(), VEHICLE: set()})
        now[0] = read_at
    return devices


def suppressed(harness: Harness) -> dict[tuple[str, ...], int]:
    """By the values of the labels, without those that are 0."""
    return {
        tuple(sample.labels.values()): int(sample.value)
        for family in harness.metrics.registry.collect()
        for sample in family.samples
        if sample.name == "ingestd_dead_letters_suppressed_total" and sample.value
    }


@in_virtual_time
async def test_readings_of_devices_beyond_the_limit_become_dead_letters_and_others_are_stored() -> None:
    store = FakeStore()
    harness = Harness(store, devices=devices_up_to(3))
    first = harness.put(meters=meters(2), vehicles=[vehicle_row("EV-1")])
    await harness.flusher.flush(harness.buffer.take_now())
    later = harness.put(meters=meters(4, second=1), vehicles=[vehicle_row("EV-1", 1), vehicle_row("EV-2", 1)])

    await harness.finish()

    assert [first, later] == harness.origin.settled
    assert [*meters(2), *meters(2, second=1)] == stored(store, METER)
    assert [vehicle_row("EV-1"), vehicle_row("EV-1", 1)] == stored(store, VEHICLE)
    assert {METER: 2, VEHICLE: 1} == later.outcome.committed
    refused = [meter_row("m-2", 1), meter_row("m-3", 1), vehicle_row("EV-2", 1)]
    assert [(row, "unknown-device") for row in refused] == [(r.row, r.reason) for r in later.outcome.rejected]
    assert [
        f"{root}/{row[0]}/telemetry" for root, row in zip(("meters", "meters", "vehicles"), refused, strict=True)
    ] == [letter.topic for letter in store.dead_letters]
    assert {"3 devices are known, and no more are allowed"} == {letter.detail for letter in store.dead_letters}
    assert {"received": 9, "committed": 6, "duplicate": 0, "dead_lettered": 3, "in_flight": 0} == balance(
        harness.metrics
    )


@in_virtual_time
async def test_before_a_device_is_refused_the_live_tables_are_read_again_but_not_each_time() -> None:
    store = FakeStore()
    harness = Harness(store, devices=devices_up_to(2, read_at=60))
    for second in range(5):
        harness.put(meters=meters(2, second=second))
        await harness.flusher.flush(harness.buffer.take_now())
    assert 0 == store.reads

    store.forgotten = {"m-0"}
    harness.put(meters=[meter_row("new"), meter_row("newer")])
    await harness.flusher.flush(harness.buffer.take_now())
    harness.put(meters=[meter_row("newest"), meter_row("new", 1)])
    await harness.finish()

    assert 1 == store.reads
    assert {"m-0", "m-1", "new"} == {row[0] for row in stored(store, METER)}
    assert ["meters/newer/telemetry", "meters/newest/telemetry"] == [letter.topic for letter in store.dead_letters]


@in_virtual_time
async def test_a_device_whose_first_reading_is_being_stored_is_not_lost_when_the_live_tables_are_read() -> None:
    store = FakeStore()
    harness = Harness(store, devices=devices_up_to(3, read_at=60))
    for second in range(3):
        harness.put(
            meters=meters(2, second=second), vehicles=[vehicle_row(f"EV-{number}", second) for number in range(3)]
        )
        await harness.flusher.flush(harness.buffer.take_now())

    assert 1 == store.reads
    assert 6 == len(stored(store, METER))
    assert {"EV-0"} == {row[0] for row in stored(store, VEHICLE)}
    assert 6 == len(store.dead_letters)


@in_virtual_time
async def test_no_device_is_refused_by_a_list_that_could_not_be_read() -> None:
    store = FakeStore()
    store.rows[METER][meter_row("m-1")[:2]] = meter_row("m-1")  # by another daemon
    store.read_script = iter([TransientStoreError("57P01"), TransientStoreError("57P01")])
    harness = Harness(store, devices=devices_up_to(1, read_at=60))
    harness.put(meters=[meter_row("m-0"), meter_row("m-1", 1)])

    await harness.finish()

    assert 3 == store.reads
    assert clock() > 0.1
    assert None is harness.flusher.reason
    assert [meter_row("m-1"), meter_row("m-1", 1)] == stored(store, METER)


@in_virtual_time
async def test_repeats_of_a_refused_reading_are_counted_once_each_and_never_stored() -> None:
    store = FakeStore()
    harness = Harness(store, devices=devices_up_to(1))
    harness.put(meters=[meter_row("m-0")])
    harness.put(meters=[meter_row("m-1", kwh=1)])
    harness.put(meters=[meter_row("m-1", kwh=2)])

    await harness.finish()

    assert [meter_row("m-0")] == stored(store, METER)
    assert {"received": 3, "committed": 1, "duplicate": 1, "dead_lettered": 1, "in_flight": 0} == balance(
        harness.metrics
    )


@in_virtual_time
async def test_letters_beyond_the_limit_are_settled_and_counted_and_not_stored() -> None:
    store = FakeStore()
    letters = LetterLimits(most_per_device=2, most_bytes=10**9, is_known=lambda *_: True)
    harness = Harness(store, letters=letters, devices=devices_up_to(1))
    harness.put(dead=[dead_letter()] * 5)
    harness.put(meters=[meter_row("m-0"), *(meter_row("m-1", second) for second in range(4))], source="http")

    await harness.finish()

    assert 2 == len(harness.origin.settled)
    assert ["not-json", "not-json", "unknown-device", "unknown-device"] == [one.reason for one in store.dead_letters]
    assert {("meter", "mqtt", "not-json"): 3, ("meter", "http", "unknown-device"): 2} == suppressed(harness)
    assert {"received": 10, "committed": 1, "duplicate": 0, "dead_lettered": 9, "in_flight": 0} == balance(
        harness.metrics
    )


@in_virtual_time
async def test_what_comes_while_suspects_wait_is_limited_as_well() -> None:
    store = FakeStore(objection=minding(["m-0"], unknown))
    letters = LetterLimits(most_per_device=1, most_bytes=10**9, is_known=lambda *_: True)
    harness = Harness(store, letters=letters, devices=devices_up_to(2))
    harness.put(meters=[meter_row("m-0")])
    flush = asyncio.create_task(harness.flusher.flush(harness.buffer.take_now()))
    await asyncio.sleep(1)
    harness.put(meters=[meter_row("m-1"), meter_row("m-2")], dead=[dead_letter()] * 3)
    await flush

    assert [meter_row("m-1")] == stored(store, METER)
    assert Counter({"database": 1, "unknown-device": 1, "not-json": 1}) == Counter(
        letter.reason for letter in store.dead_letters
    )
    assert {("meter", "mqtt", "not-json"): 2} == suppressed(harness)


@in_virtual_time
async def test_a_flush_of_nothing_but_suppressed_letters_needs_no_transaction() -> None:
    store = FakeStore([OperatorStoreError("42501: no")])
    letters = LetterLimits(most_per_device=0, most_bytes=10**9, is_known=lambda *_: True)
    harness = Harness(store, letters=letters)
    delivery = harness.put(dead=[dead_letter()] * 3)

    await harness.finish()

    assert [delivery] == harness.origin.settled
    assert [] == store.writes
