"""Whose energy it is: windows cut by mappings, and meters that feed several vehicles at once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestd.model.device_energy import CountedRange, DeviceEnergy
from ingestd.model.energy import HOUR, Reading, count
from ingestd.model.performance import Feed, OtherVehicle, performance
from ingestd.model.register import Rule
from ingestd.model.timestamps import to_datetime, to_microseconds
from tests.support.energy import Sample
from tests.support.harness import POLICY, opened
from tests.support.scenes import BEGIN, MINUTE, QUARTER, WAYS, Scene, answered, asked, at, intervals
from tests.support.scenes import Mapped as Segment
from tests.support.streams import streams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingestd.model.answers import Performance
    from tests.support.scenes import Answers, Cases


def sent(device: str, hour: float, minute: float, kwh: float) -> Sample:
    return Sample(device=device, at=at(hour, minute), interval=kwh)


BOTH = (Segment(vehicle="a"), Segment(vehicle="b"))
TWO_CARS = Scene(
    meters=[sent("m", 10, 5, 4.0), sent("m", 10, 20, 2.0)],
    vehicles=[sent("a", 10, 2, 3.0), sent("b", 10, 4, 1.0), sent("a", 10, 18, 0.0), sent("b", 10, 19, 0.0)],
    mapped=BOTH,
)


def meters(*expected: tuple[float, float, float, int, bool]) -> list[tuple[object, ...]]:
    """From hour to hour, AC, readings, and whether it is shared."""
    return [(at(start), at(end), kwh, samples, shared) for start, end, kwh, samples, shared in expected]


CASES: Cases = {
    # a: 4 * 3/4 + 2 / 2, b: 4 * 1/4 + 2 / 2
    "by the DC of each quarter": (
        TWO_CARS,
        [
            asked(10, 12, of="a", meters=meters((10, 12, 4.0, 2, True))),
            asked(10, 12, of="b", meters=meters((10, 12, 2.0, 2, True))),
        ],
    ),
    # The window holds the meter's reading alone; both charged in that quarter, outside of the window.
    "by the DC of the quarter that a window cuts": (
        TWO_CARS,
        [
            asked(10 + 4.5 / 60, 10 + 6 / 60, of="a", ac=3.0, dc=0.0),
            asked(10 + 4.5 / 60, 10 + 6 / 60, of="b", ac=1.0, dc=0.0),
        ],
    ),
    "by the DC of each hour of a slow meter": (
        Scene(
            meters=[sent("m", hour, 0, 4.0 * (hour == 10)) for hour in (8, 9, 10, 11)],
            vehicles=[
                *intervals("a", at(9), at(9, 10), MINUTE, 0.2),
                *intervals("b", at(9, 40), at(9, 50), MINUTE, 0.2),
            ],
            mapped=BOTH,
        ),
        [
            asked(8, 11, of="a", ac=2.0, dc=2.0, compared=(2.0, 2.0)),
            asked(9.25, 9.5, of="a", ac=0.5, dc=0.0),
            asked(8, 11, of="b", ac=2.0, dc=2.0, compared=(2.0, 2.0)),
        ],
    ),
    "only while both are mapped": (
        Scene(
            meters=[sent("m", 10, 15, 2.0), sent("m", 10, 45, 4.0)],
            vehicles=[sent("a", 10, 40, 1.0), sent("b", 10, 41, 3.0)],
            mapped=[Segment(vehicle="a"), Segment(vehicle="b", since=at(10, 32))],
        ),
        # The 4 are of half an hour, and b was there for 13 minutes of it.
        [
            asked(10, 11, of="a", ac=round(2 + 4 * 17 / 30 + 4 * 13 / 30 / 4, 9)),
            asked(10, 11, of="b", ac=round(4 * 13 / 30 * 3 / 4, 9)),
            asked(10, 10.5, of="a", meters=meters((10, 10.5, 4.0, 1, False))),
        ],
    ),
    "not any more when it left": (
        Scene(
            meters=[sent("m", 10, 15, 2.0), sent("m", 10, 30, 4.0), sent("m", 10, 45, 1.0)],
            vehicles=[sent("a", 10, 10, 1.0), sent("b", 10, 40, 3.0)],
            mapped=[Segment(vehicle="a", until=at(10, 30)), Segment(vehicle="b", since=at(10, 30))],
        ),
        [
            asked(10, 11, of="a", meters=meters((10, 10.5, 6.0, 2, False))),
            asked(10, 11, of="b", meters=meters((10.5, 11, 1.0, 1, False))),
        ],
    ),
    "a car that changes chargers has both, each for its time": (
        Scene(
            meters=[
                *intervals("m", at(9), at(11), QUARTER, 1.0),
                *intervals("n", at(9), at(11), QUARTER, 0.5),
            ],
            vehicles=[sent("v", 10, 20, 2.0)],
            mapped=[Segment(until=at(10, 30)), Segment(meter="n", since=at(10, 30))],
        ),
        [asked(10, 11, meters=meters((10, 10.5, 2.0, 2, False), (10.5, 11, 1.0, 2, False)), ac=3.0)],
    ),
}


@pytest.fixture(scope="module")
def answers(shared_database_url: str) -> Answers:
    return answered(shared_database_url, CASES)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES)
def test_a_meter_gives_to_its_vehicles_what_is_theirs(answers: Answers, case: str, way: str) -> None:
    right = [one.right for one in CASES[case][1]]

    assert right == [{name: found[name] for name in one} for one, found in zip(right, answers[case, way], strict=True)]


# Whatever was sent, by whomever ----------------------------------------------------------------------------------

NOON = to_microseconds(at(12))
RULE = Rule(max_kw=400)
moments = st.integers(0, 20 * 60).map(lambda minute: minute * 60_000_000)
of_two_days = streams().map(lambda readings: [one for one in readings if one.at <= 2 * 24 * HOUR])
spans = st.tuples(moments, moments).filter(lambda span: span[0] != span[1]).map(sorted)


def samples(device: str, readings: Sequence[Reading]) -> list[Sample]:
    return [
        Sample(device=device, at=to_datetime(NOON + one.at), interval=one.kwh, register=one.register)
        for one in readings
    ]


def by_the_model(
    meter: Sequence[Reading], a: Sequence[Reading], b: Sequence[Reading], span: list[int], window: list[int]
) -> tuple[object, ...]:
    """Of a, which is mapped all the time, while b is mapped for a span."""

    def did(readings: Sequence[Reading]) -> DeviceEnergy:
        counted = count([one._replace(at=NOON + one.at) for one in readings], rule=RULE, now=NOON + 100 * HOUR)
        first, last = NOON - HOUR, NOON + 100 * HOUR
        return DeviceEnergy(
            start=first, end=last, rows={}, counted_ranges=[CountedRange(start=first, end=last, counted=counted)]
        )

    other = OtherVehicle(vehicle="b", start=NOON + span[0], end=NOON + span[1], energy=did(b))
    feed = Feed(meter="m", start=NOON - HOUR, end=NOON + 100 * HOUR, energy=did(meter), others=[other])
    start, end = (NOON + edge for edge in window)
    found = performance(start, end, NOON + 100 * HOUR, vehicle=did(a), feeds=[feed], policy=POLICY)
    assert found.compared is not None
    return (
        round(found.meters[0].whole.kwh, 9),
        round(found.vehicle.kwh, 9),
        (round(found.compared.ac, 9), round(found.compared.dc, 9)),
        found.judgement.status,
        round(found.coverage, 9),
        found.vehicle.samples,
        found.meters[0].is_shared,
    )


def by_the_store(found: Performance) -> tuple[object, ...]:
    assert found.compared is not None
    return (
        round(found.ac_kwh or 0.0, 9),
        round(found.dc_kwh or 0.0, 9),
        (round(found.compared.ac, 9), round(found.compared.dc, 9)),
        found.judgement.status,
        round(found.coverage or 0.0, 9),
        found.samples,
        found.meters[0].shared,
    )


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.data(),
    devices=st.tuples(of_two_days, of_two_days, of_two_days),
    span=spans,
    windows=st.lists(spans, min_size=1, max_size=4),
)
def test_whatever_is_sent_and_closed_the_answer_is_that_of_the_model(
    database_url: str,
    data: st.DataObject,
    devices: tuple[list[Reading], list[Reading], list[Reading]],
    span: list[int],
    windows: list[list[int]],
) -> None:
    """In any order of arrival, with quarters closed at any moment."""
    everything = [sample for name, readings in zip("mab", devices, strict=True) for sample in samples(name, readings)]
    order = data.draw(st.permutations(everything)) if data.draw(st.booleans()) else everything
    cut = data.draw(st.integers(0, len(order)))
    last = max(sample.at for sample in everything)

    async def run() -> None:
        async with opened(database_url) as harness:
            harness.clear()
            await harness.map("a", "m", BEGIN)
            await harness.map("b", "m", *(to_datetime(NOON + edge) for edge in span))
            for part in (order[:cut], order[cut:]):
                await harness.write(
                    meters=[one for one in part if one.device == "m"],
                    vehicles=[one for one in part if one.device != "m"],
                )
                if data.draw(st.booleans()):
                    await harness.closing.catch_up(last + data.draw(st.sampled_from([-3, 0, 2])) * timedelta(hours=1))
            for window in windows:
                found = await harness.performance("a", *(to_datetime(NOON + edge) for edge in window))
                assert by_the_model(*devices, span, window) == by_the_store(found)

    asyncio.run(run())
