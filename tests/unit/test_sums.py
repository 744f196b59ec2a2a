"""What is made of sums is what the rule makes of each reading."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from ingestd.model.energy import MINUTE, QUARTER, State, count
from ingestd.model.flow import Flow
from ingestd.model.ledger import Base, Readings, flow_of, quarters_of
from ingestd.model.quarters import quarter_of, quarters
from ingestd.model.register import Register, Rule
from ingestd.model.sums import quarters_of_sums

if TYPE_CHECKING:
    from ingestd.model.quarters import Quarter

RULE = Rule(max_kw=400)
BASE = 100 * QUARTER
GAPS = st.lists(st.integers(1, 16 * 60).map(lambda seconds: seconds * MINUTE // 60), min_size=1, max_size=12)


@dataclass(slots=True, kw_only=True)
class Summed:
    start: int
    kwh: float
    samples: int
    first: int
    last: int
    most: float | None
    registers: int


def times(gaps: list[int], previous_at: int) -> list[int]:
    found = []
    for gap in gaps:
        previous_at += gap
        found.append(previous_at)
    return [at for at in found if at > BASE]


def figures(made: dict[int, Quarter]) -> dict[int, tuple[float, int, int, int]]:
    """But for the sums that the fleet has no use for."""
    return {start: (round(row.kwh, 9), row.samples, row.known, row.parts) for start, row in made.items()}


@given(gaps=GAPS, kwh=st.sampled_from([0.0, 0.1, 5.0, 50.0]), start=st.integers(0, 20), length=st.integers(1, 40))
def test_sums_of_intervals_say_what_each_of_them_does(gaps: list[int], kwh: float, start: int, length: int) -> None:
    at = times(gaps, BASE - MINUTE)
    readings = Readings(at=at, kwh=[kwh] * len(at), register=[None] * len(at), averaged=[0.0] * len(at))
    state = State(previous_at=BASE - MINUTE, was_at_rest=False, register=None)
    since, until = BASE + start * MINUTE, BASE + (start + length) * MINUTE
    sums = [
        Summed(
            start=quarter,
            kwh=kwh * len([one for one in its if since < one <= until]),
            samples=len([one for one in its if since < one <= until]),
            first=its[0],
            last=its[-1],
            most=kwh,
            registers=0,
        )
        for quarter, its in ((quarter, list(group)) for quarter, group in groupby(at, quarter_of))
    ]

    made = quarters_of_sums(sums, previous_at=BASE - MINUTE, start=since, end=until, rule=RULE)

    if made is not None and at:
        expected = quarters_of(readings, Base(at=BASE, state=state), start=since, end=until, rule=RULE, now=at[-1])
        assert figures(expected) == figures(made)


@given(gaps=GAPS, steps=st.lists(st.sampled_from([0.0, 0.1, 3.0, 50.0]), min_size=12), length=st.integers(1, 60))
def test_differences_of_a_rising_register_say_what_each_reading_does(
    gaps: list[int], steps: list[float], length: int
) -> None:
    at = times(gaps, BASE)
    levels = [100 + sum(steps[: number + 1]) for number in range(len(at))]
    readings = Readings(at=at, kwh=[None] * len(at), register=levels, averaged=[25.0] * len(at))
    state = State(
        previous_at=BASE, was_at_rest=False, register=Register(high_water=100.0, changed_at=BASE, read_at=BASE)
    )
    until = BASE + length * MINUTE

    made = quarters_of(readings, Base(at=BASE, state=state), start=BASE, end=until, rule=RULE, now=at[-1])
    flow = flow_of(readings, state, rule=RULE, now=at[-1])

    counted = count(readings.one_by_one(), state, rule=RULE, now=at[-1])
    assert quarters(counted, BASE, until) == made
    expected = Flow.of(counted)
    assert (expected.starts, expected.ends, expected.kwh) == (flow.starts, flow.ends, flow.kwh)
