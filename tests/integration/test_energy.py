# ruff: noqa: SIM300 - expected == actual
"""Energy out of intervals and registers: from history and rollups alike, at every moment, in any order of arrival."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.energy import START, Sample, counted, intervals, minutes, register
from tests.support.house import PLAUSIBLE_KW, House, opened

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Sequence

FAR = START + timedelta(days=4)
CHARGING_DAY = Path(__file__).parents[3] / "shared" / "data" / "charging-day.jsonl"

Figures = tuple[Any, ...]


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    async with opened(database_url) as house:
        house.quiet_until(START)
        yield house


async def figures(house: House, start: datetime, end: datetime, vehicle: str = "v") -> Figures:
    """(kWh DC, samples, resets, excluded) of a vehicle without a meter."""
    found = await house.performance(vehicle, start, end)
    return found.dc_kwh, found.samples, found.resets, found.excluded


def expected(samples: Sequence[Sample], start: datetime, end: datetime) -> Figures:
    inside = [one for one in counted(samples, PLAUSIBLE_KW) if start <= one.at < end]
    return (
        pytest.approx(sum(one.kwh for one in inside), abs=1e-9),
        len(inside),
        sum(one.resets for one in inside),
        sum(one.excluded for one in inside),
    )


# Each nastiness by itself. 400 kW are 6.667 kWh in the minute between two readings, 13.333 kWh in two.


@pytest.mark.parametrize(
    ("values", "kwh", "resets", "excluded"),
    [
        # The first reading of all sets the mark and counts nothing; then 1 + 2.
        pytest.param([100, 101, 103], 3.0, 0, 0, id="a register that rises"),
        # 95 is a dip (not below 0.9 * 101 = 90.9): the mark stays 101, and 102 counts 1. 1 + 0 + 1.
        pytest.param([100, 101, 95, 102], 2.0, 0, 0, id="a dip"),
        # 0.05 is below 0.9 * 0.2 = 0.18, but only 0.15 kWh below the mark: a dip too. 0.1 + 0 + 0.1.
        pytest.param([0.1, 0.2, 0.05, 0.3], 0.2, 0, 0, id="a dip at small values"),
        # 0 is far below, and the next one, 102, is at or above 90.9 again: a glitch. 1 + 1.
        pytest.param([100, 101, 0, 102], 2.0, 0, 1, id="a glitch"),
        # 3 is far below, and so is the next: a reset, and 3 <= 6.667 counts as it is. 1 + 3 + 1.
        pytest.param([100, 101, 3, 4], 5.0, 1, 0, id="a reset"),
        # 50 cannot have flowed in a minute: the reset counts nothing. 1 + 0 + 1.
        pytest.param([100, 101, 50, 51], 2.0, 1, 0, id="a reset to a high value"),
        # 900 is 799 above in a minute, and 102 is back below 101 + 13.333: a spike. 1 + 1.
        pytest.param([100, 101, 900, 102], 2.0, 0, 1, id="a spike"),
        # 900 is followed by 901: another level. 1 + 0 + 1.
        pytest.param([100, 101, 900, 901], 2.0, 0, 1, id="a change of level"),
        # The newest reading has none to judge it by: it counts as a glitch or a spike would.
        pytest.param([100, 101, 0], 1.0, 0, 1, id="the newest may be a glitch"),
        pytest.param([100, 101, 900], 1.0, 0, 1, id="the newest may be a spike"),
        # 107.6 is 6.6 above 101, in a minute: just plausible. 107.7 is not, and is followed by more: another level.
        pytest.param([100, 101, 107.6, 107.6], 7.6, 0, 0, id="just plausible"),
        pytest.param([100, 101, 120, 121], 2.0, 0, 1, id="not plausible"),
        # After the spike the time since the last good reading is two minutes: 101 + 13.333 >= 114, and 13 counts.
        pytest.param([100, 101, 900, 114], 14.0, 0, 1, id="energy behind a spike"),
        # Two glitches in a row are no glitch: 0 is followed by 0, a reset; then 102 is another level.
        pytest.param([100, 101, 0, 0, 102, 103], 2.0, 1, 1, id="two zeros"),
        # A register that stands still, and one that starts at 0 (the 0 sets the mark).
        pytest.param([100, 100, 100], 0.0, 0, 0, id="standing still"),
        pytest.param([0, 0.5, 1.5], 1.5, 0, 0, id="from zero"),
    ],
)
async def test_a_register_is_read_for_what_it_is(
    house: House, values: list[float], kwh: float, resets: int, excluded: int
) -> None:
    samples = register(*values)
    await house.write(vehicles=samples)

    assert (pytest.approx(kwh), len(values), resets, excluded) == await figures(house, START, FAR)
    # The second statement of the rule, which the properties below are held against, agrees.
    assert expected(samples, START, FAR) == await figures(house, START, FAR)
    await house.rollups.catch_up(FAR)
    assert (pytest.approx(kwh), len(values), resets, excluded) == await figures(house, START, FAR)


async def test_a_device_may_change_from_intervals_to_a_register_and_back(house: House) -> None:
    # 0.5 + 0.25 by interval, 101 - 100 = 1 by register, 0.125 by interval.
    await house.write(vehicles=intervals(0.5, 0.25))
    await house.write(
        vehicles=[
            Sample(device="v", at=minutes(2), register=100),
            Sample(device="v", at=minutes(3), register=101),
            Sample(device="v", at=minutes(4), interval=0.125),
        ]
    )

    assert (pytest.approx(1.875), 5, 0, 0) == await figures(house, START, FAR)
    await house.rollups.catch_up(FAR)
    assert (pytest.approx(1.875), 5, 0, 0) == await figures(house, START, FAR)


async def test_history_before_the_first_day_in_a_partition_of_another_name_is_rolled_up(
    database_url: str, house: House
) -> None:
    bounds = f"FROM ('{START - timedelta(days=30):%F}') TO ('{START + timedelta(days=1):%F}')"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE earlier PARTITION OF vehicle_history FOR VALUES {bounds}".encode())
        connection.execute("UPDATE rollup SET settled = '-infinity', announced = '-infinity'")
    samples = [*intervals(0.5, 0.25), Sample(device="v", at=START + timedelta(days=2), interval=1.0)]
    await house.write(vehicles=samples)
    await house.rollups.catch_up(FAR)

    assert expected(samples, START, FAR) == await figures(house, START, FAR)


async def test_a_window_starts_from_what_all_earlier_readings_left(house: House) -> None:
    await house.write(vehicles=register(100, 101, 104))

    # Of the window from the third reading on, 104 - 101: the reading before it lies outside and is known all the same.
    assert (pytest.approx(3.0), 1, 0, 0) == await figures(house, minutes(2), FAR)
    assert (pytest.approx(3.0), 1, 0, 0) == await figures(house, minutes(1.5), minutes(2.5))


async def test_another_plausible_power_reads_registers_anew(house: House, database_url: str) -> None:
    await house.write(vehicles=register(100, 101, 103))
    await house.rollups.catch_up(FAR)
    assert (pytest.approx(3.0), 3, 0, 0) == await figures(house, START, FAR)

    async with opened(database_url, plausible_kw=90) as stricter:  # 1.5 kWh a minute: the rise of 2 is too much
        await stricter.rollups.catch_up(FAR)
        assert (pytest.approx(1.0), 3, 0, 1) == await figures(stricter, START, FAR)


async def test_the_real_charging_day_is_the_same_by_intervals_and_by_register(house: House) -> None:
    if not CHARGING_DAY.exists():
        pytest.skip("no recorded day beside the repository")
    by_interval: list[Sample] = []
    by_register: list[Sample] = []
    total = register_now = 0.0
    base = 4000.0  # a charger that has delivered 4 MWh
    for number, line in enumerate(CHARGING_DAY.read_text().splitlines()):
        payload = json.loads(line)["payload"]
        if "vehicleId" not in payload:
            continue
        at = datetime.fromisoformat(payload["timestamp"])
        kwh = payload["kwhDeliveredDc"]
        total += kwh
        if total >= 6 and base:  # and is reset on the way
            base = register_now = 0.0
        register_now += kwh
        value = base + register_now
        if number % 100 == 50:
            value *= 0.97  # a dip
        by_interval.append(Sample(device="interval", at=at, interval=kwh))
        by_register.append(Sample(device="register", at=at, register=value))

    await house.write(vehicles=by_interval + by_register)

    midnight = by_interval[0].at.replace(hour=0, minute=0, second=0)
    day = (midnight, midnight + timedelta(days=1))
    for rolled_up in (False, True):
        if rolled_up:
            await house.rollups.catch_up(day[1] + timedelta(days=1))
        one = await house.performance("interval", *day)
        other = await house.performance("register", *day)
        assert pytest.approx(10.21, abs=0.0005) == one.dc_kwh
        assert pytest.approx(10.21, abs=0.0005) == other.dc_kwh
        assert (1, 0) == (other.resets, other.excluded)
        assert pytest.approx(785 / 1440, abs=0.01) == one.coverage  # a reading a minute, 785 of 1,440


# Properties


# Values around one another, so that dips, glitches, resets, spikes and changes of level all come up.
VALUES = st.one_of(
    st.floats(0, 0.5),
    st.sampled_from([0.0, 0.1, 0.3, 90.0, 91.0, 99.9, 100.0, 100.1, 105.0, 130.0, 1000.0, 1005.0, 5000.0]),
)
MOMENTS = st.one_of(
    st.integers(0, 8 * 60).map(minutes),
    st.integers(0, 40).map(minutes),  # some in the same quarter of an hour
    st.sampled_from([112.5, 7.5]).map(minutes),  # midnight and a quarter of an hour, to the second
)


@st.composite
def readings(draw: st.DrawFn) -> list[Sample]:
    moments = draw(st.lists(MOMENTS, min_size=1, max_size=14, unique=True))
    registers = draw(st.booleans())
    return [
        Sample(device="v", at=at, register=draw(VALUES))
        if registers and draw(st.integers(0, 4))
        else Sample(device="v", at=at, interval=draw(st.floats(0, 5)))
        for at in moments
    ]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), samples=readings())
def test_rollups_and_history_say_the_same_at_every_moment(
    database_url: str, data: st.DataObject, samples: list[Sample]
) -> None:
    """Readings of two vehicles come in any order, with redeliveries; in between rollups are made, up to any moment."""

    async def run() -> None:
        async with opened(database_url) as house:
            house.clear()
            house.quiet_until(START)
            written: list[Sample] = []
            samples_of_two = [replace(sample, device=data.draw(st.sampled_from("vw"))) for sample in samples]
            while len(written) < len(samples):
                known = len(written)
                again = data.draw(st.integers(0, min(2, known)))
                written = samples_of_two[: known + data.draw(st.integers(1, 4))]
                await house.write(vehicles=samples_of_two[known - again : len(written)])
                if data.draw(st.booleans()):
                    await house.rollups.catch_up(data.draw(MOMENTS) + timedelta(minutes=data.draw(st.integers(0, 60))))
                moments = sorted(data.draw(st.tuples(MOMENTS, MOMENTS, MOMENTS)))
                for start, end in pairwise([*moments, FAR]):
                    if start < end:
                        fleet_kwh = 0.0
                        for vehicle in {sample.device for sample in written}:
                            of_vehicle = [sample for sample in written if sample.device == vehicle]
                            right = expected(of_vehicle, start, end)
                            assert right == await figures(house, start, end, vehicle)
                            fleet_kwh += right[0].expected
                        assert pytest.approx(fleet_kwh, abs=1e-9) == (await house.fleet(start, end)).dc_kwh

    asyncio.run(run())


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(samples=readings(), cuts=st.lists(MOMENTS, max_size=5), order=st.randoms(use_true_random=False))
def test_the_parts_of_a_window_add_up_and_the_order_of_arrival_changes_nothing(
    database_url: str, samples: list[Sample], cuts: list[datetime], order: random.Random
) -> None:
    async def run() -> None:
        async with opened(database_url) as house:
            house.clear()
            house.quiet_until(START)
            await house.write(vehicles=sorted(samples, key=lambda sample: sample.at))
            in_order = await figures(house, START, FAR)
            bounds = [START, *sorted(cuts), FAR]
            parts = [await figures(house, start, end) for start, end in pairwise(bounds) if start < end]
            assert pytest.approx(in_order[0]) == sum(part[0] for part in parts)
            assert in_order[1:] == tuple(sum(part[n] for part in parts) for n in (1, 2, 3))

            house.clear()
            house.quiet_until(START)
            shuffled = list(samples)
            order.shuffle(shuffled)
            for sample in shuffled:
                await house.write(vehicles=[sample])
            kwh, *counts = await figures(house, START, FAR)
            assert pytest.approx(in_order[0]) == kwh
            assert list(in_order[1:]) == counts

    asyncio.run(run())
