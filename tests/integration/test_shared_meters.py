# ruff: noqa: SIM300 - expected == actual
"""Whose energy it is: windows cut by mappings, and meters that feed several vehicles at once."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tests.support.energy import Sample
from tests.support.house import House, opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DAY = datetime(2026, 11, 18, tzinfo=UTC)


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    async with opened(database_url) as house:
        house.quiet_until(at(10))
        yield house


def at(hour: int, minute: int = 0) -> datetime:
    return DAY.replace(hour=hour, minute=minute)


def sent(device: str, hour: int, minute: int, kwh: float) -> Sample:
    return Sample(device=device, at=at(hour, minute), interval=kwh)


async def two_cars_at_one_charger(house: House) -> None:
    """Hour 10: 4 kWh AC, 3 kWh DC into a and 1 into b. Hour 11: 2 kWh AC, nothing into either."""
    for vehicle in ("a", "b"):
        await house.map(vehicle, "m", at(0))
    await house.write(
        meters=[sent("m", 10, 30, 4.0), sent("m", 11, 30, 2.0)],
        vehicles=[sent("a", 10, 20, 3.0), sent("b", 10, 40, 1.0), sent("a", 11, 20, 0.0), sent("b", 11, 40, 0.0)],
    )


async def acs(house: House, start: datetime, end: datetime) -> dict[str, tuple[float, list[bool]]]:
    """Of a and b: AC in kWh, and of each meter whether it is shared."""
    found = {vehicle: await house.performance(vehicle, start, end) for vehicle in ("a", "b")}
    return {vehicle: (one.ac_kwh, [meter.shared for meter in one.meters]) for vehicle, one in found.items()}


@pytest.mark.parametrize("rolled_up", [False, True], ids=["from history", "from rollups"])
async def test_a_shared_meter_is_apportioned_by_the_dc_of_each_hour(house: House, *, rolled_up: bool) -> None:
    await two_cars_at_one_charger(house)
    if rolled_up:
        await house.rollups.catch_up(at(13))

    # a: 4 * 3/4 + 2 / 2, b: 4 * 1/4 + 2 / 2
    assert {"a": (4.0, [True]), "b": (2.0, [True])} == await acs(house, at(10), at(12))
    # What the two have is what the meter gave.
    fleet = await house.fleet(at(10), at(12))
    assert (6.0, 6.0, 4.0) == (fleet.ac_kwh, fleet.mapped_ac_kwh, fleet.mapped_dc_kwh)


async def test_the_dc_of_the_whole_hour_counts_also_where_the_window_is_shorter(house: House) -> None:
    await two_cars_at_one_charger(house)

    # The window holds the meter's reading at 10:30 alone; both cars charged in that hour, outside of the window.
    assert {"a": (3.0, [True]), "b": (1.0, [True])} == await acs(house, at(10, 25), at(10, 35))


async def test_a_meter_is_shared_only_while_both_are_mapped_to_it(house: House) -> None:
    await house.map("a", "m", at(0))
    await house.map("b", "m", at(10, 30))
    await house.write(
        meters=[sent("m", 10, 15, 2.0), sent("m", 10, 45, 4.0)],
        vehicles=[sent("a", 10, 50, 1.0), sent("b", 10, 50, 3.0)],
    )

    # At 10:15 a is alone: 2. At 10:45 it is 4 in the ratio 1 to 3 of the hour's DC.
    assert {"a": (3.0, [True]), "b": (3.0, [True])} == await acs(house, at(10), at(11))
    assert (2.0, [False]) == (await acs(house, at(10), at(10, 30)))["a"]


async def test_a_vehicle_that_left_does_not_share_any_more(house: House) -> None:
    await house.map("a", "m", at(0), at(10, 30))
    await house.map("b", "m", at(10, 30))
    await house.write(
        meters=[sent("m", 10, 15, 2.0), sent("m", 10, 30, 4.0)],
        vehicles=[sent("a", 10, 10, 1.0), sent("b", 10, 50, 3.0)],
    )

    # [0:00, 10:30) is a's, and the reading at 10:30 sharp is b's.
    assert {"a": (2.0, [False]), "b": (4.0, [False])} == await acs(house, at(10), at(11))


async def test_a_car_that_changes_chargers_has_both_and_each_for_its_time(house: House) -> None:
    await house.map("a", "m", at(0))
    await house.map("a", "n", at(10, 30))
    await house.write(
        meters=[
            *(sent("m", 10, minute, 1.0) for minute in (0, 15, 30, 45)),
            *(sent("n", 10, minute, 0.5) for minute in (0, 15, 30, 45)),
        ],
        vehicles=[sent("a", 10, 20, 2.0)],
    )

    found = await house.performance("a", at(10), at(11))
    # m at 10:00 and 10:15, n at 10:30 and 10:45.
    assert [("m", at(10), at(10, 30), 2.0), ("n", at(10, 30), at(11), 1.0)] == [
        (meter.meter_id, meter.valid.start, meter.valid.end, meter.ac_kwh) for meter in found.meters
    ]


async def test_the_fleet_says_the_same_of_a_vehicle_as_its_performance(house: House) -> None:
    """Alone at a charger, sharing one, changing chargers, unmapped, with too little, and with more DC than AC."""
    await two_cars_at_one_charger(house)
    await house.map("c", "n", at(0))
    await house.map("d", "o", at(0), at(11))
    await house.map("d", "p", at(11))
    await house.map("f", "q", at(0))
    await house.map("g", "r", at(0))
    meters = {"n": 0.25, "o": 0.25, "p": 0.25, "q": 0.005, "r": 0.25}  # kWh every five minutes
    vehicles = {"c": 0.24, "d": 0.15, "e": 0.2, "f": 0.2, "g": 0.3}
    times = [(hour, minute) for hour in (10, 11) for minute in range(0, 60, 5)]
    await house.write(
        meters=[sent(device, *time, kwh) for device, kwh in meters.items() for time in times],
        vehicles=[sent(device, *time, kwh) for device, kwh in vehicles.items() for time in times],
    )
    expected = {
        "c": "ok",  # 0.24 of 0.25
        "d": "below-threshold",  # 0.15 of 0.25
        "e": "unmapped",
        "f": "insufficient-data",  # 0.12 kWh of AC
        "g": "implausible",  # 0.3 of 0.25
    }
    for rolled_up in (False, True):
        if rolled_up:
            await house.rollups.catch_up(at(13))
        performances = {vehicle: await house.performance(vehicle, at(10), at(12)) for vehicle in ("a", "b", *expected)}
        statuses = {vehicle: one.status for vehicle, one in performances.items()}
        assert expected == {vehicle: statuses[vehicle] for vehicle in expected}

        fleet = await house.fleet(at(10), at(12))
        assert Counter(statuses.values()) == fleet.statuses
        mapped = [one for one in performances.values() if one.meters]
        assert pytest.approx(sum(one.ac_kwh for one in mapped)) == fleet.mapped_ac_kwh
        assert pytest.approx(sum(one.dc_kwh for one in mapped)) == fleet.mapped_dc_kwh
        ratios = sorted((one.efficiency_ratio, name) for name, one in performances.items() if one.efficiency_ratio)
        assert [name for _, name in ratios] == [one.vehicle_id for one in fleet.worst]
        assert pytest.approx([ratio for ratio, _ in ratios]) == [one.efficiency_ratio for one in fleet.worst]
        assert {"d": pytest.approx(0.6), "c": pytest.approx(0.96), "g": pytest.approx(1.2)} == {
            name: ratio for ratio, name in ratios if name in expected
        }
