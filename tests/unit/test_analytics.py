# ruff: noqa: SIM300 - expected == actual
"""What is said of energy figures, in numbers and in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from ingestd.analytics import FleetEnergy, Judgement, MeterShare, Performance, TimeRange

if TYPE_CHECKING:
    from ingestd.analytics import Status

JUDGEMENT = Judgement(threshold=0.85, min_kwh=0.5, min_coverage=0.2, plausible_kw=400)
WINDOW = TimeRange(start=datetime(2026, 11, 20, tzinfo=UTC), end=datetime(2026, 11, 21, tzinfo=UTC))


def performance_of(
    *ac: float, dc: float, status: Status = "ok", coverage: float = 1.0, threshold: float = 0.85
) -> Performance:
    """A vehicle that so many meters fed one after the other, an hour each."""
    starts = [WINDOW.start + number * timedelta(hours=1) for number in range(len(ac))]
    return Performance(
        vehicle_id="EV-101",
        window=WINDOW,
        dc_kwh=dc,
        average_temperature=None,
        samples=1440,
        meters=tuple(
            MeterShare(
                meter_id=f"m-{number}",
                valid=TimeRange(start=starts[number], end=starts[number] + timedelta(hours=1)),
                ac_kwh=kwh,
                samples=60,
                shared=False,
            )
            for number, kwh in enumerate(ac)
        ),
        coverage=coverage,
        gaps=0,
        longest_gap=0.0,
        resets=0,
        excluded=0,
        status=status,
        threshold=threshold,
    )


def test_what_a_vehicle_took_is_the_sum_of_its_meters() -> None:
    found = performance_of(2.0, 0.5, 1.5, dc=3.0)

    assert (4.0, 180, 0.75) == (found.ac_kwh, found.meter_samples, found.efficiency_ratio)


@pytest.mark.parametrize(
    ("status", "ratio"),
    [("ok", 1.5), ("below-threshold", 1.5), ("implausible", 1.5), ("insufficient-data", None), ("unmapped", None)],
)
def test_whether_there_is_a_ratio_is_up_to_the_status_and_it_is_never_clamped(
    status: Status, ratio: float | None
) -> None:
    assert ratio == performance_of(2.0, dc=3.0, status=status).efficiency_ratio


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (performance_of(dc=1.0, status="unmapped"), "no meter is mapped to the vehicle in this window"),
        (
            performance_of(0.0, dc=1.0, status="insufficient-data", coverage=0.0),
            "0 kWh of AC, at least 0.5 needed",
        ),
        (
            performance_of(0.25, 0.125, dc=0.3, status="insufficient-data"),
            "0.375 kWh of AC, at least 0.5 needed",
        ),
        (
            performance_of(0.5, dc=0.3, status="insufficient-data", coverage=1 / 6),
            "coverage 0.17, at least 0.2 needed",
        ),
        (performance_of(10.0, dc=10.5, status="implausible"), "more DC than AC: 10.500 of 10.000 kWh"),
        (
            performance_of(8.0, dc=6.0, status="below-threshold", threshold=0.8),
            "75.0% of the AC arrived, 80.0% expected",
        ),
        (performance_of(10.718, dc=10.21), "95.3% of the AC arrived"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_status_has_its_reason_in_words(found: Performance, reason: str) -> None:
    assert reason == found.reason(JUDGEMENT)


def fleet_of(*, ac: float, dc: float, vehicles: int = 3, mapped_ac: float = 0.0, mapped_dc: float = 0.0) -> FleetEnergy:
    return FleetEnergy(
        window=WINDOW,
        ac_kwh=ac,
        dc_kwh=dc,
        meters=2,
        vehicles=vehicles,
        mapped_ac_kwh=mapped_ac,
        mapped_dc_kwh=mapped_dc,
        statuses={},
        worst=(),
    )


def test_a_fleet_has_a_ratio_of_all_and_one_of_those_mapped_to_each_other() -> None:
    found = fleet_of(ac=8.0, dc=6.0, mapped_ac=4.0, mapped_dc=5.0)

    assert (0.75, 1.25) == (found.efficiency_ratio, found.mapped_efficiency_ratio)


def test_a_fleet_without_ac_or_without_vehicles_has_no_ratio() -> None:
    assert (None, None) == (
        fleet_of(ac=0.0, dc=6.0).efficiency_ratio,
        fleet_of(ac=8.0, dc=0.0, vehicles=0).efficiency_ratio,
    )
    assert None is fleet_of(ac=8.0, dc=6.0, mapped_dc=1.0).mapped_efficiency_ratio
