"""Cases of the field: what a vehicle took and what reached its battery, whatever is closed and whatever came late."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.energy import Sample
from tests.support.scenes import (
    HOUR,
    MINUTE,
    QUARTER,
    SECOND,
    WAYS,
    Mapped,
    Scene,
    answered,
    asked,
    at,
    intervals,
    register,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from tests.support.scenes import Answers, Cases


def sent(device: str, hour: float, kwh: float) -> Sample:
    return Sample(device=device, at=at(hour), interval=kwh)


def polled(poll: timedelta, step: timedelta, rise: float) -> list[Sample]:
    """A register that changes by and by, and is read more often; for three hours from 8:00 on."""
    count = 3 * HOUR // poll + 1
    return register("v", *(500 + rise * (number * poll // step) for number in range(count)), start=at(8), every=poll)


def pair(start: datetime, end: datetime, *, dc: float = 0.09, ac: float = 0.1) -> Scene:
    """Both by the minute."""
    return Scene(vehicles=intervals("v", start, end, MINUTE, dc), meters=intervals("m", start, end, MINUTE, ac))


def with_a_hole(minutes: float, *, vehicle: bool) -> Scene:
    """A charge of four hours; one of them is silent for so long from 10:05 on."""
    charge = pair(at(8), at(12))
    start, end = at(10, 5), at(10, 5 + minutes)

    def heard(samples: Sequence[Sample]) -> list[Sample]:
        return [one for one in samples if not start < one.at <= end]

    if vehicle:
        return Scene(vehicles=heard(charge.vehicles), meters=charge.meters)
    return Scene(vehicles=charge.vehicles, meters=heard(charge.meters))


def in_line(*values: float) -> Scene:
    """A register by the minute, without a meter."""
    return Scene(vehicles=register("v", *values, start=at(12)), mapped=())


EDGES: Cases = {
    "what is stamped midnight is of the day that ended": (
        Scene(meters=[sent("m", 12, 3.0), sent("m", 24, 5.0)]),
        [asked(ac=8.0, samples=(0, 2)), asked(24, 48, ac=0.0, samples=(0, 0))],
    ),
    "what is stamped the end of a mapping is of whom it ended for": (
        Scene(
            meters=intervals("m", at(7), at(10), QUARTER, 2.75),
            mapped=[Mapped(vehicle="a", since=at(8), until=at(10)), Mapped(vehicle="b", since=at(10))],
        ),
        [asked(of="a", ac=22.0), asked(of="b", ac=0.0)],
    ),
    "windows that adjoin": (
        Scene(vehicles=intervals("v", at(8), at(10), QUARTER, 2.0), meters=intervals("m", at(8), at(10), QUARTER, 2.5)),
        [asked(8, 9, ac=10.0, dc=8.0, ratio=0.8), asked(9, 10, ac=10.0, dc=8.0, ratio=0.8)],
    ),
    "a half-hourly register at rest": (
        Scene(vehicles=register("v", *[100.0] * 17, 105.5, 111.0, start=at(0), every=30 * MINUTE)),
        [asked(0, 8, dc=0.0), *(asked(8 + n / 4, 8.25 + n / 4, dc=2.75) for n in range(4)), asked(9, 24, dc=0.0)],
    ),
    "a register at rest for a day": (
        Scene(vehicles=register("v", *[100.0] * (24 * 60 + 1), *(100 + 2.5 * n for n in range(1, 61)), start=at(9))),
        [asked(0, 33, dc=0.0), asked(33, 34, dc=150.0), asked(33, 33.25, dc=37.5)],
    ),
}
REGISTERS: Cases = {
    "read each 30 s, changed each hour": (Scene(vehicles=polled(30 * SECOND, HOUR, 11)), [asked(dc=33.0, excluded=0)]),
    "read each 10 s, changed each quarter": (
        Scene(vehicles=polled(10 * SECOND, QUARTER, 2.75)),
        [asked(dc=33.0, excluded=0)],
    ),
    "two zeros": (in_line(12.0, 12.1, 0, 0, 12.2, 12.3), [asked(dc=0.3, excluded=2, resets=0)]),
    "another level": (in_line(100, 100.1, 110.1, 110.2, 110.3, 110.4), [asked(dc=0.4, excluded=1, resets=0)]),
    "a step down": (
        in_line(540, 541, *(536 + 0.05 * n for n in range(60))),
        [asked(dc=3.95, excluded=1, resets=0)],
    ),
    "a step down at once": (in_line(300, 290, 290.1, 290.2, 290.3), [asked(dc=0.3, excluded=1, resets=0)]),
    "its first value is 0": (in_line(0, 5213, 5213.1, 5213.2), [asked(dc=0.2, excluded=1, resets=0)]),
    "another meter after two hours": (
        Scene(
            vehicles=[
                Sample(device="v", at=at(10), register=11990),
                *register("v", 350, 350.1, 350.2, 350.3, start=at(12)),
            ],
            vehicle_max_kw={"v": 22},
        ),
        [asked(dc=0.3, excluded=0, resets=1)],
    ),
    "a counter of each charge": (
        Scene(
            vehicles=[
                *register("v", *(round(0.1 + 0.2 * n, 1) for n in range(28)), start=at(12)),
                *register("v", 0.1, 0.2, start=at(36)),
            ]
        ),
        [asked(dc=5.4, resets=0), asked(24, 48, dc=0.2, resets=1)],
    ),
    "too much of an interval": (
        Scene(vehicles=[sent("v", 12, 0.5), sent("v", 12.5, 8590.0)]),
        [asked(dc=0.5, excluded=1)],
    ),
    "Wh sent as kWh": (
        Scene(vehicles=intervals("v", at(12), at(12, 10), MINUTE, 165.0)),
        [asked(dc=165.0, excluded=9)],
    ),
}
COMPARED: Cases = {
    "intervals beside a register": (
        Scene(
            vehicles=register("v", *(round(0.1 * n, 1) for n in range(11)), start=at(11, 59)),
            meters=intervals("m", at(11, 59), at(12, 9), MINUTE, 0.1),
        ),
        [asked(ratio=1.0, status="ok", ac=1.0, dc=1.0)],
    ),
    "just the threshold": (
        pair(at(8), at(12), dc=0.17, ac=0.2),
        [asked(ratio=0.85, status="ok", ac=48.0, dc=40.8, share=1.0)],
    ),
    "an hourly meter and a charge under way": (
        Scene(
            vehicles=intervals("v", at(8), at(10, 50), MINUTE, 0.165),
            meters=[sent("m", hour, 11.0) for hour in (7, 8, 9, 10)],
        ),
        [asked(8, 10 + 50 / 60, ac=22.0, dc=28.05, compared=(22.0, 19.8), share=0.705882353, ratio=0.9, status="ok")],
    ),
    "parked for 22 hours": (
        Scene(
            vehicles=[
                *intervals("v", at(-0.5), at(22), 30 * MINUTE, 0.0),
                *intervals("v", at(22), at(24), 10 * SECOND, 0.02),
            ],
            meters=[
                *intervals("m", at(-1), at(22), MINUTE, 0.0),
                *intervals("m", at(22), at(24), MINUTE, 0.133),
            ],
        ),
        [asked(coverage=1.0, status="ok", ratio=round(14.4 / 15.96, 9), gaps=(0, 0.0))],
    ),
    "reports only while it charges": (
        Scene(
            vehicles=intervals("v", at(9, 40), at(10, 25), MINUTE, 0.09),
            meters=[
                *intervals("m", at(-1), at(9, 40), MINUTE, 0.0),
                *intervals("m", at(9, 40), at(10, 25), MINUTE, 0.1),
                *intervals("m", at(10, 25), at(24), MINUTE, 0.0),
            ],
        ),
        # Until the first reading at 9:41, and from 10:25 on. Of the first minute is not known when it began.
        [asked(status="ok", ratio=0.9, share=1.0, gaps=(2, 13 * 3600 + 35 * 60.0), coverage=round(44 / 1440, 9))],
    ),
    **{
        f"{'the vehicle' if vehicle else 'the meter'} is silent for {minutes} min": (
            with_a_hole(minutes, vehicle=vehicle),
            [asked(ratio=0.9, status="ok")],
        )
        for vehicle in (True, False)
        for minutes in (40, 65)
    },
    "a window that cuts the hour of a slow meter": (
        Scene(
            vehicles=intervals("v", at(9, 20), at(10), MINUTE, 0.1),
            meters=[sent("m", 8, 0.0), sent("m", 9, 0.0), sent("m", 10, 4.4), sent("m", 11, 0.0)],
        ),
        [asked(9 + 20 / 60, 12, compared=(0.0, 0.0), ratio=None, status="insufficient-data"), asked(9, 12, ac=4.4)],
    ),
    "silent for 20 hours": (
        Scene(
            vehicles=[*intervals("v", at(0), at(2), 5 * SECOND, 0.01), *intervals("v", at(22), at(24), MINUTE, 0.1)],
            meters=[*intervals("m", at(0), at(2), 5 * SECOND, 0.011), *intervals("m", at(22), at(24), MINUTE, 0.11)],
        ),
        # But for the first interval of each two hours, which nobody knows. From 2:00 to 22:01.
        [asked(coverage=round((4 * 3600 - 65) / 86400, 9), status="ok", gaps=(1, 20 * 3600 + 60.0))],
    ),
    "first readings sent together": (
        Scene(vehicles=[sent("v", 12, 8.5)], meters=[sent("m", 12, 10.5)]),
        [asked(ac=10.5, dc=8.5, ratio=round(8.5 / 10.5, 9), status="below-threshold")],
    ),
    "a register that tells the energy of a night": (
        Scene(
            vehicles=[
                Sample(device="v", at=at(0), register=100, soc=30),
                Sample(device="v", at=at(6), register=130, soc=80),
            ],
            meters=intervals("m", at(-1), at(6), MINUTE, 0.1),
        ),
        [asked(dc=30.0, ac=36.0, compared=(36.0, 30.0)), asked(0, 3, dc=15.0, ac=18.0)],
    ),
    "an hourly meter and two charges in its hour": (
        Scene(
            vehicles=[
                *intervals("v", at(9), at(9, 10), MINUTE, 0.2),
                *intervals("v", at(9, 40), at(9, 50), MINUTE, 0.2),
            ],
            meters=[sent("m", 8, 0.0), sent("m", 9, 0.0), sent("m", 10, 4.4), sent("m", 11, 0.0)],
        ),
        [asked(ac=4.4, dc=4.0, compared=(4.4, 4.0), status="ok")],
    ),
    "a register of whole kWh": (
        Scene(
            vehicles=register("v", *[500.0] * 120, *(500.0 + 3 * n // 60 for n in range(201)), start=at(8)),
            meters=[
                *intervals("m", at(8), at(10), MINUTE, 0.0),
                *intervals("m", at(10), at(13, 20), MINUTE, 0.06),
                *intervals("m", at(13, 20), at(15), MINUTE, 0.0),
            ],
        ),
        [asked(dc=10.0, ac=12.0)],
    ),
}
SHARED: Cases = {
    "one charges after the other": (
        Scene(
            vehicles=[
                *intervals("a", at(14), at(14, 10), MINUTE, 0.2),
                *intervals("b", at(14, 40), at(14, 50), MINUTE, 0.2),
            ],
            meters=[
                *intervals("m", at(13), at(14), MINUTE, 0.0),
                *intervals("m", at(14), at(14, 10), MINUTE, 0.22),
                *intervals("m", at(14, 10), at(14, 40), MINUTE, 0.0),
                *intervals("m", at(14, 40), at(14, 50), MINUTE, 0.22),
                *intervals("m", at(14, 50), at(15), MINUTE, 0.0),
            ],
            mapped=[Mapped(vehicle="a"), Mapped(vehicle="b")],
        ),
        [asked(of=vehicle, ac=2.2, dc=2.0, ratio=round(2 / 2.2, 9), status="ok") for vehicle in "ab"],
    ),
}
CASES: Cases = {**EDGES, **REGISTERS, **COMPARED, **SHARED}


@pytest.fixture(scope="module")
def answers(shared_database_url: str) -> Answers:
    return answered(shared_database_url, CASES)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES)
def test_a_case_has_the_right_figures(answers: Answers, case: str, way: str) -> None:
    right = [one.right for one in CASES[case][1]]

    assert right == [{name: found[name] for name in one} for one, found in zip(right, answers[case, way], strict=True)]


@pytest.mark.parametrize("way", WAYS[1:])
@pytest.mark.parametrize("case", CASES)
def test_all_of_an_answer_is_the_same_whatever_is_closed(answers: Answers, case: str, way: str) -> None:
    assert answers[case, "open"] == answers[case, way]
