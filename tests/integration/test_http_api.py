# ruff: noqa: SIM300 - expected == actual
"""Every route of a running daemon: what it answers when all is well, and what when it is not.

One daemon for most of the file, as they only add to it: every test has devices of its own. It flushes every
half a minute only, so that a request which waited for that would show.
"""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ingestd.demo.servers import PrivateMosquitto
from tests.support.api import MAPPINGS, Names, assert_problem, map_vehicle
from tests.support.daemon import Daemon, Response
from tests.support.deliveries import assert_counts_balanced, by_heading
from tests.support.devices import Device
from tests.support.polling import until
from tests.support.promtool import IS_MISSING, MISSING, promtool
from tests.support.readings import ledger_has_begun, meter_message, rfc3339, vehicle_message

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator

    from ingestd.demo.servers import PrivatePostgres

FLUSH_INTERVAL = 30.0
TELEMETRY = "/v1/telemetry"

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - 2 * DAY
"""Recent enough to be accepted, and a whole hour on both sides of it is of the same day."""


@pytest.fixture(scope="module")
def broker() -> Iterator[PrivateMosquitto]:
    with PrivateMosquitto() as server:
        yield server


@pytest.fixture(scope="module")
def database(shared_database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(shared_database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def daemon(broker: PrivateMosquitto, shared_database_url: str) -> Iterator[Daemon]:
    with Daemon(mqtt_url=broker.url, database_url=shared_database_url, flush_interval=FLUSH_INTERVAL) as daemon:
        daemon.wait_healthy()
        until(lambda: ledger_has_begun(shared_database_url))
        yield daemon


@pytest.fixture
def names() -> Names:
    return Names()


def meter(meter_id: str, at: datetime = NOON, **figures: float) -> dict[str, Any]:
    reading: dict[str, Any] = json.loads(meter_message(meter_id, at, **figures)[1])
    return reading


def vehicle(vehicle_id: str, at: datetime = NOON, **figures: float) -> dict[str, Any]:
    reading: dict[str, Any] = json.loads(vehicle_message(vehicle_id, at, **figures)[1])
    return reading


def by_the_minute(
    read: Callable[..., dict[str, Any]], device: str, kwh: float, *, count: int = 4, start: datetime = NOON
) -> list[dict[str, Any]]:
    """Readings of a minute each behind the start, all the energy in the first of them."""
    return [read(device, start + (number + 1) * MINUTE, kwh=0 if number else kwh) for number in range(count)]


def post(daemon: Daemon, *readings: dict[str, Any]) -> None:
    """Stores readings that are all new."""
    answer = daemon.request("POST", TELEMETRY, body=list(readings))
    assert (201, len(readings)) == (answer.status, answer.json()["accepted"]), answer.body


def performance(daemon: Daemon, vehicle_id: str, start: datetime, end: datetime) -> dict[str, Any]:
    query = urlencode({"startTime": rfc3339(start), "endTime": rfc3339(end)})
    answer = daemon.request("GET", f"/v1/analytics/performance/{vehicle_id}?{query}")
    assert 200 == answer.status, answer.body
    body: dict[str, Any] = answer.json()
    return body


# POST /v1/telemetry


@pytest.mark.parametrize("kind", ["meter", "vehicle"])
def test_a_reading_is_in_the_table_when_201_arrives(
    daemon: Daemon, database: psycopg.Connection, names: Names, kind: str
) -> None:
    reading = meter(names.meter) if kind == "meter" else vehicle(names.vehicle)

    answer = daemon.request("POST", TELEMETRY, body=reading)

    stored = database.execute(
        "SELECT ts, kwh_consumed_ac, voltage FROM meter_history WHERE meter_id = %(meter)s"
        " UNION ALL SELECT ts, kwh_delivered_dc, soc FROM vehicle_history WHERE vehicle_id = %(vehicle)s",
        {"meter": names.meter, "vehicle": names.vehicle},
    ).fetchall()
    assert [(NOON, 0.5, 230.0) if kind == "meter" else (NOON, 0.4, 50.0)] == stored
    assert (201, "application/json") == (answer.status, answer.headers["content-type"].partition(";")[0])
    assert {"accepted": 1, "duplicates": 0, "rejected": []} == answer.json()


def test_a_request_does_not_wait_for_the_flush_interval(daemon: Daemon, names: Names) -> None:
    started = time.monotonic()

    for number in range(3):
        post(daemon, meter(names.meter, NOON + number * MINUTE))

    assert time.monotonic() - started < FLUSH_INTERVAL / 3


def test_a_reading_sent_again_is_a_duplicate(daemon: Daemon, names: Names) -> None:
    post(daemon, meter(names.meter, kwh=1.0))

    again = daemon.request("POST", TELEMETRY, body=meter(names.meter, kwh=2.0))

    assert (201, {"accepted": 0, "duplicates": 1, "rejected": []}) == (again.status, again.json())


def test_good_readings_are_stored_beside_duplicates_and_bad_ones_which_are_named(
    daemon: Daemon, database: psycopg.Connection, names: Names
) -> None:
    post(daemon, meter(names.meter))
    future = datetime.now(UTC) + HOUR
    readings: list[object] = [
        meter(names.meter, NOON + MINUTE),
        {**meter(names.meter), "voltage": "230"},
        meter(names.meter),
        vehicle(names.vehicle),
        "a reading",
        meter(names.meter, NOON + MINUTE),
        {**vehicle(names.vehicle), "meterId": names.meter},
        meter(names.meter, future),
        {**meter(names.meter, NOON + 2 * MINUTE), "comment": "x" * 9000},
        {**meter(names.meter, NOON + 3 * MINUTE), "comment": "which nobody reads"},
    ]

    answer = daemon.request("POST", TELEMETRY, body=readings)

    body = answer.json()
    assert (201, 3, 2) == (answer.status, body["accepted"], body["duplicates"])
    assert [
        (1, "schema"),
        (4, "schema"),
        (6, "schema"),
        (7, "timestamp-out-of-range"),
        (8, "too-large"),
    ] == [(rejected["index"], rejected["reason"]) for rejected in body["rejected"]]
    assert all(rejected["detail"] for rejected in body["rejected"])
    assert "voltage" in body["rejected"][0]["detail"]
    stored = database.execute("SELECT ts FROM meter_history WHERE meter_id = %s ORDER BY ts", (names.meter,))
    assert [(NOON,), (NOON + MINUTE,), (NOON + 3 * MINUTE,)] == stored.fetchall()


def test_a_type_and_an_id_that_agree_are_welcome(daemon: Daemon, names: Names) -> None:
    post(daemon, {**meter(names.meter), "type": "meter"}, {**vehicle(names.vehicle), "type": "vehicle"})

    for stream, name in (("meter", names.meter), ("vehicle", names.vehicle)):
        assert 200 == daemon.request("GET", f"/v1/analytics/{stream}/{name}/live").status


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"kwhConsumedAc": -1}, "schema", id="figure out of range"),
        pytest.param({"kwhConsumedAc": True}, "schema", id="no number"),
        pytest.param({"kwhConsumedAc": float("nan")}, "schema", id="not a number"),
        pytest.param({"kwhConsumedAcRegister": 10_760.5}, "schema", id="interval and register"),
        pytest.param({"voltage": None}, "schema", id="null"),
        pytest.param({"timestamp": "2026-11-20T10:30:00"}, "schema", id="no offset"),
        pytest.param({"timestamp": "2020-01-01T00:00:00Z"}, "timestamp-out-of-range", id="old"),
        pytest.param({"meterId": "m/1"}, "schema", id="bad id"),
        pytest.param({"meterId": 7}, "schema", id="id is a number"),
        pytest.param({"vehicleId": "EV-1"}, "schema", id="both ids"),
        pytest.param({"type": "vehicle"}, "schema", id="type of the other kind"),
        pytest.param({"type": "toaster"}, "schema", id="unknown type"),
        pytest.param({"type": ["meter"]}, "schema", id="type is an array"),
        pytest.param({"type": {}}, "schema", id="type is an object"),
    ],
)
def test_a_single_bad_reading_is_422_with_the_reason_and_kept_as_a_dead_letter(
    daemon: Daemon, database: psycopg.Connection, names: Names, change: dict[str, Any], reason: str
) -> None:
    reading = {**meter(names.meter), "tag": names.meter, **change}

    answer = daemon.request("POST", TELEMETRY, body=reading)

    detail = assert_problem(answer, 422, reason=reason)
    kept = database.execute(
        "SELECT source, reason, detail FROM dead_letter WHERE position(%s IN payload) > 0", (names.meter.encode(),)
    ).fetchall()
    assert [("http", reason, detail)] == kept


@pytest.mark.parametrize("body", [b"1", b"null", b'"reading"', b"{}"])
def test_json_that_is_no_reading_is_422(daemon: Daemon, body: bytes) -> None:
    assert_problem(daemon.request("POST", TELEMETRY, body=body), 422, reason="schema")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff", b"meterId=m", b'{"meterId": "\\ud800"}', b"[" * 5000, b'{"voltage": ' + b"9" * 5000 + b"}"],
    ids=["nothing", "cut off", "no UTF-8", "a form", "half a character", "too deep", "a number too long"],
)
def test_what_is_not_json_is_400(daemon: Daemon, body: bytes) -> None:
    assert "not JSON" in assert_problem(daemon.request("POST", TELEMETRY, body=body), 400)


def test_an_empty_array_is_accepted(daemon: Daemon) -> None:
    answer = daemon.request("POST", TELEMETRY, body=[])

    assert (201, {"accepted": 0, "duplicates": 0, "rejected": []}) == (answer.status, answer.json())


def test_ten_thousand_readings_are_taken_in_one_request(
    daemon: Daemon, database: psycopg.Connection, names: Names
) -> None:
    post(daemon, *(meter(names.meter, NOON + number * timedelta(milliseconds=1)) for number in range(10_000)))

    stored = database.execute("SELECT count(*) FROM meter_history WHERE meter_id = %s", (names.meter,))
    assert [(10_000,)] == stored.fetchall()


def test_more_than_ten_thousand_readings_are_413(daemon: Daemon) -> None:
    assert "10001" in assert_problem(daemon.request("POST", TELEMETRY, body=[1] * 10_001), 413)


def test_four_mebibytes_are_taken_and_a_byte_more_is_413(daemon: Daemon) -> None:
    largest = b"[" + b" " * (4 * 1024 * 1024 - 2) + b"]"

    assert 201 == daemon.request("POST", TELEMETRY, body=largest).status
    assert_problem(daemon.request("POST", TELEMETRY, body=largest + b" "), 413)


def test_a_single_reading_of_nine_kibibytes_is_413(daemon: Daemon, names: Names) -> None:
    reading = {**meter(names.meter), "comment": "x" * 9 * 1024}

    assert_problem(daemon.request("POST", TELEMETRY, body=reading), 413, reason="too-large")


# GET /v1/analytics/.../live


def test_the_live_reading_is_the_newest_by_its_timestamp(daemon: Daemon, names: Names) -> None:
    before = datetime.now(UTC)
    post(daemon, vehicle(names.vehicle, soc=80.5, kwh=0.38, temperature=28.5), meter(names.meter, kwh=0.42))
    post(daemon, vehicle(names.vehicle, NOON - MINUTE, soc=1), meter(names.meter, NOON - MINUTE, kwh=9))

    of_vehicle = daemon.request("GET", f"/v1/analytics/vehicle/{names.vehicle}/live").json()
    of_meter = daemon.request("GET", f"/v1/analytics/meter/{names.meter}/live").json()

    for body in (of_vehicle, of_meter):
        received = body.pop("receivedAt")
        assert received.endswith("Z")
        assert before <= datetime.fromisoformat(received) <= datetime.now(UTC)
    assert {
        "vehicleId": names.vehicle,
        "soc": 80.5,
        "kwhDeliveredDc": 0.38,
        "batteryTemp": 28.5,
        "timestamp": rfc3339(NOON),
    } == of_vehicle
    assert {"meterId": names.meter, "kwhConsumedAc": 0.42, "voltage": 230.0, "timestamp": rfc3339(NOON)} == of_meter


def test_the_live_reading_has_the_interval_or_the_register_as_it_was_sent(daemon: Daemon, names: Names) -> None:
    def live() -> tuple[dict[str, Any], dict[str, Any]]:
        of_meter = daemon.request("GET", f"/v1/analytics/meter/{names.meter}/live").json()
        of_vehicle = daemon.request("GET", f"/v1/analytics/vehicle/{names.vehicle}/live").json()
        return (
            {key: of_meter[key] for key in of_meter if key.startswith("kwh")},
            {key: of_vehicle[key] for key in of_vehicle if key.startswith("kwh")},
        )

    post(daemon, meter(names.meter, register=10_760.5), vehicle(names.vehicle, kwh=0.0))
    assert ({"kwhConsumedAcRegister": 10_760.5}, {"kwhDeliveredDc": 0.0}) == live()

    post(daemon, meter(names.meter, NOON + MINUTE, kwh=0.25), vehicle(names.vehicle, NOON + MINUTE, register=0.0))
    assert ({"kwhConsumedAc": 0.25}, {"kwhDeliveredDcRegister": 0.0}) == live()


@pytest.mark.parametrize("route", ["vehicle/{}/live", "meter/{}/live", "performance/{}"])
def test_an_unknown_device_is_404_and_named(daemon: Daemon, names: Names, route: str) -> None:
    answer = daemon.request("GET", f"/v1/analytics/{route.format(names.vehicle)}")

    assert names.vehicle in assert_problem(answer, 404)


# GET /v1/analytics/performance


def test_performance_adds_up_what_lies_in_the_window(daemon: Daemon, names: Names) -> None:
    """A reading at the start tells what was before, and one at the end what was in it."""
    start, end = NOON, NOON + 4 * MINUTE
    map_vehicle(daemon, names.vehicle, names.meter, NOON - DAY)
    post(
        daemon,
        vehicle(names.vehicle, start, kwh=4, temperature=99),
        vehicle(names.vehicle, start + timedelta(microseconds=1), kwh=0.5, temperature=20),
        vehicle(names.vehicle, start + MINUTE, kwh=1.5, temperature=23),
        vehicle(names.vehicle, end, kwh=0.25, temperature=24.5),
        vehicle(names.vehicle, end + timedelta(microseconds=1), kwh=4, temperature=-50),
        meter(names.meter, start, kwh=4),
        meter(names.meter, start + MINUTE, kwh=2),
        meter(names.meter, end, kwh=0.5),
        meter(names.meter, end + timedelta(microseconds=1), kwh=4),
    )

    found = performance(daemon, names.vehicle, start, end)

    assert {"acConsumed": 2.5, "dcDelivered": 2.25, "efficiencyRatio": 0.9} == found["energy"]
    assert {"avgTemperature": 22.5} == found["battery"]
    assert {"vehicle": 3, "meter": 2} == found["samples"]


def test_performance_says_how_far_it_can_be_relied_on(daemon: Daemon, names: Names) -> None:
    """A reading every minute for three hours, but none of the vehicle in the second of them, and 10 minutes more."""
    start, end = NOON - 3 * HOUR, NOON
    map_vehicle(daemon, names.vehicle, names.meter, NOON - DAY)
    minutes = [start + number * MINUTE for number in range(181)]
    post(daemon, *(meter(names.meter, at, kwh=0.125) for at in minutes))
    post(daemon, *(vehicle(names.vehicle, at, kwh=0.109_375, temperature=25) for at in minutes[:61] + minutes[131:]))

    found = performance(daemon, names.vehicle, start, end)

    # AC: 180 * 0.125 kWh. DC: 110 * 7/64 kWh; compared are the quarters in which both report, but for 11:00 to 11:15,
    # which the vehicle does not know whole, and before which its meter shows a charge.
    assert {
        "vehicleId": names.vehicle,
        "timeRange": {"start": rfc3339(start), "end": rfc3339(end)},
        "energy": {"acConsumed": 22.5, "dcDelivered": 12.031_25, "efficiencyRatio": 0.875},
        "compared": {"acConsumed": 13.125, "dcDelivered": 11.484_375, "share": 0.583333333333},
        "battery": {"avgTemperature": 25.0},
        "meters": [
            {
                "meterId": names.meter,
                "from": rfc3339(start),
                "to": rfc3339(end),
                "acConsumed": 22.5,
                "shared": False,
            }
        ],
        "samples": {"vehicle": 110, "meter": 180},
        "coverage": 109 / 180,
        "gaps": {"count": 1, "longestSeconds": 71 * 60.0},
        "resets": 0,
        "excluded": 0,
        "status": "ok",
        "reason": "87.5% of the AC arrived",
        "threshold": 0.85,
    } == found


def test_performance_of_registers_counts_what_they_rose(daemon: Daemon, names: Names) -> None:
    """What a rise, a reset and all else is, and what it counts for, is shown in test_performance.py."""
    map_vehicle(daemon, names.vehicle, names.meter, NOON - DAY)
    of_meter = [1000.0, 1004.0, 0.5, 4.5]  # 4 kWh, a reset that shows half a kWh, 4 kWh
    of_vehicle = [10_760.0, 10_764.0, 500.0, 10_768.0]  # 4 kWh, a glitch, 4 kWh
    for number, (ac, dc) in enumerate(zip(of_meter, of_vehicle, strict=True)):
        at = NOON + number * MINUTE
        post(daemon, meter(names.meter, at, register=ac), vehicle(names.vehicle, at, register=dc))

    found = performance(daemon, names.vehicle, NOON, NOON + 4 * MINUTE)

    assert {"acConsumed": 8.5, "dcDelivered": 8.0, "efficiencyRatio": 0.941176470588} == found["energy"]
    assert (1, 1, 0.75, "ok") == tuple(found[name] for name in ("resets", "excluded", "coverage", "status"))


def test_a_meter_shared_by_vehicles_gives_to_each_by_what_it_took_in_the_quarter(daemon: Daemon, names: Names) -> None:
    other = f"{names.vehicle}-other"
    map_vehicle(daemon, names.vehicle, names.meter, NOON - DAY)
    map_vehicle(daemon, other, names.meter, NOON)
    post(
        daemon,
        meter(names.meter, NOON, kwh=5),  # all to the first, as the other was not there yet
        meter(names.meter, NOON + 14 * MINUTE, kwh=8),
        vehicle(names.vehicle, NOON + 10 * MINUTE, kwh=4.5),  # three quarters of the DC, of 8 kWh AC: 6 kWh
        vehicle(other, NOON + 12 * MINUTE, kwh=1.5),  # one quarter: 2 kWh
        meter(names.meter, NOON + 16 * MINUTE, kwh=2),  # nobody took anything in this quarter: 1 kWh each
    )

    found = [performance(daemon, name, NOON - HOUR, NOON + 2 * HOUR) for name in (names.vehicle, other)]

    assert [[(12.0, True)], [(3.0, True)]] == [
        [(share["acConsumed"], share["shared"]) for share in answer["meters"]] for answer in found
    ]
    assert [12.0, 3.0] == [answer["energy"]["acConsumed"] for answer in found]


def test_each_meter_counts_for_the_time_it_fed_the_vehicle(daemon: Daemon, names: Names) -> None:
    start, change, end = NOON, NOON + 2 * MINUTE, NOON + 4 * MINUTE
    map_vehicle(daemon, names.vehicle, names.meter, NOON - DAY)
    map_vehicle(daemon, names.vehicle, names.other_meter, change)
    post(
        daemon,
        *by_the_minute(vehicle, names.vehicle, 3.5),
        meter(names.meter, start + MINUTE, kwh=1),
        meter(names.meter, change, kwh=0),
        meter(names.meter, change + MINUTE, kwh=4),
        meter(names.other_meter, change, kwh=4),
        meter(names.other_meter, change + MINUTE, kwh=1),
        meter(names.other_meter, end, kwh=2),
    )

    found = performance(daemon, names.vehicle, start, end)

    assert [
        (names.meter, rfc3339(start), rfc3339(change), 1.0),
        (names.other_meter, rfc3339(change), rfc3339(end), 3.0),
    ] == [(share["meterId"], share["from"], share["to"], share["acConsumed"]) for share in found["meters"]]
    assert {"acConsumed": 4.0, "dcDelivered": 3.5, "efficiencyRatio": 0.875} == found["energy"]
    assert {"vehicle": 4, "meter": 4} == found["samples"]


NO_AC = "0 kWh of AC can be compared, at least 0.5 needed"


@pytest.mark.parametrize(
    ("ac", "dc", "ratio", "status", "reason"),
    [
        pytest.param(1.0, 0.9, 0.9, "ok", "90.0% of the AC arrived", id="ok"),
        pytest.param(
            2.0, 1.5, 0.75, "below-threshold", "75.0% of the AC arrived, 85.0% expected", id="below the threshold"
        ),
        pytest.param(1.0, 1.5, 1.5, "implausible", "more DC than AC: 1.500 of 1.000 kWh", id="above one"),
        pytest.param(None, 1.0, None, "insufficient-data", NO_AC, id="no meter reading"),
        pytest.param(1.0, None, None, "insufficient-data", NO_AC, id="no vehicle reading"),
    ],
)
def test_performance_is_judged_and_says_why(
    daemon: Daemon,
    names: Names,
    *,
    ac: float | None,
    dc: float | None,
    ratio: float | None,
    status: str,
    reason: str,
) -> None:
    map_vehicle(daemon, names.vehicle, names.meter, NOON - DAY)
    if ac is not None:
        post(daemon, *by_the_minute(meter, names.meter, ac))
    if dc is not None:
        post(daemon, *by_the_minute(vehicle, names.vehicle, dc))

    found = performance(daemon, names.vehicle, NOON, NOON + 4 * MINUTE)

    assert {"acConsumed": ac or 0.0, "dcDelivered": dc or 0.0, "efficiencyRatio": ratio} == found["energy"]
    assert (status, reason, 0.85) == (found["status"], found["reason"], found["threshold"])
    assert {"vehicle": 4 * (dc is not None), "meter": 4 * (ac is not None)} == found["samples"]


def test_a_vehicle_may_have_a_threshold_of_its_own(daemon: Daemon, database: psycopg.Connection, names: Names) -> None:
    map_vehicle(daemon, names.vehicle, names.meter, NOON - DAY)
    post(daemon, *by_the_minute(vehicle, names.vehicle, 1.5), *by_the_minute(meter, names.meter, 2))
    database.execute("INSERT INTO device_setting VALUES ('vehicle', %s, 0.75)", (names.vehicle,))

    found = performance(daemon, names.vehicle, NOON, NOON + 4 * MINUTE)

    assert ("ok", 0.75, "75.0% of the AC arrived") == (found["status"], found["threshold"], found["reason"])


def test_a_vehicle_without_a_meter_is_unmapped(daemon: Daemon, names: Names) -> None:
    post(daemon, vehicle(names.vehicle, NOON + MINUTE, kwh=2.0), meter(names.meter))

    found = performance(daemon, names.vehicle, NOON, NOON + HOUR)

    assert ("unmapped", [], None, "no meter is mapped to the vehicle in this window") == (
        found["status"],
        found["meters"],
        found["compared"],
        found["reason"],
    )
    assert {"acConsumed": 0.0, "dcDelivered": 2.0, "efficiencyRatio": None} == found["energy"]


def test_a_vehicle_known_only_by_its_mapping_is_no_404(daemon: Daemon, names: Names) -> None:
    map_vehicle(daemon, names.vehicle, names.meter, NOON - DAY)

    found = performance(daemon, names.vehicle, NOON, NOON + HOUR)

    assert ("insufficient-data", None) == (found["status"], found["battery"]["avgTemperature"])


def quarter_before(at: datetime) -> datetime:
    return at.replace(minute=at.minute // 15 * 15, second=0, microsecond=0)


@pytest.mark.parametrize("given", [(), ("startTime",), ("endTime",)], ids=["neither", "only the start", "only the end"])
def test_a_window_is_of_the_last_day_from_a_whole_quarter_of_an_hour_where_nothing_else_is_said(
    daemon: Daemon, names: Names, given: tuple[str, ...]
) -> None:
    now = datetime.now(UTC)
    post(daemon, *(vehicle(names.vehicle, now - age) for age in (MINUTE, 23 * HOUR, 25 * HOUR)))
    query = urlencode({"startTime": rfc3339(now - 12 * HOUR), "endTime": rfc3339(now - 2 * HOUR)})
    kept = "&".join(part for part in query.split("&") if part.startswith(given or "none of them"))

    found = daemon.request("GET", f"/v1/analytics/performance/{names.vehicle}?{kept}").json()

    start, end = (datetime.fromisoformat(found["timeRange"][name]) for name in ("start", "end"))
    if "endTime" in given:
        assert (now - 2 * HOUR - DAY, now - 2 * HOUR) == (start, end)
    else:
        assert now <= end <= datetime.now(UTC)
        assert (now - 12 * HOUR if "startTime" in given else quarter_before(end) - DAY) == start
    assert {(): 2, ("startTime",): 1, ("endTime",): 2}[given] == found["samples"]["vehicle"]


def test_a_plus_sign_need_not_be_escaped(daemon: Daemon, names: Names) -> None:
    post(daemon, vehicle(names.vehicle))
    query = "startTime=2026-11-20T00:00:00+05:30&endTime=2026-11-20T10:00:00%2B05:30"

    found = daemon.request("GET", f"/v1/analytics/performance/{names.vehicle}?{query}").json()

    assert {"start": "2026-11-19T18:30:00Z", "end": "2026-11-20T04:30:00Z"} == found["timeRange"]


@pytest.mark.parametrize("route", ["performance/EV-101", "fleet"])
@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("startTime=2026-11-20T10:00:00Z&endTime=2026-11-20T09:00:00Z", "endTime"),
        ("startTime=2026-11-20T10:00:00Z&endTime=2026-11-20T10:00:00Z", "endTime"),
        ("startTime=2999-01-01T00:00:00Z", "endTime"),
        ("startTime=yesterday", "startTime"),
        ("endTime=1700000000", "endTime"),
        ("startTime=", "startTime"),
        ("startTime=2026-11-20T10:00:00", "startTime"),
        ("endTime=2026-11-20", "endTime"),
        ("endTime=2026-02-30T10:00:00Z", "endTime"),
        ("endTime=0001-01-01T00:00:00%2B01:00", "endTime"),
        ("startTime=2026-11-20T10:00:00Z&startTime=2026-11-20T10:00:00Z", "startTime"),
        ("endTime=2026-11-20T10:00:00Z&endTime=x", "endTime"),
        ("startTime=1926-11-20T10:00:00Z&endTime=2026-11-20T10:00:00Z", "startTime"),
        ("starttime=2026-11-20T10:00:00Z", "starttime"),
        ("limit=3", "limit"),
    ],
)
def test_a_bad_window_is_400_and_names_the_parameter(daemon: Daemon, route: str, query: str, parameter: str) -> None:
    answer = daemon.request("GET", f"/v1/analytics/{route}?{query}")

    assert assert_problem(answer, 400, parameter=parameter).startswith(f"{parameter}: ")


@pytest.mark.parametrize("segment", ["EV%20101", "EV%2F101", "E" * 65, "%00", "%FF", "m%C3%A8tre", "*"])
@pytest.mark.parametrize(
    ("method", "route", "parameter"),
    [
        ("GET", "performance/{}", "vehicleId"),
        ("GET", "vehicle/{}/live", "vehicleId"),
        ("GET", "meter/{}/live", "meterId"),
        ("GET", "mappings/{}", "vehicleId"),
        ("DELETE", "mappings/{}", "vehicleId"),
    ],
)
def test_a_bad_id_is_400_and_names_the_parameter(
    daemon: Daemon, method: str, route: str, parameter: str, segment: str
) -> None:
    answer = daemon.request(method, f"/v1/analytics/{route.format(segment)}")

    assert_problem(answer, 400, parameter=parameter)


# GET /v1/analytics/fleet


def fleet(daemon: Daemon, start: datetime, end: datetime, *, ac: float, dc: float) -> dict[str, Any]:
    """What is said of the fleet once it says so much of both: of late readings within seconds."""
    query = urlencode({"startTime": rfc3339(start), "endTime": rfc3339(end)})

    def asked_anew() -> dict[str, Any] | None:
        answer = daemon.request("GET", f"/v1/analytics/fleet?{query}", headers={"Cache-Control": "no-cache"})
        assert 200 == answer.status, answer.body
        body: dict[str, Any] = answer.json()
        return body if (body["energy"]["acConsumed"], body["energy"]["dcDelivered"]) == (ac, dc) else None

    found = until(asked_anew)
    assert found is not None
    return found


def test_the_fleet_is_all_meters_and_all_vehicles_in_the_window(daemon: Daemon, names: Names) -> None:
    start = NOON - 80 * DAY  # when no other test's devices were about
    end = start + HOUR
    post(
        daemon,
        meter(names.meter, start + MINUTE, kwh=1),
        meter(names.meter, start + 2 * MINUTE, kwh=2),
        meter(names.other_meter, start, kwh=64),
        meter(names.other_meter, end, kwh=1),
        meter("of-nobody", end + MINUTE, kwh=64),
        vehicle(names.vehicle, end, kwh=3.5),
        vehicle("of-nobody", start, kwh=64),
    )

    found = fleet(daemon, start, end, ac=4.0, dc=3.5)

    assert datetime.now(UTC) - datetime.fromisoformat(found.pop("asOf")) < MINUTE
    nothing = {"acConsumed": 0.0, "dcDelivered": 0.0}
    assert {
        "timeRange": {"start": rfc3339(start), "end": rfc3339(end)},
        "energy": {"acConsumed": 4.0, "dcDelivered": 3.5, "efficiencyRatio": 0.875},
        "devices": {"meters": 2, "vehicles": 1},
        "mapped": {**nothing, "efficiencyRatio": None, "lossKwh": 0.0, "compared": {**nothing, "share": 1.0}},
        "vehicles": {"ok": 0, "below-threshold": 0, "insufficient-data": 0, "unmapped": 1, "implausible": 0},
        "worst": [],
    } == found


def test_the_fleet_says_what_mapped_vehicles_make_of_their_meters_and_which_are_worst(
    daemon: Daemon, names: Names
) -> None:
    start = NOON - 79 * DAY  # when no other test's devices were about
    pairs = {  # AC, DC; of which the last has too little AC
        "good": (2.0, 1.75),
        "bad": (2.0, 1.5),
        "implausible": (1.0, 1.5),
        "idle": (0.25, 0.125),
    }
    for name, (ac, dc) in pairs.items():
        map_vehicle(daemon, f"{names.vehicle}-{name}", f"{names.meter}-{name}", start - HOUR)
        post(daemon, *by_the_minute(meter, f"{names.meter}-{name}", ac, start=start))
        post(daemon, *by_the_minute(vehicle, f"{names.vehicle}-{name}", dc, start=start))
    at = start + MINUTE
    post(daemon, meter(names.meter, at, kwh=1), vehicle(names.vehicle, at, kwh=4))  # these are of no pair

    found = fleet(daemon, start, start + 4 * MINUTE, ac=6.25, dc=8.875)

    # AC of pairs: 2 + 2 + 1 + 0.25 = 5.25 kWh. DC: 1.75 + 1.5 + 1.5 + 0.125 = 4.875 kWh.
    assert {"acConsumed": 6.25, "dcDelivered": 8.875, "efficiencyRatio": 1.42} == found["energy"]
    assert {"meters": 5, "vehicles": 5} == found["devices"]
    assert {
        "acConsumed": 5.25,
        "dcDelivered": 4.875,
        "efficiencyRatio": round(4.875 / 5.25, 12),
        "lossKwh": 0.375,
        "compared": {"acConsumed": 5.25, "dcDelivered": 4.875, "share": 1.0},
    } == found["mapped"]
    assert {
        "ok": 1,
        "below-threshold": 1,
        "insufficient-data": 1,
        "unmapped": 1,
        "implausible": 1,
    } == found["vehicles"]
    assert [
        {
            "vehicleId": f"{names.vehicle}-{name}",
            "efficiencyRatio": pairs[name][1] / pairs[name][0],
            "acConsumed": pairs[name][0],
            "dcDelivered": pairs[name][1],
        }
        for name in ("bad", "good", "implausible")
    ] == found["worst"]


def test_a_fleet_of_nobody_has_no_ratio(daemon: Daemon) -> None:
    found = daemon.request("GET", "/v1/analytics/fleet?endTime=2001-01-01T00:00:00Z").json()

    assert {"acConsumed": 0.0, "dcDelivered": 0.0, "efficiencyRatio": None} == found["energy"]
    assert {"meters": 0, "vehicles": 0} == found["devices"]
    assert ({0}, []) == (set(found["vehicles"].values()), found["worst"])


# What is not there


@pytest.mark.parametrize(
    "path", ["/nowhere", "/v1", "/v1/telemetry/", "/health/", "/v1/analytics/performance/", "/..%2Fetc"]
)
def test_an_unknown_route_is_404(daemon: Daemon, path: str) -> None:
    assert_problem(daemon.request("GET", path), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", TELEMETRY, {"POST"}),
        ("DELETE", "/health", {"GET", "HEAD"}),
        ("POST", "/metrics", {"GET", "HEAD"}),
        ("PATCH", f"{MAPPINGS}/EV-101", {"DELETE", "GET", "HEAD", "PUT"}),
        ("PUT", MAPPINGS, {"POST"}),
    ],
)
def test_a_wrong_method_is_405_and_told_the_right_ones(
    daemon: Daemon, method: str, path: str, allowed: set[str]
) -> None:
    answer = daemon.request(method, path)

    assert_problem(answer, 405)
    assert allowed == set(answer.headers["allow"].split(","))


# Health and metrics


def test_livez_is_200(daemon: Daemon) -> None:
    answer = daemon.request("GET", "/livez")

    assert (200, {"status": "alive"}) == (answer.status, answer.json())


def test_health_says_how_it_is(daemon: Daemon, names: Names) -> None:
    post(daemon, meter(names.meter))

    answer = daemon.request("GET", "/health")

    health = answer.json()
    at = datetime.fromisoformat(health.pop("timestamp"))
    age = health.pop("lastCommitAgeSeconds")
    assert isinstance(health.pop("lastErrors"), list)
    assert 1 <= health.pop("receivedMessages")
    assert 200 == answer.status
    assert {
        "status": "healthy",
        "database": "connected",
        "broker": "connected",
        "archive": None,
        "replica": None,
        "replicaLagSeconds": None,
        "stopping": False,
        "bufferedMessages": 0,
        "sessions": [
            {
                "session": "ingestd",
                "holder": "this daemon",
                "left": False,
                "reason": None,
                "inFlight": 0,
                "freeSeconds": 0.0,
            }
        ],
    } == health
    assert abs(datetime.now(UTC) - at) < MINUTE
    assert 0 <= age < FLUSH_INTERVAL


def read_balance(daemon: Daemon) -> Counter[tuple[str, str, str]]:
    """(heading, stream, source) -> readings."""
    answer = daemon.request("GET", "/metrics")
    assert "text/plain; version=0.0.4; charset=utf-8" == answer.headers["content-type"]
    return by_heading(text_string_to_metric_families(answer.body.decode()))


def test_requests_are_counted_by_route_and_not_by_path(daemon: Daemon) -> None:
    route = {"route": "/v1/analytics/meter/{meterId}/live", "method": "GET"}
    before = daemon.metric("ingestd_http_requests_total", **route, status="4xx")
    unrouted = daemon.metric("ingestd_http_requests_total", route="none", method="other", status="4xx")

    for number in range(3):
        assert 404 == daemon.request("GET", f"/v1/analytics/meter/nobody-{number}/live").status
        assert 404 == daemon.request("SEARCH", f"/no/such/path/{number}").status

    assert 3 == daemon.metric("ingestd_http_requests_total", **route, status="4xx") - before
    assert 3 <= daemon.metric("ingestd_http_request_seconds_count", **route)
    assert 3 == daemon.metric("ingestd_http_requests_total", route="none", method="other", status="4xx") - unrouted
    assert b"nobody" not in daemon.request("GET", "/metrics").body


def test_each_message_is_counted_in_the_times_from_receipt_to_commit(daemon: Daemon, names: Names) -> None:
    def counted() -> float:
        return daemon.metric("ingestd_receipt_to_commit_seconds_count", source="http")

    before = counted()
    seconds = daemon.metric("ingestd_receipt_to_commit_seconds_sum", source="http")
    body: list[object] = [meter(names.meter, NOON), meter(names.meter, NOON), {"no": "reading"}]
    started = time.monotonic()

    assert 201 == daemon.request("POST", TELEMETRY, body=body).status

    until(lambda: counted() - before == 3)
    passed = time.monotonic() - started
    assert 0 < daemon.metric("ingestd_receipt_to_commit_seconds_sum", source="http") - seconds <= 3 * passed


def test_every_route_is_counted_from_the_start_and_promtool_finds_nothing(daemon: Daemon) -> None:
    exposition = daemon.request("GET", "/metrics").body

    assert b'ingestd_http_requests_total{method="DELETE",route="/v1/analytics/mappings/{vehicleId}",' in exposition
    assert 1.0 == daemon.metric("ingestd_ready")
    assert 0.0 == daemon.metric("ingestd_backlog")
    if IS_MISSING:
        pytest.skip(MISSING)
    assert "" == promtool("check", "metrics", given=exposition)


def test_the_counters_balance_at_all_times_under_load(daemon: Daemon, broker: PrivateMosquitto, names: Names) -> None:
    before = read_balance(daemon)
    rounds, size = 15, 200
    done = threading.Event()
    sampled = threading.Semaphore(0)
    """One for each sample: a round of posts waits for it, so that there are samples however busy the machine is."""

    def post_all() -> None:
        for number in range(rounds):
            assert sampled.acquire(timeout=30)
            at = [NOON + (number * size + n) * timedelta(milliseconds=1) for n in range(size)]
            body: list[object] = [meter(names.meter, moment_) for moment_ in at]
            body += [vehicle(names.vehicle, at[0]), vehicle(names.vehicle, at[0]), {"no": "reading"}]
            assert 201 == daemon.request("POST", TELEMETRY, body=body).status

    def publish_all() -> None:
        with Device(broker.url) as device:
            for number in range(rounds):
                at = [NOON + (number * size + n) * timedelta(milliseconds=1) for n in range(size)]
                messages = [vehicle_message(f"{names.vehicle}-mqtt", moment_) for moment_ in at]
                messages += [meter_message(f"{names.meter}-mqtt", NOON), (f"meters/{names.meter}/telemetry", b"{")]
                acknowledged = device.publish_many(messages)
                assert len(messages) == len(acknowledged)

    def sample_all() -> tuple[int, int]:
        samples = held = 0
        try:
            while not done.is_set():
                counts = read_balance(daemon)
                assert_counts_balanced(counts)
                samples += 1
                held += any(count for (heading, *_), count in counts.items() if heading == "in_flight")
                sampled.release()
        finally:
            sampled.release(rounds)  # what is wrong with the samples is told by their own error
        return samples, held

    with ThreadPoolExecutor(3) as pool:
        sampling = pool.submit(sample_all)
        loads = [pool.submit(post_all), pool.submit(publish_all)]
        try:
            for load in loads:
                load.result()
        finally:
            done.set()
        samples, held = sampling.result()
    assert samples > 10
    assert held > 0

    def all_received() -> bool:
        return (
            read_balance(daemon)["received", "vehicle", "mqtt"] - before["received", "vehicle", "mqtt"] == rounds * size
        )

    until(all_received)
    post(daemon, meter(names.other_meter))  # brings the last flush forward
    until(lambda: not daemon.metric("ingestd_in_flight"))
    after = read_balance(daemon)
    after.subtract(before)
    assert_counts_balanced(after)
    assert {
        ("received", "meter", "http"): rounds * size + 1,
        ("committed", "meter", "http"): rounds * size + 1,
        ("received", "vehicle", "http"): 2 * rounds,
        ("committed", "vehicle", "http"): rounds,
        ("duplicate", "vehicle", "http"): rounds,
        ("received", "unknown", "http"): rounds,
        ("dead_lettered", "unknown", "http"): rounds,
        ("received", "vehicle", "mqtt"): rounds * size,
        ("committed", "vehicle", "mqtt"): rounds * size,
        ("received", "meter", "mqtt"): 2 * rounds,
        ("committed", "meter", "mqtt"): 1,
        ("duplicate", "meter", "mqtt"): rounds - 1,
        ("dead_lettered", "meter", "mqtt"): rounds,
    } == {key: count for key, count in after.items() if count}


def test_dead_letters_are_counted_by_reason(daemon: Daemon, names: Names) -> None:
    def count(reason: str) -> float:
        return daemon.metric("ingestd_dead_lettered_total", source="http", reason=reason)

    before = {reason: count(reason) for reason in ("schema", "too-large")}

    daemon.request("POST", TELEMETRY, body=[{}, {}, {**meter(names.meter), "comment": "x" * 9000}])

    assert {"schema": before["schema"] + 2, "too-large": before["too-large"] + 1} == {r: count(r) for r in before}


# When something is away


def answer_of(ask: Callable[[], Response]) -> Response | None:
    """None while nobody answers."""
    try:
        return ask()
    except (OSError, HTTPException):
        return None


def test_without_a_broker_health_is_503_and_readings_are_taken_by_http(database_url: str, names: Names) -> None:
    with PrivateMosquitto() as broker, Daemon(mqtt_url=broker.url, database_url=database_url) as daemon:
        daemon.wait_healthy()
        broker.stop()

        def unhealthy() -> dict[str, Any]:
            answer = daemon.request("GET", "/health")
            assert 503 == answer.status
            body: dict[str, Any] = answer.json()
            return body

        health = until(unhealthy)
        assert ("unhealthy", "connected") == (health["status"], health["database"])
        assert "connected" != health["broker"]
        post(daemon, meter(names.meter))

        broker.start()
        daemon.wait_healthy()


def test_without_a_database_answers_are_503_until_it_is_back(
    broker: PrivateMosquitto, own_postgres: PrivatePostgres, own_database_url: str, names: Names
) -> None:
    # Without the probe, whose flush may be the first to find the database away.
    settings: dict[str, str | float] = {
        "mqtt_client_id": "without-a-database",
        "mqtt_probe": "false",
        "flush_interval": 0.1,
    }
    with (
        Daemon(mqtt_url=broker.url, database_url=own_database_url, **settings) as daemon,
        ThreadPoolExecutor(8) as pool,
    ):
        daemon.wait_healthy()
        own_postgres.stop()
        # It was sent before anybody knew, so it waits for the database, and is in time for it.
        waiting = pool.submit(daemon.request, "POST", TELEMETRY, body=meter(names.meter))
        until(lambda: daemon.metric("ingestd_flush_retries_total"))

        refused = [
            pool.submit(daemon.request, "POST", TELEMETRY, body=meter(names.other_meter)),
            pool.submit(daemon.request, "POST", MAPPINGS, body={"vehicleId": "v", "meterId": "m"}),
            pool.submit(daemon.request, "GET", f"/v1/analytics/performance/{names.vehicle}"),
            pool.submit(daemon.request, "GET", f"/v1/analytics/meter/{names.meter}/live"),
            pool.submit(daemon.request, "GET", "/v1/analytics/fleet"),
        ]
        health = pool.submit(daemon.request, "GET", "/health")

        assert 200 == daemon.request("GET", "/livez").status
        for request in refused:
            assert_problem(request.result(), 503)
            assert int(request.result().headers["retry-after"]) > 0
        assert (503, "unhealthy") == (health.result().status, health.result().json()["status"])
        assert "connected" != health.result().json()["database"]
        assert "connected" == health.result().json()["broker"]

        own_postgres.start()

        assert (201, 1) == (waiting.result().status, waiting.result().json()["accepted"])
        until(lambda: daemon.request("POST", TELEMETRY, body=meter(names.other_meter)).status == 201)
        until(lambda: daemon.request("GET", f"/v1/analytics/meter/{names.meter}/live").status == 200)
        daemon.wait_healthy()
