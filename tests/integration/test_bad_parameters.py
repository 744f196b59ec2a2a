"""Whatever is wrong with a question, the answer is 400 and names the parameter: of every route that is asked by GET."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from ingestd.demo.servers import PrivateMosquitto
from ingestd.http.event_streams import MOST_DEVICES
from ingestd.http.routes import OPERATIONS
from tests.support.api import assert_problem
from tests.support.daemon import Daemon

if TYPE_CHECKING:
    from collections.abc import Iterator

PROBES = {"/", "/health", "/livez", "/readyz", "/metrics", "/login", "/web/{name}", "/docs"}
"""Whoever watches may add to their address whatever it takes to get a fresh answer."""

WINDOW = [
    ("startTime=2026-11-20T10:00:00Z&endTime=2026-11-20T09:00:00Z", "endTime"),
    ("startTime=2026-11-20T10:00:00Z&endTime=2026-11-20T10:00:00Z", "endTime"),
    ("startTime=yesterday", "startTime"),
    ("startTime=", "startTime"),
    ("endTime=1700000000", "endTime"),
    ("endTime=2026-02-30T10:00:00Z", "endTime"),
    ("endTime=2026-11-20T10:00:00", "endTime"),
    ("startTime=2026-11-20T10:00:00Z&startTime=2026-11-20T10:00:00Z", "startTime"),
]
CENTURY = [("startTime=1926-11-20T10:00:00Z&endTime=2026-11-20T10:00:00Z", "startTime")]
MONTH = [("startTime=2026-10-01T00:00:00Z&endTime=2026-11-02T00:00:00Z", "startTime")]
BUCKET = [(f"bucket={text}", "bucket") for text in ("", "fortnight", "0m", "-15m", "1.5h", "15", "9999d", "1s")]
TIME_ZONE = [
    *((f"timeZone={text}", "timeZone") for text in ("Europe/Atlantis", "Europe", "", "localtime", "CEST", "A%00")),
    ("timeZone=/etc/passwd", "timeZone"),
    ("timeZone=Europe/../../passwd", "timeZone"),
]
CALENDAR = [("startTime=9999-12-31T00:00:00Z&endTime=9999-12-31T23:00:00Z", "startTime")]
DAYS_OF_A_ZONE = [(f"{CALENDAR[0][0]}&bucket=1d&timeZone=Europe/Berlin", "startTime"), *TIME_ZONE]
PAGES = [(f"limit={text}", "limit") for text in ("-1", "0", "1001", "1e3", "ten", "")]
BEFORE = [(f"before={text}", "before") for text in ("-1", "x", "99999999999999999999")]
LIST = [
    *PAGES,
    ("status=asleep", "status"),
    ("sort=colour", "sort"),
    ("order=sideways", "order"),
    ("after=x", "after"),
    ("after=WyJhIl0", "after"),  # ["a"]
    ("sort=lastSeen&after=WyJhIiwiYSJd", "after"),  # ["a","a"]
]
DEVICE = [("device=m%2F1", "device")]

FAULTS: dict[str, list[tuple[str, str]]] = {
    "/asyncapi.json": [],
    "/v1/analytics/performance/{vehicleId}": WINDOW + CENTURY,
    "/v1/analytics/vehicle/{vehicleId}/live": [],
    "/v1/analytics/meter/{meterId}/live": [],
    "/v1/analytics/vehicle/{vehicleId}/series": WINDOW + CENTURY + BUCKET + DAYS_OF_A_ZONE,
    "/v1/analytics/meter/{meterId}/series": WINDOW + CENTURY + BUCKET + DAYS_OF_A_ZONE,
    "/v1/analytics/vehicle/{vehicleId}/totals": WINDOW + CENTURY + TIME_ZONE + CALENDAR + [("by=decade", "by")],
    "/v1/analytics/meter/{meterId}/totals": WINDOW + CENTURY + TIME_ZONE + CALENDAR + [("by=", "by")],
    "/v1/analytics/vehicle/{vehicleId}/sessions": WINDOW + CENTURY + MONTH,
    "/v1/analytics/fleet": WINDOW + CENTURY,
    "/v1/analytics/fleet/series": [
        *WINDOW,
        *CENTURY,
        *BUCKET,
        *DAYS_OF_A_ZONE,
        ("startTime=2026-11-01T00:00:00Z&endTime=2026-11-20T00:00:00Z&bucket=20m", "bucket"),
    ],
    "/v1/analytics/fleet/sessions": [
        *((f"limit={text}", "limit") for text in ("-1", "0", "51", "ten", "")),
        ("after=a%2Fb", "after"),
        ("startTime=2026-11-20T10:00:00Z", "startTime"),
    ],
    "/openapi.json": [],
    "/v1/devices/meter/{id}/settings": [],
    "/v1/devices/vehicle/{id}/settings": [],
    "/v1/analytics/mappings/{vehicleId}": [],
    "/v1/vehicles": [
        *LIST,
        ("belowThreshold=maybe", "belowThreshold"),
        ("sort=efficiency&after=WyJhIiwiYSJd", "after"),
    ],
    "/v1/meters": [*LIST, ("belowThreshold=true", "belowThreshold"), ("sort=efficiency", "sort")],
    "/v1/export/meters.csv": [*WINDOW, *CENTURY, ("id=m%2F1", "id")],
    "/v1/export/vehicles.csv": [*WINDOW, *CENTURY, ("id=", "id")],
    "/v1/dead-letters": [*WINDOW, *PAGES, *BEFORE, *DEVICE, ("reason=bad-luck", "reason")],
    "/v1/audit": [
        *WINDOW,
        *PAGES,
        *BEFORE,
        ("action=nothing", "action"),
        ("subject=a&subject=b", "subject"),
        ("subject=%00", "subject"),
    ],
    "/v1/stream": [
        ("kind=charger", "kind"),
        ("kind=meter&kind=vehicle", "kind"),
        ("kind=meter%00", "kind"),
        ("device=m-1", "kind"),
        ("kind=meter&device=", "device"),
        ("kind=meter&device=a%00", "device"),
        (f"kind=meter&device={'a' * 65}", "device"),
        (f"kind=meter&device={'a' * 5000}", "device"),
        (f"kind=meter{'&device=m' * (MOST_DEVICES + 1)}", "device"),
        ("lastEventId=1", "lastEventId"),
    ],
    "/v1/alerts": [*PAGES, *BEFORE, *DEVICE, ("state=panic", "state"), ("kind=bad-luck", "kind")],
}


@pytest.fixture(scope="module")
def broker() -> Iterator[PrivateMosquitto]:
    with PrivateMosquitto() as server:
        yield server


@pytest.fixture(scope="module")
def daemon(broker: PrivateMosquitto, shared_database_url: str) -> Iterator[Daemon]:
    with Daemon(mqtt_url=broker.url, database_url=shared_database_url) as daemon:
        daemon.wait_healthy()
        yield daemon


def test_no_route_is_forgotten() -> None:
    assert {route.path for route in OPERATIONS if route.method == "GET"} - PROBES == set(FAULTS)


@pytest.mark.parametrize("route", FAULTS)
def test_a_question_that_is_wrong_is_400_and_names_the_parameter(daemon: Daemon, route: str) -> None:
    path = re.sub(r"{\w+}", "device-1", route)

    for query, parameter in [
        *FAULTS[route],
        ("colour=blue", "colour"),
        ("starttime=2026-11-20T10:00:00Z", "starttime"),
    ]:
        answer = daemon.request("GET", f"{path}?{query}")

        problem = answer.json()
        assert (400, "application/problem+json", parameter) == (
            answer.status,
            answer.headers["content-type"],
            problem.get("parameter"),
        ), (query, problem)
        assert problem["detail"].startswith(f"{parameter}: ")


@pytest.mark.parametrize("route", [route for route in FAULTS if "{" in route])
@pytest.mark.parametrize("segment", ["EV%20101", "EV%2F101", "E" * 65, "%00", "%FF", "m%C3%A8tre", "*"])
def test_an_id_that_none_can_be_is_400_and_names_the_parameter(daemon: Daemon, route: str, segment: str) -> None:
    (parameter,) = re.findall(r"{(\w+)}", route)

    assert_problem(daemon.request("GET", re.sub(r"{\w+}", segment, route)), 400, parameter=parameter)


@pytest.mark.parametrize("path", sorted(PROBES))
def test_probes_may_ask_as_they_like(daemon: Daemon, path: str) -> None:
    file = path.replace("{name}", "app.js")

    # Where no tokens are used, nobody has to log in.
    assert {"/login": 303}.get(path, 200) == daemon.request("GET", f"{file}?t=1700000000").status
