"""The whole fleet says what its devices say, whatever is closed and whatever comes late."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ingestd.analytics import TimeRange
from ingestd.model.efficiency import Compared, EfficiencyPolicy, Segment, Status, compare
from ingestd.model.energy import HOUR, MINUTE, QUARTER, Reading
from ingestd.periods import parse_bucket, stretches
from ingestd.store.fleet import Fleet
from ingestd.store.moments import Moments
from ingestd.telemetry import METER, STREAMS, VEHICLE, Stream, to_datetime, to_microseconds
from tests.support.energy import Sample
from tests.support.harness import Harness, opened
from tests.support.streams import streams

POLICY = EfficiencyPolicy(threshold=0.85, min_kwh=0.5, min_share=0.5, session_min_kw=0.3)
DAY = 24 * HOUR
SECOND = MINUTE // 60
NOW = to_microseconds(datetime.now(UTC))
START = NOW // HOUR * HOUR - 40 * HOUR
"""Of all streams: what they send later than 40 hours from then on has not been sent yet, for some."""


def samples(device: str, readings: list[Reading]) -> list[Sample]:
    return [
        Sample(device=device, at=to_datetime(START + one.at), interval=one.kwh, register=one.register)
        for one in readings
    ]


def window(start: int, end: int) -> TimeRange:
    return TimeRange(start=to_datetime(start), end=to_datetime(end))


async def of_devices(
    harness: Harness, stream: Stream, devices: list[str], start: int, end: int
) -> dict[str, tuple[float, int]]:
    """(kWh, readings) of those with something in the window."""
    found = {}
    async with Moments(harness.reads, rules=harness.rules).now() as at:
        for device in devices:
            energy = (await at.device(stream, device).energy(start, end)).total(start, end)
            if not energy.is_empty:
                found[device] = (round(energy.kwh, 6), energy.samples)
    return found


async def compared(harness: Harness, vehicle: str, meter: str, start: int, end: int) -> Compared:
    async with Moments(harness.reads, rules=harness.rules).now() as at:
        dc = await at.device(VEHICLE, vehicle).energy(start, end)
        ac = await at.device(METER, meter).energy(start, end)
    segment = Segment(start=start, end=end, meter=ac.quarters(start, end), vehicle=dc.quarters(start, end))
    found = compare([segment], all_dc=dc.total(start, end).kwh, policy=POLICY)
    assert found is not None
    return found


def rounded(figures: Compared) -> tuple[float, ...]:
    return tuple(round(figure, 6) for figure in (figures.ac, figures.dc, figures.all_ac, figures.all_dc))


EDGES = st.integers(0, 48).map(lambda number: START + number * HOUR) | st.integers(0, 200).map(
    lambda number: START + number * QUARTER
)


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_the_fleet_says_what_its_devices_say(database_url: str, data: st.DataObject) -> None:
    sent = {(stream, n): data.draw(streams()) for stream in STREAMS for n in range(3)}
    arrivals = sorted((one.at, n, stream.name, one) for (stream, n), readings in sent.items() for one in readings)
    late = data.draw(st.lists(st.integers(0, len(arrivals) - 1), max_size=4))
    names = {METER.name: "m", VEHICLE.name: "v"}

    async def run() -> None:
        async with opened(database_url) as harness:
            harness.clear()
            for n in range(3):
                await harness.map(f"v{n}", f"m{n}", to_datetime(START - DAY))
            fleet = Fleet(harness.reads, rules=harness.rules, policy=POLICY)

            async def write(chosen: list[int]) -> None:
                for stream in STREAMS:
                    its = [arrivals[number] for number in chosen if arrivals[number][2] == stream.name]
                    its_samples = [s for _, n, name, one in its for s in samples(f"{names[name]}{n}", [one])]
                    if its_samples:
                        await harness.write(**{f"{stream.topic_root}": its_samples})

            in_time = [number for number in range(len(arrivals)) if number not in late]
            await write(in_time)
            until = data.draw(st.sampled_from([NOW, NOW - 20 * MINUTE, NOW - HOUR]))
            await harness.close(to_datetime(until))
            await write(late)
            await harness.close(to_datetime(until))
            start, end = sorted((data.draw(EDGES), data.draw(EDGES)))
            end = min(max(end, start + QUARTER), until + HOUR)
            start = min(start, end - QUARTER)
            meters = await of_devices(harness, METER, [f"m{n}" for n in range(3)], start, end)
            vehicles = await of_devices(harness, VEHICLE, [f"v{n}" for n in range(3)], start, end)
            each = [await compared(harness, f"v{n}", f"m{n}", start, end) for n in range(3)]

            found = await fleet.energy(window(start, end))

            assert (len(meters), len(vehicles)) == (found.meters, found.vehicles)
            assert pytest.approx(
                (sum(e for e, _ in meters.values()), sum(e for e, _ in vehicles.values())), abs=1e-4
            ) == (
                found.ac_kwh,
                found.dc_kwh,
            )
            assert rounded(sum_of(each)) == rounded(found.mapped)
            judged = [POLICY.judge(one) for one in each]
            assert {f"v{n}": (one.status, one.ratio) for n, one in enumerate(judged)} == {
                one.vehicle_id: (one.status, one.efficiency_ratio)
                for one in await fleet.efficiencies(window(start, end))
            }
            series = await fleet.series(window(start, end), stretches(window(start, end), parse_bucket("30m"), UTC))
            assert pytest.approx(found.ac_kwh) == sum(point.ac_kwh or 0.0 for point in series.points)
            assert pytest.approx(found.dc_kwh) == sum(point.dc_kwh or 0.0 for point in series.points)

    asyncio.run(run())


@settings(
    max_examples=8,
    deadline=None,
    phases=[Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_vehicles_whose_meters_are_shared_or_change_are_compared_as_single_ones(
    database_url: str, data: st.DataObject
) -> None:
    sent = {(stream, n): data.draw(streams()) for stream in STREAMS for n in range(3)}
    edge = st.integers(0, 48 * 60).map(lambda number: START + number * MINUTE + 7 * SECOND) | EDGES

    async def run() -> None:
        async with opened(database_url) as harness:
            harness.clear()
            for n in range(3):
                edges = sorted(data.draw(st.lists(edge, min_size=2, max_size=3, unique=True)))
                for since, until in pairwise(edges):
                    meter = f"m{data.draw(st.integers(0, 2))}"
                    await harness.map(f"v{n}", meter, to_datetime(since), to_datetime(until))
            for n in range(3):
                await harness.write(
                    meters=samples(f"m{n}", sent[METER, n]), vehicles=samples(f"v{n}", sent[VEHICLE, n])
                )
            await harness.close(to_datetime(data.draw(st.sampled_from([NOW, NOW - 20 * MINUTE, NOW - HOUR]))))
            start, end = sorted((data.draw(edge), data.draw(edge)))
            asked = window(start, max(end, start + QUARTER))

            found = await Fleet(harness.reads, rules=harness.rules, policy=POLICY).efficiencies(asked)

            assert {
                one.vehicle_id: (one.status, one.efficiency_ratio, round(one.ac_kwh, 6)) for one in found
            } == await judged_singly(harness, [f"v{n}" for n in range(3)], asked)

    asyncio.run(run())


async def judged_singly(
    harness: Harness, vehicles: list[str], asked: TimeRange
) -> dict[str, tuple[Status, float | None, float]]:
    """Those that are mapped: status, ratio and AC."""
    found = {}
    for vehicle in vehicles:
        one = await harness.analytics.performance(vehicle, asked)
        if one is not None and one.compared is not None:
            found[vehicle] = one.judgement.status, one.judgement.ratio, round(one.ac_kwh or 0.0, 6)
    return found


def sum_of(figures: list[Compared]) -> Compared:
    whole = Compared()
    for one in figures:
        whole.add(one)
    return whole
