# ruff: noqa: SIM300 - expected == actual
"""The Buffer: bounded, drops nothing, and says when a flush is due."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.errors import BufferFullError
from ingestd.metrics import Metrics
from ingestd.pipeline.buffer import (
    BUSY_READ_DELAY_SECONDS,
    LEAD_SECONDS,
    QUIET_MESSAGES,
    READ_DELAY_SECONDS,
    URGENT_SECONDS,
    Buffer,
)
from tests.fakes import FakeOrigin, clock, in_virtual_time
from tests.support.deliveries import balance, dead_letter, delivery_of, meter_row, vehicle_row

if TYPE_CHECKING:
    from ingestd.pipeline.delivery import Delivery

INTERVAL = 1.0
ORIGIN = FakeOrigin()


def make_buffer(*, max_messages: int = 1000, flush_at: int = 100, max_bytes: int = 1_000_000) -> Buffer:
    return Buffer(
        metrics=Metrics(), max_messages=max_messages, flush_at=flush_at, interval=INTERVAL, max_bytes=max_bytes
    )


def messages(count: int, *, size_bytes: int = 0) -> Delivery:
    return delivery_of(ORIGIN, meters=[meter_row(second=second) for second in range(count)], size_bytes=size_bytes)


# When a flush is due -------------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_flush_is_due_at_once_when_half_of_the_bytes_wait_so_that_reading_need_not_pause() -> None:
    buffer = make_buffer(max_bytes=1000)
    pressure: list[bool] = []
    buffer.on_pressure(pressure.append)
    for _ in range(5):
        first, second = messages(1, size_bytes=400), messages(1, size_bytes=100)
        flush = asyncio.create_task(buffer.take())
        await asyncio.sleep(0.1)
        before = clock()
        buffer.put(first)
        buffer.put(second)

        assert [first, second] == await flush
        assert before == clock()
        buffer.release([first, second])
    buffer.put(messages(1, size_bytes=499))
    before = clock()
    await buffer.take()

    assert pytest.approx(before + INTERVAL) == clock()
    assert [] == pressure


@in_virtual_time
async def test_a_flush_is_due_one_interval_after_the_oldest_arrived() -> None:
    buffer = make_buffer()
    flush = asyncio.create_task(buffer.take())
    await asyncio.sleep(10)
    first, second = messages(1), messages(1)

    buffer.put(first)
    await asyncio.sleep(0.75)
    buffer.put(second)

    assert [first, second] == await flush
    assert pytest.approx(10 + INTERVAL) == clock()


@in_virtual_time
async def test_the_interval_begins_anew_with_what_comes_after_a_flush() -> None:
    buffer = make_buffer()
    buffer.put(messages(1))
    await buffer.take()
    await asyncio.sleep(0.5)

    buffer.put(messages(1))
    await buffer.take()

    assert pytest.approx(1.5 + INTERVAL) == clock()


@in_virtual_time
async def test_what_waited_longer_than_the_interval_while_a_flush_was_under_way_is_due_at_once() -> None:
    buffer = make_buffer()
    buffer.put(messages(1))
    await asyncio.sleep(60)

    assert 1 == len(await buffer.take())
    assert pytest.approx(60) == clock()


@in_virtual_time
async def test_a_source_may_wait_until_shortly_before_the_flush_and_half_a_second_at_most() -> None:
    buffer = make_buffer()
    buffer.put(messages(1))
    await buffer.take()
    assert 0.0 == buffer.read_delay()  # nothing waits, so the next message decides when the flush is due

    buffer.put(messages(1))
    assert READ_DELAY_SECONDS == buffer.read_delay()
    await asyncio.sleep(0.75)
    assert pytest.approx(0.25 - LEAD_SECONDS) == buffer.read_delay()
    await asyncio.sleep(0.25)
    assert 0.0 == buffer.read_delay()


@pytest.mark.parametrize(
    ("before", "read_delay"), [(QUIET_MESSAGES, READ_DELAY_SECONDS), (QUIET_MESSAGES + 1, BUSY_READ_DELAY_SECONDS)]
)
@in_virtual_time
async def test_a_source_is_asked_to_wait_for_less_while_much_comes(before: int, read_delay: float) -> None:
    buffer = make_buffer(max_messages=10_000, flush_at=10_000)
    buffer.put(messages(before))
    await buffer.take()

    buffer.put(messages(1))

    assert read_delay == buffer.read_delay()


@in_virtual_time
async def test_a_source_is_asked_to_wait_for_less_before_it_is_known_how_much_comes() -> None:
    buffer = make_buffer()

    buffer.put(messages(1))

    assert BUSY_READ_DELAY_SECONDS == buffer.read_delay()


@in_virtual_time
async def test_enough_messages_are_due_at_once() -> None:
    buffer = make_buffer(flush_at=10)
    flush = asyncio.create_task(buffer.take())
    await asyncio.sleep(0.25)

    buffer.put(messages(9))
    await asyncio.sleep(0.25)
    buffer.put(messages(1))

    assert 2 == len(await flush)
    assert pytest.approx(0.5) == clock()


@in_virtual_time
async def test_dead_letters_count_as_messages() -> None:
    buffer = make_buffer(flush_at=3)

    buffer.put(delivery_of(ORIGIN, meters=[meter_row()], vehicles=[vehicle_row()], dead=[dead_letter()]))

    assert 1 == len(await buffer.take())
    assert pytest.approx(0) == clock()


@in_virtual_time
async def test_a_sender_that_waits_brings_the_flush_forward() -> None:
    buffer = make_buffer()
    patient, urgent = messages(1), messages(1)
    flush = asyncio.create_task(buffer.take())
    await asyncio.sleep(0)

    buffer.put(patient)
    await asyncio.sleep(0.25)
    buffer.put(urgent, urgent=True)

    assert [patient, urgent] == await flush
    assert pytest.approx(0.25 + URGENT_SECONDS) == clock()


@in_virtual_time
async def test_a_sender_that_waits_does_not_put_off_a_flush_that_is_due_sooner() -> None:
    buffer = make_buffer()
    buffer.put(messages(1))
    await asyncio.sleep(INTERVAL - URGENT_SECONDS / 2)

    buffer.put(messages(1), urgent=True)
    await buffer.take()

    assert pytest.approx(INTERVAL) == clock()


@in_virtual_time
async def test_urgency_outlives_a_flush_that_had_no_room_for_it() -> None:
    buffer = make_buffer(flush_at=10)
    patient, urgent = messages(1), messages(1)
    buffer.put(messages(10))
    buffer.put(patient)
    buffer.put(urgent, urgent=True)

    assert 1 == len(await buffer.take())
    assert [patient, urgent] == await buffer.take()
    assert pytest.approx(URGENT_SECONDS) == clock()


@in_virtual_time
async def test_no_flush_is_due_while_nothing_waits() -> None:
    buffer = make_buffer()
    flush = asyncio.create_task(buffer.take())

    await asyncio.sleep(3600)

    assert not flush.done()
    flush.cancel()


@in_virtual_time
async def test_a_cancelled_take_leaves_everything_in_place() -> None:
    buffer = make_buffer()
    waiting = messages(3)
    buffer.put(waiting)
    flush = asyncio.create_task(buffer.take())
    await asyncio.sleep(INTERVAL / 2)

    flush.cancel()
    await asyncio.wait([flush])

    assert [waiting] == await buffer.take()


# What a flush holds ----------------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_flush_holds_whole_deliveries_up_to_its_size() -> None:
    buffer = make_buffer(flush_at=10)
    deliveries = [messages(4) for _ in range(5)]
    for delivery in deliveries:
        buffer.put(delivery)

    assert deliveries[:2] == await buffer.take()
    assert deliveries[2:4] == await buffer.take()
    assert deliveries[4:] == await buffer.take()


@in_virtual_time
async def test_a_delivery_greater_than_a_flush_makes_one_by_itself() -> None:
    buffer = make_buffer(flush_at=10)
    small, great = messages(1), messages(25)
    buffer.put(small)
    buffer.put(great)

    assert [small] == await buffer.take()
    assert [great] == await buffer.take()


@in_virtual_time
async def test_take_now_does_not_wait() -> None:
    buffer = make_buffer()
    waiting = messages(1)

    assert [] == buffer.take_now()
    buffer.put(waiting)
    assert [waiting] == buffer.take_now()
    assert [] == buffer.take_now()


@in_virtual_time
async def test_closing_makes_what_waits_due_and_then_ends() -> None:
    buffer = make_buffer(flush_at=10)
    waiting = [messages(8), messages(8)]
    for delivery in waiting:
        buffer.put(delivery)
    await buffer.take()

    buffer.close()

    assert waiting[1:] == await buffer.take()
    assert [] == await buffer.take()
    assert pytest.approx(0) == clock()


@in_virtual_time
async def test_closing_wakes_a_take_that_waits() -> None:
    buffer = make_buffer()
    flush = asyncio.create_task(buffer.take())
    await asyncio.sleep(5)

    buffer.close()

    assert [] == await flush


@in_virtual_time
async def test_what_comes_in_after_closing_is_still_taken() -> None:
    buffer = make_buffer()
    buffer.close()
    late = messages(1)

    buffer.put(late)

    assert [late] == await buffer.take()


# Bounds ----------------------------------------------------------------------------------------------------------


class Pressure(list[bool]):
    """What a source was told."""

    def __init__(self, buffer: Buffer) -> None:
        super().__init__()
        buffer.on_pressure(self.append)


@in_virtual_time
async def test_a_source_is_stopped_once_at_the_bound_and_goes_on_once_half_is_free() -> None:
    buffer = make_buffer(max_messages=10)
    pressure = Pressure(buffer)
    deliveries = [messages(3) for _ in range(5)]

    for delivery in deliveries[:3]:
        buffer.put(delivery)
    assert (False, []) == (buffer.full, pressure)
    for delivery in deliveries[3:]:
        buffer.put(delivery)
    assert (True, [True]) == (buffer.full, pressure)
    taken = buffer.take_now()
    assert (True, [True]) == (buffer.full, pressure)
    buffer.release(taken[:3])
    assert (False, [True], 6) == (buffer.full, pressure, buffer.messages)
    buffer.release(taken[3:4])
    assert [True, False] == pressure
    buffer.release(taken[4:])
    assert ([True, False], 0) == (pressure, buffer.messages)


@in_virtual_time
async def test_bytes_are_bounded_like_messages() -> None:
    buffer = make_buffer(max_bytes=1000)
    pressure = Pressure(buffer)

    buffer.put(messages(1, size_bytes=999))
    assert (False, []) == (buffer.full, pressure)
    buffer.put(messages(1, size_bytes=1))
    assert (True, [True]) == (buffer.full, pressure)
    first, second = buffer.take_now()
    buffer.release([second])
    assert [True] == pressure
    buffer.release([first])
    assert [True, False] == pressure


@in_virtual_time
async def test_a_source_goes_on_only_when_both_bounds_are_half_free() -> None:
    buffer = make_buffer(max_messages=10, max_bytes=1000)
    pressure = Pressure(buffer)
    many, great = messages(9), messages(1, size_bytes=900)
    buffer.put(many)
    buffer.put(great)
    buffer.take_now()

    buffer.release([many])
    assert [True] == pressure
    buffer.release([great])
    assert [True, False] == pressure


@in_virtual_time
async def test_pressure_comes_back_after_it_went() -> None:
    buffer = make_buffer(max_messages=2)
    pressure = Pressure(buffer)

    for _ in range(3):
        buffer.put(messages(2))
        buffer.release(buffer.take_now())

    assert [True, False] * 3 == pressure


@in_virtual_time
async def test_every_source_is_told() -> None:
    buffer = make_buffer(max_messages=1)
    first, second = Pressure(buffer), Pressure(buffer)

    buffer.put(messages(1))

    assert ([True], [True]) == (first, second)


@in_virtual_time
async def test_what_was_received_is_kept_even_when_full() -> None:
    buffer = make_buffer(max_messages=2)
    deliveries = [messages(2) for _ in range(3)]

    for delivery in deliveries:
        buffer.put(delivery)

    assert deliveries == buffer.take_now()


@in_virtual_time
async def test_a_sender_that_can_keep_its_reading_is_refused_when_full() -> None:
    buffer = make_buffer(max_messages=2)
    buffer.put(messages(1))
    buffer.admit()
    buffer.put(messages(1))

    with pytest.raises(BufferFullError, match="2 messages wait"):
        buffer.admit()

    buffer.release(buffer.take_now())
    buffer.admit()


@in_virtual_time
async def test_a_sender_that_can_keep_its_reading_is_refused_when_closed() -> None:
    buffer = make_buffer()
    buffer.close()

    with pytest.raises(BufferFullError, match="shutting down"):
        buffer.admit()


# The balance ------------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_in_flight_counts_by_stream_and_source_until_released() -> None:
    metrics = Metrics()
    buffer = Buffer(metrics=metrics, max_messages=100, flush_at=100, interval=INTERVAL)
    buffer.put(delivery_of(ORIGIN, meters=[meter_row(), meter_row(second=1)], dead=[dead_letter()]))
    buffer.put(delivery_of(ORIGIN, vehicles=[vehicle_row()], source="http"))

    expected = {("meter", "mqtt"): 3, ("vehicle", "http"): 1}
    assert expected == buffer.in_flight()
    taken = buffer.take_now()
    assert expected == buffer.in_flight()
    assert 4 == buffer.messages
    buffer.release(taken[:1])
    assert {("vehicle", "http"): 1} == +buffer.in_flight()
    buffer.release(taken[1:])
    assert {} == +buffer.in_flight()
    assert 4 == balance(metrics)["received"]


@in_virtual_time
async def test_nobody_outside_can_change_what_is_in_flight() -> None:
    buffer = make_buffer()
    buffer.put(messages(1))

    buffer.in_flight().clear()

    assert {("meter", "mqtt"): 1} == buffer.in_flight()


# Properties ------------------------------------------------------------------------------------------------------


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=30),
    flush_at=st.integers(1, 40),
    pauses=st.lists(st.floats(0, 2), min_size=30, max_size=30),
)
@in_virtual_time
async def test_every_delivery_leaves_once_in_order_within_one_interval(
    sizes: list[int], flush_at: int, pauses: list[float]
) -> None:
    buffer = make_buffer(flush_at=flush_at)
    arrived: dict[Delivery, float] = {}
    flushes: list[list[Delivery]] = []
    waited: list[float] = []

    async def consume() -> None:
        while taken := await buffer.take():
            flushes.append(taken)
            waited.extend(clock() - arrived[delivery] for delivery in taken)

    consumer = asyncio.create_task(consume())
    for size, pause in zip(sizes, pauses, strict=False):
        delivery = messages(size)
        arrived[delivery] = clock()
        buffer.put(delivery)
        await asyncio.sleep(pause)
    buffer.close()
    await consumer

    assert list(arrived) == [delivery for flush in flushes for delivery in flush]
    assert max(waited) <= INTERVAL + 1e-6
    assert all(sum(map(len, flush)) <= flush_at for flush in flushes if len(flush) > 1)


@given(
    bound=st.integers(1, 20),
    steps=st.lists(st.one_of(st.integers(1, 8), st.none()), max_size=60),
)
@in_virtual_time
async def test_pressure_alternates_and_agrees_with_what_is_held(bound: int, steps: list[int | None]) -> None:
    buffer = make_buffer(max_messages=bound, flush_at=5)
    pressure = Pressure(buffer)
    for step in steps:
        if step is None:
            buffer.release(buffer.take_now())
        else:
            buffer.put(messages(step))
        pressed = bool(pressure) and pressure[-1]
        assert pressed or not buffer.full
        assert not pressed or buffer.messages > bound // 2

    assert [True, False] * (len(pressure) // 2) == pressure[: len(pressure) // 2 * 2]
    assert len(pressure) % 2 == (bool(pressure) and pressure[-1])
