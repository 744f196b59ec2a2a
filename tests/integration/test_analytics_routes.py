# ruff: noqa: SIM300 - expected == actual
"""Series, totals, sessions, lists and device settings over HTTP: how they are asked for, and how the answers look."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from ingestd.demo.servers import PrivateMosquitto
from tests.support.api import Names, assert_problem, map_vehicle
from tests.support.daemon import Daemon
from tests.support.polling import until
from tests.support.readings import ledger_has_begun, meter_message, rfc3339, vehicle_message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.daemon import Response

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - 2 * DAY
SETTINGS = "/v1/devices/{kind}/{id}/settings"


@pytest.fixture(scope="module")
def broker() -> Iterator[PrivateMosquitto]:
    with PrivateMosquitto() as server:
        yield server


@pytest.fixture(scope="module")
def daemon(broker: PrivateMosquitto, shared_database_url: str) -> Iterator[Daemon]:
    with Daemon(mqtt_url=broker.url, database_url=shared_database_url) as daemon:
        daemon.wait_healthy()
        until(lambda: ledger_has_begun(shared_database_url))
        yield daemon


@pytest.fixture
def names() -> Names:
    return Names()


def meter(meter_id: str, at: datetime, **figures: float) -> dict[str, Any]:
    reading: dict[str, Any] = json.loads(meter_message(meter_id, at, **figures)[1])
    return reading


def vehicle(vehicle_id: str, at: datetime, **figures: float) -> dict[str, Any]:
    reading: dict[str, Any] = json.loads(vehicle_message(vehicle_id, at, **figures)[1])
    return reading


def post(daemon: Daemon, *readings: dict[str, Any]) -> None:
    answer = daemon.request("POST", "/v1/telemetry", body=list(readings))
    assert (201, len(readings)) == (answer.status, answer.json()["accepted"]), answer.body


def ask(daemon: Daemon, path: str, **query: str | datetime) -> Response:
    told = {name: rfc3339(value) if isinstance(value, datetime) else value for name, value in query.items()}
    return daemon.request("GET", f"{path}?{urlencode(told)}")


def anew(daemon: Daemon, path: str, **query: str | datetime) -> dict[str, Any]:
    """Not as it was answered to others."""
    told = {name: rfc3339(value) if isinstance(value, datetime) else value for name, value in query.items()}
    answer = daemon.request("GET", f"{path}?{urlencode(told)}", headers={"Cache-Control": "no-cache"})
    assert 200 == answer.status, answer.body
    body: dict[str, Any] = answer.json()
    return body


def get(daemon: Daemon, path: str, **query: str | datetime) -> dict[str, Any]:
    answer = ask(daemon, path, **query)
    assert 200 == answer.status, answer.body
    body: dict[str, Any] = answer.json()
    return body


# Series


def test_the_series_of_a_device(daemon: Daemon, names: Names) -> None:
    window = {"startTime": NOON, "endTime": NOON + 30 * MINUTE}
    post(daemon, vehicle(names.vehicle, NOON + MINUTE, kwh=0.5, soc=40, temperature=21))
    post(daemon, meter(names.meter, NOON + 20 * MINUTE, kwh=0.25, voltage=228))

    of_vehicle = get(daemon, f"/v1/analytics/vehicle/{names.vehicle}/series", bucket="15m", **window)
    of_meter = get(daemon, f"/v1/analytics/meter/{names.meter}/series", bucket="15m", **window)

    time_range = {"start": rfc3339(NOON), "end": rfc3339(NOON + 30 * MINUTE)}
    told = {"bucket": "15m", "timeZone": "UTC", "timeRange": time_range}
    empty = {"kwh": None, "kw": None, "spread": False, "samples": 0}
    assert {
        "vehicleId": names.vehicle,
        **told,
        "points": [
            {
                "start": rfc3339(NOON),
                "kwh": 0.5,
                "kw": 2.0,
                "spread": False,
                "soc": 40.0,
                "batteryTemp": 21.0,
                "samples": 1,
            },
            {"start": rfc3339(NOON + 15 * MINUTE), **empty, "soc": None, "batteryTemp": None},
        ],
    } == of_vehicle
    assert {
        "meterId": names.meter,
        **told,
        "points": [
            {"start": rfc3339(NOON), **empty, "voltage": None},
            {
                "start": rfc3339(NOON + 15 * MINUTE),
                "kwh": 0.25,
                "kw": 1.0,
                "spread": False,
                "voltage": 228.0,
                "samples": 1,
            },
        ],
    } == of_meter


@pytest.mark.parametrize(
    ("days", "bucket", "points"), [(1, "15m", 97), (20, "15m", 1921), (21, "30m", 1009), (365, "6h", 1461)]
)
def test_a_bucket_is_a_quarter_of_an_hour_unless_that_is_too_small(
    daemon: Daemon, names: Names, days: int, bucket: str, points: int
) -> None:
    post(daemon, vehicle(names.vehicle, NOON))

    for path in (f"/v1/analytics/vehicle/{names.vehicle}/series", "/v1/analytics/fleet/series"):
        found = get(daemon, path, startTime=NOON + MINUTE - days * DAY, endTime=NOON + MINUTE)

        assert (bucket, points) == (found["bucket"], len(found["points"]))


@pytest.mark.parametrize(
    ("path", "length", "bucket", "smallest"),
    [
        ("vehicle/v/series", DAY, "30s", "1m"),
        ("fleet/series", DAY, "30s", "1m"),
        ("fleet/series", 2 * DAY, "30s", "15m"),
        ("fleet/series", 2 * DAY, "20m", "15m"),
        ("fleet/series", 21 * DAY, "15m", "30m"),
    ],
)
def test_a_bucket_that_is_too_small_is_refused_with_one_that_will_do(
    daemon: Daemon, path: str, length: timedelta, bucket: str, smallest: str
) -> None:
    post(daemon, vehicle("v", datetime.now(UTC)))
    window = {"startTime": NOON - length, "endTime": NOON}

    refused = ask(daemon, f"/v1/analytics/{path}", bucket=bucket, **window)

    assert_problem(refused, 400, parameter="bucket", smallestBucket=smallest)
    assert smallest == get(daemon, f"/v1/analytics/{path}", bucket=smallest, **window)["bucket"]


def test_buckets_of_days_are_days_of_the_time_zone(daemon: Daemon, names: Names) -> None:
    window: dict[str, str | datetime] = {"startTime": NOON, "endTime": NOON + 2 * DAY, "bucket": "1d"}
    midnight = NOON - 17 * HOUR - 45 * MINUTE  # in Kathmandu, at 18:15Z
    post(daemon, meter(names.meter, midnight + DAY - MINUTE, kwh=1), meter(names.meter, midnight + DAY + MINUTE, kwh=2))

    for path, figure in ((f"/v1/analytics/meter/{names.meter}/series", "kwh"), ("/v1/analytics/fleet/series", None)):
        found = get(daemon, path, timeZone="Asia/Kathmandu", **window)
        in_utc = get(daemon, path, **window)

        assert ("1d", "Asia/Kathmandu") == (found["bucket"], found["timeZone"])
        assert [rfc3339(midnight + number * DAY) for number in range(3)] == [
            point["start"] for point in found["points"]
        ]
        assert ("1d", "UTC") == (in_utc["bucket"], in_utc["timeZone"])
        assert [rfc3339(NOON - 12 * HOUR + n * DAY) for n in range(3)] == [point["start"] for point in in_utc["points"]]
        if figure:
            assert [1.0, 2.0, None] == [point[figure] for point in found["points"]]
            assert [3.0, None, None] == [point[figure] for point in in_utc["points"]]


def test_days_of_a_zone_that_begin_within_a_quarter_of_an_hour_are_refused_for_the_fleet(
    daemon: Daemon, names: Names
) -> None:
    """Until 1972, Monrovia was 44 min 30 s behind."""
    post(daemon, vehicle(names.vehicle, NOON))
    zone = {"bucket": "1d", "timeZone": "Africa/Monrovia", "startTime": "1970-06-01T00:00:00Z"}
    month, hour = "1970-07-01T00:00:00Z", "1970-06-01T01:00:00Z"

    refused = ask(daemon, "/v1/analytics/fleet/series", endTime=month, **zone)

    assert "Africa/Monrovia" in assert_problem(refused, 400, parameter="timeZone")
    of_device = get(daemon, f"/v1/analytics/vehicle/{names.vehicle}/series", endTime=month, **zone)
    assert (31, "1970-05-31T00:44:30Z") == (len(of_device["points"]), of_device["points"][0]["start"])
    assert 2 == len(get(daemon, "/v1/analytics/fleet/series", endTime=hour, **zone)["points"])
    assert 30 == len(get(daemon, "/v1/analytics/fleet/series", endTime=month, **(zone | {"timeZone": "UTC"}))["points"])


def test_the_series_of_the_fleet_adds_up_to_the_fleet(daemon: Daemon, names: Names) -> None:
    start = NOON - 60 * DAY  # when no other test's devices were about
    window = {"startTime": start, "endTime": start + HOUR}
    post(
        daemon,
        meter(names.meter, start + MINUTE, kwh=1),
        meter(names.meter, start + 15 * MINUTE, kwh=2),
        meter(names.other_meter, start + HOUR, kwh=4),
        vehicle(names.vehicle, start + 20 * MINUTE, kwh=3),
    )
    path = "/v1/analytics/fleet"

    def energy() -> tuple[float, float]:
        found = anew(daemon, path, **window)["energy"]
        return found["acConsumed"], found["dcDelivered"]

    until(lambda: energy() == (7.0, 3.0))  # readings of 60 days ago are late

    found = anew(daemon, f"{path}/series", bucket="15m", **window)

    assert datetime.now(UTC) - datetime.fromisoformat(found.pop("asOf")) < MINUTE
    assert {
        "bucket": "15m",
        "timeZone": "UTC",
        "timeRange": {"start": rfc3339(start), "end": rfc3339(start + HOUR)},
        "points": [
            {"start": rfc3339(start), "acConsumed": 3.0, "dcDelivered": None},
            {"start": rfc3339(start + 15 * MINUTE), "acConsumed": None, "dcDelivered": 3.0},
            {"start": rfc3339(start + 30 * MINUTE), "acConsumed": None, "dcDelivered": None},
            {"start": rfc3339(start + 45 * MINUTE), "acConsumed": 4.0, "dcDelivered": None},
        ],
    } == found


def test_who_asks_the_same_of_the_fleet_within_seconds_has_the_same_answer(daemon: Daemon, names: Names) -> None:
    start = NOON - 61 * DAY  # when no other test's devices were about
    path = f"/v1/analytics/fleet?startTime={rfc3339(start)}&endTime={rfc3339(start + HOUR)}"
    first = daemon.request("GET", path)
    post(daemon, meter(names.meter, start + MINUTE, kwh=1))

    again = daemon.request("GET", path)

    def made_anew() -> dict[str, Any] | None:
        body: dict[str, Any] = daemon.request("GET", path, headers={"Cache-Control": "no-cache"}).json()
        return body if body["energy"]["acConsumed"] == 1.0 else None

    assert ("0", 0.0, first.json()) == (first.headers["age"], first.json()["energy"]["acConsumed"], again.json())
    newest = until(made_anew)  # of 61 days ago, so it is late
    assert newest is not None
    assert first.json()["asOf"] < newest["asOf"]


# Totals and sessions


def test_the_totals_of_days_and_months(daemon: Daemon, names: Names) -> None:
    start = NOON + 4 * HOUR
    window = {"startTime": start, "endTime": start + 5 * HOUR}
    midnight = start + 2 * HOUR + 15 * MINUTE  # in Kathmandu, at 18:15Z
    post(daemon, meter(names.meter, midnight, kwh=1), meter(names.meter, start + 5 * HOUR, kwh=2))
    path = f"/v1/analytics/meter/{names.meter}/totals"

    by_day = get(daemon, path, timeZone="Asia/Kathmandu", **window)
    by_month = get(daemon, path, by="month", **window)

    time_range = {"start": rfc3339(start), "end": rfc3339(start + 5 * HOUR)}
    told = {"meterId": names.meter, "timeRange": time_range}
    assert {
        **told,
        "by": "day",
        "timeZone": "Asia/Kathmandu",
        "totals": [
            {"start": rfc3339(start), "end": rfc3339(midnight), "date": f"{start:%F}", "kwh": 1.0, "samples": 1},
            {
                "start": rfc3339(midnight),
                "end": rfc3339(start + 5 * HOUR),
                "date": f"{start + DAY:%F}",
                "kwh": 2.0,
                "samples": 1,
            },
        ],
    } == by_day
    assert {
        **told,
        "by": "month",
        "timeZone": "UTC",
        "totals": [{**time_range, "date": f"{start:%Y-%m}", "kwh": 3.0, "samples": 2}],
    } == by_month


def test_the_sessions_of_a_vehicle(daemon: Daemon, names: Names) -> None:
    map_vehicle(daemon, names.vehicle, names.meter, NOON - DAY)
    for minute, kwh in enumerate([0.0, 2.0, 2.0, 0.0]):
        at = NOON + minute * MINUTE
        post(daemon, vehicle(names.vehicle, at, kwh=kwh, soc=50 + minute), meter(names.meter, at, kwh=kwh * 1.25))

    found = get(daemon, f"/v1/analytics/vehicle/{names.vehicle}/sessions", startTime=NOON - HOUR, endTime=NOON + HOUR)

    assert {
        "vehicleId": names.vehicle,
        "timeRange": {"start": rfc3339(NOON - HOUR), "end": rfc3339(NOON + HOUR)},
        "sessions": [
            {
                "start": rfc3339(NOON),
                "end": rfc3339(NOON + 2 * MINUTE),
                "open": True,
                "acConsumed": 5.0,
                "dcDelivered": 4.0,
                "efficiencyRatio": 0.8,
                "lossKwh": 1.0,
                "socFrom": 50.0,
                "socTo": 52.0,
                "maxTemperature": 20.0,
                "samples": 2,
            }
        ],
    } == found


def test_what_cannot_be_told_as_history_is_gone_has_a_reason(
    broker: PrivateMosquitto, database_url: str, names: Names
) -> None:
    start = NOON - 30 * DAY + MINUTE
    with Daemon(mqtt_url=broker.url, database_url=database_url, retention="7d", max_age="7d") as daemon:
        daemon.wait_healthy()
        post(daemon, vehicle(names.vehicle, NOON))
        found = {
            what: get(daemon, f"/v1/analytics/vehicle/{names.vehicle}/{what}", startTime=start, endTime=start + HOUR)
            for what in ("series", "totals", "sessions")
        }
        recent = get(daemon, f"/v1/analytics/vehicle/{names.vehicle}/sessions")

    assert {"no longer kept"} == {answer["reason"][-14:] for answer in found.values()}
    assert ([], None) == (found["sessions"]["sessions"], found["totals"]["totals"][0]["samples"])
    assert "reason" not in recent


@pytest.mark.parametrize(
    "what", ["vehicle/{}/series", "meter/{}/series", "vehicle/{}/totals", "meter/{}/totals", "vehicle/{}/sessions"]
)
def test_a_device_that_nobody_knows_is_404_and_named(daemon: Daemon, names: Names, what: str) -> None:
    answer = ask(daemon, f"/v1/analytics/{what.format(names.vehicle)}")

    assert names.vehicle in assert_problem(answer, 404)


# Lists


def test_vehicles_and_meters_are_listed_page_by_page(daemon: Daemon, names: Names) -> None:
    now = datetime.now(UTC)
    ids = [f"{names.vehicle}-{number}" for number in range(5)]
    post(daemon, *(vehicle(device, now) for device in ids), *(meter(device, now) for device in ids))

    for kind, key in (("vehicles", "vehicleId"), ("meters", "meterId")):
        for query in ({}, {"sort": "lastSeen", "order": "desc"}, {"status": "online", "order": "desc"}):
            page = get(daemon, f"/v1/{kind}", limit="2", **query)
            listed = [device[key] for device in page[kind]]
            while page["next"]:
                page = get(daemon, f"/v1/{kind}", limit="2", after=page["next"], **query)
                listed += [device[key] for device in page[kind]]
            assert len(set(listed)) == len(listed)
            assert set(ids) <= set(listed)


def test_a_device_in_a_list(daemon: Daemon, names: Names) -> None:
    at = datetime.now(UTC) - HOUR
    post(daemon, vehicle(names.vehicle, at, soc=80), meter(names.meter, at))
    live = get(daemon, f"/v1/analytics/vehicle/{names.vehicle}/live")

    (of_vehicle,) = (
        v for v in get(daemon, "/v1/vehicles", limit="1000")["vehicles"] if v["vehicleId"] == names.vehicle
    )
    (of_meter,) = (m for m in get(daemon, "/v1/meters", limit="1000")["meters"] if m["meterId"] == names.meter)

    assert {
        "vehicleId": names.vehicle,
        "soc": 80.0,
        "kwhDeliveredDc": 0.4,
        "batteryTemp": 20.0,
        "timestamp": rfc3339(at),
        "lastSeen": live["receivedAt"],
        "online": True,
        "efficiencyRatio": None,
        "status": "unmapped",
    } == of_vehicle
    assert {"meterId", "kwhConsumedAc", "voltage", "timestamp", "lastSeen", "online"} == set(of_meter)


def test_the_cursor_of_a_list_by_efficiency_survives_vehicles_without_any(daemon: Daemon, names: Names) -> None:
    now = datetime.now(UTC)
    post(daemon, *(vehicle(f"{names.vehicle}-{number}", now) for number in range(2)))

    for order in ("asc", "desc"):
        first = get(daemon, "/v1/vehicles", sort="efficiency", order=order, limit="1")
        second = get(daemon, "/v1/vehicles", sort="efficiency", order=order, limit="1", after=first["next"])

        assert first["vehicles"] != second["vehicles"]


# Thresholds


def test_a_vehicle_is_judged_by_a_threshold_of_its_own_until_that_is_removed(daemon: Daemon, names: Names) -> None:
    map_vehicle(daemon, names.vehicle, names.meter, NOON - DAY)
    post(daemon, *(vehicle(names.vehicle, NOON + n * MINUTE, kwh=0.75) for n in range(5)))
    post(daemon, *(meter(names.meter, NOON + n * MINUTE, kwh=1) for n in range(5)))
    window = {"startTime": NOON, "endTime": NOON + 4 * MINUTE}

    def judged() -> tuple[str, float]:
        found = get(daemon, f"/v1/analytics/performance/{names.vehicle}", **window)
        (worst,) = (
            one for one in anew(daemon, "/v1/analytics/fleet", **window)["worst"] if one["vehicleId"] == names.vehicle
        )
        assert 0.75 == worst["efficiencyRatio"]
        return found["status"], found["threshold"]

    path = SETTINGS.format(kind="vehicle", id=names.vehicle)
    nothing = {"vehicleId": names.vehicle, "offlineAfter": None, "maxKw": None, "threshold": None}
    assert ("below-threshold", 0.85) == judged()
    assert nothing == get(daemon, path)

    expected: dict[str, object] = {}
    for threshold in (0.8, 0.75):
        put = daemon.request("PUT", path, body={"threshold": threshold, "offlineAfter": "1.5h", "maxKw": 90})
        expected = {"vehicleId": names.vehicle, "offlineAfter": "90m", "maxKw": 90.0, "threshold": threshold}
        assert (200, expected) == (put.status, put.json())
    assert expected == get(daemon, path)
    assert ("ok", 0.75) == judged()

    removed = daemon.request("DELETE", path)
    assert (200, expected) == (removed.status, removed.json())
    assert_problem(daemon.request("DELETE", path), 404)
    assert nothing == get(daemon, path)
    assert ("below-threshold", 0.85) == judged()


def test_settings_of_a_meter_say_when_it_is_offline_and_how_much_can_flow(daemon: Daemon, names: Names) -> None:
    post(daemon, meter(names.meter, NOON))
    path = SETTINGS.format(kind="meter", id=names.meter)

    assert 200 == daemon.request("PUT", path, body={"offlineAfter": "2h"}).status
    assert {"meterId": names.meter, "offlineAfter": "2h", "maxKw": None} == get(daemon, path)
    for most in (1e-9, 1_000_000):
        assert 200 == daemon.request("PUT", path, body={"maxKw": most}).status
        assert {"meterId": names.meter, "offlineAfter": None, "maxKw": most} == get(daemon, path)
    assert 200 == daemon.request("PUT", path, body={}).status
    assert {"meterId": names.meter, "offlineAfter": None, "maxKw": None} == get(daemon, path)


@pytest.mark.parametrize(
    ("kind", "body", "parameter"),
    [
        *(
            ("vehicle", b'{"threshold":%s}' % wrong, "threshold")
            for wrong in (b"0", b"-1", b"1.01", b"NaN", b'"0.8"', b"true")
        ),
        *(
            ("meter", b'{"offlineAfter":%s}' % wrong, "offlineAfter")
            for wrong in (b"0", b"-1", b'"soon"', b"true", b'"7d"', b"[]")
        ),
        *(
            (kind, b'{"maxKw":%s}' % wrong, "maxKw")
            for kind in ("meter", "vehicle")
            for wrong in (b"0", b"-1", b"1000000.1", b"NaN", b"Infinity", b'"22"', b"true")
        ),
        ("meter", b'{"threshold":0.8}', "threshold"),
        ("vehicle", b'{"threshold":1,"colour":"blue"}', "colour"),
    ],
)
def test_settings_of_a_device_are_bounded(daemon: Daemon, names: Names, kind: str, body: bytes, parameter: str) -> None:
    answer = daemon.request("PUT", SETTINGS.format(kind=kind, id=names.vehicle), body=body)

    assert_problem(answer, 400, parameter=parameter)
