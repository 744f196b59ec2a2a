# ruff: noqa: SIM300 - expected == actual
"""The sessions of the fleet that are under way are those that the vehicles have themselves."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from ingestd.model.sessions import SessionRule
from ingestd.store.series import Series
from ingestd.store.sessions_under_way import FleetSessions
from tests.support.energy import Sample
from tests.support.harness import Harness, opened
from tests.support.streams import streams

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from ingestd.model.answers import SessionsUnderWay
    from ingestd.model.energy import Reading
    from ingestd.model.periods import TimeRange

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
RULE = SessionRule()
FLEET = ["A", "B", "C", "D", "E", "F"]


@pytest.fixture
async def harness(shared_database_url: str) -> AsyncIterator[Harness]:
    async with opened(shared_database_url) as harness:
        harness.clear()
        yield harness


def charge(vehicle: str, *, until: datetime, minutes: int = 30, kwh: float = 0.5) -> list[Sample]:
    """Readings each minute, with the energy of the minute."""
    return [
        Sample(device=vehicle, at=until - (minutes - number) * MINUTE, interval=kwh, soc=20 + number)
        for number in range(1, minutes + 1)
    ]


def at_register(vehicle: str, values: Sequence[float], *, until: datetime) -> list[Sample]:
    """Readings each minute of a register."""
    return [
        Sample(device=vehicle, at=until - (len(values) - number) * MINUTE, register=value)
        for number, value in enumerate(values, 1)
    ]


async def under_way(harness: Harness, *, limit: int = 100, after: str | None = None) -> SessionsUnderWay:
    return await FleetSessions(harness.snapshots, rule=RULE).under_way(limit=limit, after=after)


async def vehicles(harness: Harness) -> list[str]:
    return [one.vehicle_id for one in (await under_way(harness)).items]


async def test_a_session_under_way_has_the_figures_of_its_vehicle(harness: Harness) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    await harness.map("A", "m", now - HOUR)
    await harness.write(vehicles=charge("A", until=now, kwh=0.4), meters=charge("m", until=now, kwh=0.5))
    found = await under_way(harness)

    (one,) = found.items
    assert ("A", True) == (one.vehicle_id, one.session.open)
    assert (now - 29 * MINUTE, now) == (one.session.start, one.session.end)
    assert pytest.approx(0.4 * 30) == one.session.dc_kwh
    assert pytest.approx(0.5 * 29, abs=0.51) == one.session.ac_kwh
    assert pytest.approx(24.0) == one.kw
    assert [one.session] == await of_vehicle(harness, "A", found.window)


async def of_vehicle(harness: Harness, vehicle: str, window: TimeRange) -> list[object]:
    found = await Series(harness.snapshots, session=RULE).sessions(vehicle, window)
    return [] if found is None else list(found.items)


async def test_who_has_stopped_or_is_not_heard_any_more_is_left_out(harness: Harness) -> None:
    now = datetime.now(UTC)
    await harness.write(
        vehicles=[
            *charge("charging", until=now),
            *charge("trickle", until=now, kwh=0.001),
            *charge("in-a-pause", until=now - 10 * MINUTE),
            *charge("in-a-pause", until=now, minutes=10, kwh=0),
            *charge("over", until=now - 20 * MINUTE),
            *charge("over", until=now, minutes=20, kwh=0),
            *charge("silent-for-a-while", until=now - 50 * MINUTE),
            *charge("gone", until=now - 61 * MINUTE),
            *at_register("register-rising", [100.0, 100.5, 101.0], until=now),
            *at_register("register-risen", [*[100.0] * 9, *[101.0] * 9], until=now),
            *at_register("register-at-rest", [100.0] * 30, until=now),
        ]
    )

    found = {one.vehicle_id: one.kw for one in (await under_way(harness)).items}

    assert {"charging", "in-a-pause", "register-risen", "register-rising", "silent-for-a-while"} == set(found)
    assert 0 == found["in-a-pause"]
    assert pytest.approx(30.0) == found["silent-for-a-while"]


async def test_a_register_that_rose_over_a_gap_and_rests_since_is_found(harness: Harness) -> None:
    now = datetime.now(UTC)
    before = Sample(device="A", at=now - 3 * HOUR, register=100)
    await harness.write(vehicles=[before, *at_register("A", [110.0] * 3, until=now)])

    (one,) = (await under_way(harness)).items

    assert pytest.approx(10.0) == one.session.dc_kwh


async def test_pages_follow_each_other_by_the_vehicles_id(harness: Harness) -> None:
    now = datetime.now(UTC)
    await harness.write(
        vehicles=[
            sample for vehicle in FLEET for sample in charge(vehicle, until=now, kwh=0.001 if vehicle == "B" else 0.5)
        ]
    )
    pages, after = [], None
    for _ in range(3):
        page = await under_way(harness, limit=2, after=after)
        pages.append([one.vehicle_id for one in page.items])
        after = page.next_after

    assert [["A"], ["C", "D"], ["E", "F"]] == pages
    assert None is after


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fleet=st.lists(streams(), min_size=len(FLEET), max_size=len(FLEET)), meter=streams(), data=st.data())
def test_the_fleet_says_what_each_vehicle_says(
    shared_database_url: str, fleet: list[list[Reading]], meter: list[Reading], data: st.DataObject
) -> None:
    """Each has sent its last reading up to 70 minutes ago."""
    now = datetime.now(UTC)
    sent = []
    for vehicle, readings in zip([*FLEET, "m"], [*fleet, meter], strict=True):
        last = now - data.draw(st.integers(0, 70)) * MINUTE
        since = last - timedelta(microseconds=readings[-1].at)
        charged = charge(vehicle, until=last, minutes=4) if data.draw(st.booleans()) else []
        sent.append([shifted(vehicle, one, since - len(charged) * MINUTE) for one in readings] + charged)
    closed = data.draw(st.sampled_from([None, now - HOUR, now]))

    async def run() -> None:
        async with opened(shared_database_url) as harness:
            harness.clear()
            for vehicle in FLEET[:3]:
                await harness.map(vehicle, "m", now - 3 * HOUR)
            await harness.write(vehicles=[sample for samples in sent[:-1] for sample in samples], meters=sent[-1])
            if closed is not None:
                await harness.close(closed)

            found = await under_way(harness)

            of_fleet = {one.vehicle_id: [one.session] for one in found.items}
            of_vehicles = {}
            for vehicle, samples in zip(FLEET, sent, strict=False):
                items = (await Series(harness.snapshots, session=RULE).sessions(vehicle, found.window)).items  # type: ignore[union-attr]
                if items and items[-1].open and found.as_of - samples[-1].at < HOUR:
                    of_vehicles[vehicle] = items[-1:]
            assert of_vehicles == of_fleet
            event(f"{len(of_fleet)} under way")

    asyncio.run(run())


def shifted(device: str, one: Reading, since: datetime) -> Sample:
    at = since + timedelta(microseconds=one.at)
    return Sample(device=device, at=at, interval=one.kwh, register=one.register)
