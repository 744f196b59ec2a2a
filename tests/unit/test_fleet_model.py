# ruff: noqa: SIM300 - expected == actual
"""How the window of a fleet is divided, and which vehicles sums will do for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingestd.model.energy import HOUR, MINUTE, QUARTER
from ingestd.model.fleet import Window, divided_segments
from ingestd.model.mapping import MappingSegment


def fed(vehicle: str, meter: str, start: int, end: int) -> MappingSegment:
    return MappingSegment(vehicle=vehicle, meter=meter, start=start, end=end)


@given(st.integers(0, 30 * HOUR), st.integers(1, 30 * HOUR), st.integers(0, 100))
def test_a_window_is_divided_without_a_rest(start: int, length: int, quarters: int) -> None:
    end, made_until = start + length, quarters * QUARTER
    window = Window(start=start, end=end, asked_end=end, made_until=made_until)

    ranges = [
        (window.since, window.hours_from),
        (window.hours_from, window.hours_until),
        (window.hours_until, window.until),
        *window.parts,
    ]
    if end > made_until:
        ranges.append((max(made_until, start), end))

    ranges = sorted(one for one in ranges if one[0] < one[1])
    assert [start, *(one[1] for one in ranges)] == [*(one[0] for one in ranges), end]
    assert 0 == window.hours_from % HOUR or window.hours_from == window.until


def test_a_vehicle_with_a_meter_of_its_own_for_whole_hours_is_compared_by_sums() -> None:
    segments = [fed("a", "m", 7, 10 * HOUR), fed("b", "m", 10 * HOUR, 20 * HOUR + 7)]

    assert (segments, set()) == divided_segments(segments, start=7, end=20 * HOUR + 7)


def test_vehicles_that_share_a_meter_and_those_mapped_within_an_hour_are_looked_at_one_by_one() -> None:
    alone = fed("a", "m", 0, 9 * HOUR)
    segments = [
        alone,
        fed("b", "n", 0, 9 * HOUR),
        fed("c", "n", 3 * HOUR, 4 * HOUR),
        fed("d", "o", 3 * HOUR + MINUTE, 9 * HOUR),
        fed("e", "p", 0, 4 * HOUR),
        fed("e", "q", 4 * HOUR, 5 * HOUR + QUARTER),
    ]

    assert ([alone], {"b", "c", "d", "e"}) == divided_segments(segments, start=0, end=9 * HOUR)
