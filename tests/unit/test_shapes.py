# ruff: noqa: SIM300 - expected == actual
"""How answers look."""

from __future__ import annotations

from datetime import UTC, datetime

from ingestd.http.performance import shape
from ingestd.model.answers import MappedMeter, Performance
from ingestd.model.efficiency import Compared, Judgement
from ingestd.model.periods import TimeRange

WINDOW = TimeRange(start=datetime(2026, 11, 20, tzinfo=UTC), end=datetime(2026, 11, 21, tzinfo=UTC))


def test_a_performance_says_what_is_compared_and_why_it_is_judged_so() -> None:
    found = Performance(
        vehicle_id="EV-101",
        window=WINDOW,
        dc_kwh=28.0,
        average_temperature=23.5,
        samples=170,
        meters=(MappedMeter(meter_id="m", valid=WINDOW, ac_kwh=32.0, samples=3, shared=False),),
        compared=Compared(ac=22.0, dc=19.8, all_ac=32.0, all_dc=28.0),
        coverage=0.5,
        gaps=1,
        longest_gap=3900.0,
        resets=2,
        excluded=3,
        judgement=Judgement(status="ok", ratio=0.9, reason="90.0% of the AC arrived"),
        threshold=0.85,
    )

    assert {
        "vehicleId": "EV-101",
        "timeRange": {"start": "2026-11-20T00:00:00Z", "end": "2026-11-21T00:00:00Z"},
        "energy": {"acConsumed": 32.0, "dcDelivered": 28.0, "efficiencyRatio": 0.9},
        "compared": {"acConsumed": 22.0, "dcDelivered": 19.8, "share": 0.6875},
        "battery": {"avgTemperature": 23.5},
        "meters": [
            {
                "meterId": "m",
                "from": "2026-11-20T00:00:00Z",
                "to": "2026-11-21T00:00:00Z",
                "acConsumed": 32.0,
                "shared": False,
            }
        ],
        "samples": {"vehicle": 170, "meter": 3},
        "coverage": 0.5,
        "gaps": {"count": 1, "longestSeconds": 3900.0},
        "resets": 2,
        "excluded": 3,
        "status": "ok",
        "reason": "90.0% of the AC arrived",
        "threshold": 0.85,
    } == shape(found).model_dump(mode="json")


def test_what_cannot_be_told_is_null() -> None:
    found = Performance(
        vehicle_id="EV-101",
        window=WINDOW,
        dc_kwh=None,
        average_temperature=None,
        samples=None,
        meters=(),
        compared=None,
        coverage=None,
        gaps=None,
        longest_gap=None,
        resets=None,
        excluded=None,
        judgement=Judgement(status="insufficient-data", ratio=None, reason="readings are past their retention"),
        threshold=0.85,
    )

    answer = shape(found).model_dump(mode="json")

    assert {"acConsumed": None, "dcDelivered": None, "efficiencyRatio": None} == answer["energy"]
    assert ({"count": None, "longestSeconds": None}, {"vehicle": None, "meter": None}) == (
        answer["gaps"],
        answer["samples"],
    )
    assert [None] * 4 == [answer[name] for name in ("compared", "coverage", "resets", "excluded")]
