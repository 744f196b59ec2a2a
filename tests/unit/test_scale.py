# ruff: noqa: SIM300 - expected == actual
"""What fleets need is calculated from measured costs, and a simulated day agrees with it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from bench.costs import Costs
from bench.day import DAY_SECONDS, OUTAGE_SECONDS, STEP_SECONDS, Machines, rate, simulate
from bench.errors import BenchError
from bench.scale import CITUS_CPU, FLEETS, document, fleet, limits, scale

if TYPE_CHECKING:
    from pathlib import Path

COSTS = Costs(
    own_cpu=10.0,
    postgres_cpu=20.0,
    mosquitto_cpu=15.0,
    closing_own_cpu=4.0,
    closing_postgres_cpu=4.0,
    closing_time=9.0,
    wal=300.0,
    history=125.0,
    ledger=23_000.0,
    broker_connection=1000.0,
)
RESULTS: dict[str, Any] = {
    "sustained": {"own_cpu": 8.0, "postgres_cpu": 20.0, "mosquitto_cpu": 15.0, "wal_bytes": 300.0},
    "fleet": {"fleets": [{"own_cpu": 5.0, "postgres_cpu": 3.0}, {"own_cpu": 10.0, "postgres_cpu": 18.0}]},
    "growth": {
        "devices": 50,
        "lengths": [
            {},
            {"days": 30, "rows": 1000, "history_bytes": 85_000, "index_bytes": 40_000, "ledger_bytes": 34.5e6},
        ],
    },
    "closing": {"fleets": [{}, {"readings": 1_000_000, "seconds": 9.0, "own_cpu": 4.0, "postgres_cpu": 4.0}]},
    "connections": {"broker_bytes_each": 1000.0},
}


def test_costs_are_those_of_the_largest_fleet_that_was_measured() -> None:
    assert COSTS == Costs.of(RESULTS)


def test_costs_without_a_scenario_name_it() -> None:
    with pytest.raises(BenchError, match="closing, connections"):
        Costs.of({**RESULTS, "closing": {"error": "no database"}, "connections": {"error": "too few files"}})


def test_a_day_has_its_readings() -> None:
    assert pytest.approx(1440 * 7) == sum(rate(7, second) for second in range(DAY_SECONDS))


@given(devices=st.sampled_from(FLEETS), spare=st.floats(1.0, 5.0))
def test_what_waits_after_the_outage_is_drained_as_fast_as_the_narrowest_part_allows(
    devices: int, spare: float
) -> None:
    peak = rate(devices, OUTAGE_SECONDS.start)
    capacity = peak * (1 + spare)
    costs = replace(COSTS, own_cpu=1e6 / capacity, postgres_cpu=1e-3, mosquitto_cpu=1e-3)

    day = simulate(costs, Machines(daemons=1, brokers=1, database_cores=1), devices)

    assert pytest.approx(peak * len(OUTAGE_SECONDS)) == day.most_waiting
    assert day.drained_seconds is not None
    assert abs(day.drained_seconds - len(OUTAGE_SECONDS) / spare) <= 2 * STEP_SECONDS


def test_what_comes_in_faster_than_it_is_stored_is_not_drained() -> None:
    devices = 1_000_000
    costs = replace(COSTS, own_cpu=1e6 / rate(devices, 0))

    assert simulate(costs, Machines(daemons=1, brokers=99, database_cores=99), devices).drained_seconds is None


def test_a_ledger_that_is_slower_than_the_readings_is_never_closed() -> None:
    day = simulate(replace(COSTS, closing_time=60.1), Machines(daemons=99, brokers=99, database_cores=99), 1_000_000)

    assert math.inf == day.longest_closing_seconds


def test_a_quarter_waits_for_the_end_of_the_outage() -> None:
    day = simulate(COSTS, Machines(daemons=9, brokers=9, database_cores=9), 10_000)

    assert len(OUTAGE_SECONDS) <= day.longest_closing_seconds <= len(OUTAGE_SECONDS) + 2 * STEP_SECONDS


def test_limits_come_in_the_order_in_which_they_are_reached() -> None:
    found = [limit.devices for limit in limits(COSTS)]

    assert sorted(found) == found


def test_a_fleet_within_a_limit_needs_one_of_it_and_beyond_it_two() -> None:
    costs = replace(COSTS, mosquitto_cpu=60.0)
    thread = next(limit.devices for limit in limits(costs) if "thread" in limit.of)

    assert pytest.approx(100_000) == thread
    assert [1, 2] == [fleet(costs, 100_000 + more).machines.brokers for more in (-1, 1)]


def test_a_fleet_that_needs_several_database_servers_pays_what_citus_costs() -> None:
    one, several = fleet(COSTS, 100_000), fleet(COSTS, 1_000_000)

    assert 1 == one.database_machines < several.database_machines
    # 10,000 messages a second of 20 µs each; 100,000 of CITUS_CPU. Closing comes to it.
    assert [1, math.ceil((100_000 * CITUS_CPU + 16_667 * 4) / 1e6 / 0.6)] == [
        each.machines.database_cores for each in (one, several)
    ]


def test_the_script_prints_both_tables(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(RESULTS))

    done = CliRunner().invoke(scale, [str(path)])

    assert (0, document(COSTS) + "\n") == (done.exit_code, done.output)
    assert "| history a day | 1.8 GB | 18.0 GB | 180.0 GB | 1.8 TB |" in done.output


def test_the_script_says_what_the_json_lacks(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    path.write_text("{}")

    done = CliRunner().invoke(scale, [str(path)])

    assert (1, "Error: the JSON has no figures of: sustained, fleet, growth, closing, connections\n") == (
        done.exit_code,
        done.output,
    )
