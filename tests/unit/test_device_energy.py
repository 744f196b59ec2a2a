# ruff: noqa: SIM300 - expected == actual
"""What one device did in a window, out of rows and counted readings: all ranges of time at once as one by one."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.model.device_energy import CountedRange, DeviceEnergy
from ingestd.model.energy import HOUR, MINUTE, QUARTER, CountedReading, count
from ingestd.model.quarters import Quarter, quarters
from ingestd.model.register import Rule
from tests.support.streams import streams

RULE = Rule(max_kw=400)


@st.composite
def windows(draw: st.DrawFn) -> tuple[DeviceEnergy, list[CountedReading]]:
    """A device in a window whose whole quarters are rows or folded, as it comes; and all its readings."""
    counted = count(draw(streams()), rule=RULE, now=10**15)
    start, end = sorted(draw(st.lists(st.integers(0, 20 * 60), min_size=2, max_size=2, unique=True)))
    start, end = start * MINUTE, end * MINUTE
    first, last = start // QUARTER * QUARTER, -(-end // QUARTER) * QUARTER
    folded = {quarter for quarter in range(first, last, QUARTER) if draw(st.integers(0, 2)) == 0}
    folded |= {first, last - QUARTER}
    energy = DeviceEnergy(
        start=start,
        end=end,
        rows={at: row for at, row in quarters(counted, first, last).items() if at not in folded},
        counted_ranges=[
            CountedRange(start=quarter, end=quarter + QUARTER, counted=counted) for quarter in sorted(folded)
        ],
    )
    return energy, counted


def figures(quarter: Quarter) -> tuple[object, ...]:
    return (
        pytest.approx(quarter.kwh, abs=1e-9),
        quarter.samples,
        quarter.parts,
        quarter.known,
        pytest.approx(quarter.averaged),
        quarter.resets,
        quarter.excluded,
    )


@given(window=windows(), data=st.data())
def test_many_stretches_at_once_are_what_they_are_one_by_one(
    window: tuple[DeviceEnergy, list[CountedReading]], data: st.DataObject
) -> None:
    energy, _ = window
    places = st.one_of(
        st.sampled_from([energy.start, energy.end]),
        st.sampled_from(
            sorted(
                {counted_range.start for counted_range in energy.counted_ranges}
                | {counted_range.end for counted_range in energy.counted_ranges}
            )
        ),
        st.integers(0, QUARTER).map(lambda within: energy.counted_ranges[0].start + within),
    )
    edges = sorted(place for place in data.draw(st.lists(places, max_size=6)) if energy.start <= place <= energy.end)

    found = energy.between(edges)

    assert [figures(energy.total(*one)) for one in pairwise(edges)] == [
        (one.kwh, one.samples, one.parts, one.known, one.averaged, one.resets, one.excluded) for one in found
    ]


def test_a_window_without_edges_has_no_stretches() -> None:
    assert [] == DeviceEnergy(start=0, end=HOUR, rows={}).between([0])
