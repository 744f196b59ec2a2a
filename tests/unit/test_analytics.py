# ruff: noqa: SIM300 - expected == actual
"""What is said of energy figures, in numbers and in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ingestd.model.answers import FleetEnergy, MappedMeter, Performance
from ingestd.model.efficiency import Compared, Judgement
from ingestd.model.periods import TimeRange

WINDOW = TimeRange(start=datetime(2026, 11, 20, tzinfo=UTC), end=datetime(2026, 11, 21, tzinfo=UTC))


def performance_of(*ac: float | None, dc: float | None, ratio: float | None = None) -> Performance:
    """A vehicle that so many meters fed one after the other, an hour each."""
    starts = [WINDOW.start + number * timedelta(hours=1) for number in range(len(ac))]
    return Performance(
        vehicle_id="EV-101",
        window=WINDOW,
        dc_kwh=dc,
        average_temperature=None,
        samples=None if dc is None else 1440,
        meters=tuple(
            MappedMeter(
                meter_id=f"m-{number}",
                valid=TimeRange(start=starts[number], end=starts[number] + timedelta(hours=1)),
                ac_kwh=kwh,
                samples=None if kwh is None else 60,
                shared=False,
            )
            for number, kwh in enumerate(ac)
        ),
        compared=None,
        coverage=1.0,
        gaps=0,
        longest_gap=0.0,
        resets=0,
        excluded=0,
        judgement=Judgement(status="ok", ratio=ratio, reason="as it is judged"),
        threshold=0.85,
    )


def test_what_a_vehicle_took_is_the_sum_of_its_meters() -> None:
    found = performance_of(2.0, 0.5, 1.5, dc=3.0)

    assert (4.0, 180) == (found.ac_kwh, found.meter_samples)


def test_a_vehicle_without_a_meter_took_nothing() -> None:
    found = performance_of(dc=3.0)

    assert (0.0, 0) == (found.ac_kwh, found.meter_samples)


def test_what_cannot_be_told_is_no_zero() -> None:
    found = performance_of(None, dc=None)

    assert (None, None) == (found.ac_kwh, found.meter_samples)


def test_the_ratio_is_that_of_the_judgement_and_not_of_the_sums() -> None:
    assert (1.5, None) == (
        performance_of(2.0, dc=1.0, ratio=1.5).efficiency_ratio,
        performance_of(2.0, dc=1.0, ratio=None).efficiency_ratio,
    )


def fleet_of(*, ac: float, dc: float, vehicles: int = 3) -> FleetEnergy:
    return FleetEnergy(
        window=WINDOW,
        as_of=WINDOW.end,
        ac_kwh=ac,
        dc_kwh=dc,
        meters=2,
        vehicles=vehicles,
        mapped=Compared(ac=4.0, dc=5.0, all_ac=8.0, all_dc=6.0),
        mapped_ratio=1.25,
        statuses={},
        worst=(),
    )


def test_a_fleet_has_a_ratio_of_all_beside_that_of_what_is_compared() -> None:
    found = fleet_of(ac=8.0, dc=6.0)

    assert (0.75, 1.25) == (found.efficiency_ratio, found.mapped_ratio)


def test_the_ratio_of_all_is_rounded_as_those_that_are_judged() -> None:
    assert 0.9 == fleet_of(ac=sum([0.1] * 10), dc=0.9).efficiency_ratio


def test_a_fleet_without_ac_or_without_vehicles_has_no_ratio_of_all() -> None:
    assert (None, None) == (
        fleet_of(ac=0.0, dc=6.0).efficiency_ratio,
        fleet_of(ac=8.0, dc=0.0, vehicles=0).efficiency_ratio,
    )
