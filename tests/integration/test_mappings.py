# ruff: noqa: SIM300 - expected == actual
"""Which meter feeds which vehicle, and when, as asked and changed over HTTP; every test has a vehicle of its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import psycopg
import pytest

from ingestd.demo.servers import PrivateMosquitto
from tests.support.api import MAPPINGS, Names, assert_problem, map_vehicle
from tests.support.daemon import Daemon, Response
from tests.support.polling import until
from tests.support.readings import meter_message, rfc3339, vehicle_message

if TYPE_CHECKING:
    from collections.abc import Iterator

MICROSECOND = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - 2 * DAY


@pytest.fixture(scope="module")
def daemon(shared_database_url: str) -> Iterator[Daemon]:
    with PrivateMosquitto() as broker, Daemon(mqtt_url=broker.url, database_url=shared_database_url) as daemon:
        daemon.wait_healthy()
        yield daemon


@pytest.fixture
def names() -> Names:
    return Names()


def ask(daemon: Daemon, method: str, vehicle_id: str, **change: object) -> Response:
    """POST or PUT of a mapping; moments may be datetimes."""
    body = {key: rfc3339(value) if isinstance(value, datetime) else value for key, value in change.items()}
    if method == "PUT":
        return daemon.request("PUT", f"{MAPPINGS}/{vehicle_id}", body=body)
    return daemon.request("POST", MAPPINGS, body={"vehicleId": vehicle_id, **body})


def segments(daemon: Daemon, vehicle_id: str) -> list[dict[str, Any]]:
    """The vehicle's mappings, the newest first."""
    answer = daemon.request("GET", f"{MAPPINGS}/{vehicle_id}")
    assert 200 == answer.status, answer.body
    history: list[dict[str, Any]] = answer.json()["history"]
    return history


# How a new segment and those that are there get along


@dataclass(frozen=True, slots=True)
class Timeline:
    """Segments in words: `A 0-4, B 4-` is meter A for the microseconds 0 to 3 after noon, and B from 4 on."""

    words: str

    def of(self, vehicle_id: str) -> list[dict[str, Any]]:
        """As the API shows them, the oldest first."""
        return [self._segment(vehicle_id, *words.split()) for words in self.words.split(", ") if words]

    @staticmethod
    def _segment(vehicle_id: str, meter_id: str, period: str) -> dict[str, Any]:
        start, end = (rfc3339(NOON + int(edge) * MICROSECOND) if edge else None for edge in period.split("-"))
        return {"vehicleId": vehicle_id, "meterId": meter_id, "validFrom": start, "validTo": end}


FREE = [
    # there already, asked for: what comes of it, whether it replaces or not
    pytest.param("", "N 2-5", "N 2-5", id="the first"),
    pytest.param("", "N 2-", "N 2-", id="the first and open"),
    pytest.param("A 0-", "N 4-", "A 0-4, N 4-", id="open one ends"),
    pytest.param("A 3-", "N 4-", "A 3-4, N 4-", id="open one ends after a microsecond"),
    pytest.param("N 0-", "N 4-", "N 0-4, N 4-", id="open one of the same meter ends"),
    pytest.param("A 0-2, B 2-", "N 4-", "A 0-2, B 2-4, N 4-", id="the one before the open one stays"),
    pytest.param("A 0-4", "N 4-6", "A 0-4, N 4-6", id="touches an earlier one"),
    pytest.param("A 0-4", "N 4-", "A 0-4, N 4-", id="open, touches an earlier one"),
    pytest.param("A 4-6", "N 2-4", "N 2-4, A 4-6", id="touches a later one"),
    pytest.param("A 4-", "N 2-4", "N 2-4, A 4-", id="touches a later open one"),
    pytest.param("A 0-2, B 4-", "N 2-4", "A 0-2, N 2-4, B 4-", id="fills a gap"),
]
OPEN_ENDS = [
    # there already, asked for: what comes of it; and where it replaces
    pytest.param("A 0-", "N 4-6", "A 0-4, N 4-6", "A 0-4, N 4-6, A 6-", id="over an open one"),
    pytest.param("N 0-", "N 4-6", "N 0-4, N 4-6", "N 0-4, N 4-6, N 6-", id="over an open one of the same meter"),
    pytest.param("A 3-", "N 4-5", "A 3-4, N 4-5", "A 3-4, N 4-5, A 5-", id="over an open one, a microsecond each"),
    pytest.param(
        "A 0-2, B 2-", "N 4-6", "A 0-2, B 2-4, N 4-6", "A 0-2, B 2-4, N 4-6, B 6-", id="the earlier one stays"
    ),
]
IN_THE_WAY = [
    # there already, asked for: what is in the way; what comes of it where it replaces
    pytest.param("A 0-4", "N 3-6", "A 0-4", "A 0-3, N 3-6", id="trims the end"),
    pytest.param("A 0-4", "N 3-", "A 0-4", "A 0-3, N 3-", id="open, trims the end"),
    pytest.param("A 4-6", "N 2-5", "A 4-6", "N 2-5, A 5-6", id="trims the beginning"),
    pytest.param("A 4-", "N 2-5", "A 4-", "N 2-5, A 5-", id="trims the beginning of an open one"),
    pytest.param("A 3-9", "N 3-5", "A 3-9", "N 3-5, A 5-9", id="trims the beginning, starts together"),
    pytest.param("A 3-", "N 3-5", "A 3-", "N 3-5, A 5-", id="trims an open one, starts together"),
    pytest.param("A 3-9", "N 5-9", "A 3-9", "A 3-5, N 5-9", id="trims the end, ends together"),
    pytest.param("A 0-9", "N 3-5", "A 0-9", "A 0-3, N 3-5, A 5-9", id="splits"),
    pytest.param("N 0-9", "N 3-5", "N 0-9", "N 0-3, N 3-5, N 5-9", id="splits one of the same meter"),
    pytest.param("A 3-5", "N 3-5", "A 3-5", "N 3-5", id="removes one of the same time"),
    pytest.param("A 3-", "N 3-", "A 3-", "N 3-", id="removes an open one of the same time"),
    pytest.param("N 3-5", "N 3-6", "N 3-5", "N 3-6", id="takes longer than the same meter did"),
    pytest.param("N 3-6", "N 3-5", "N 3-6", "N 3-5, N 5-6", id="shorter than the same meter: the rest stays"),
    pytest.param("A 4-", "N 2-", "A 4-", "N 2-", id="removes a later open one"),
    pytest.param("A 0-3, B 5-", "N 2-", "A 0-3, B 5-", "A 0-2, N 2-", id="open: removes all that follows"),
    pytest.param(
        "A 0-3, B 3-5, C 6-7, D 7-9, E 9-",
        "N 2-8",
        "A 0-3, B 3-5, C 6-7, D 7-9",
        "A 0-2, N 2-8, D 8-9, E 9-",
        id="trims, removes several, trims",
    ),
]


@pytest.fixture
def vehicle_id(names: Names) -> str:
    return names.vehicle


def prepare(daemon: Daemon, vehicle_id: str, before: str) -> None:
    for segment in Timeline(before).of(vehicle_id):
        assert 201 == daemon.request("POST", MAPPINGS, body=segment).status


def set_segment(daemon: Daemon, method: str, vehicle_id: str, asked: str, *, replace: bool | None = None) -> Response:
    (segment,) = Timeline(asked).of(vehicle_id)
    del segment["vehicleId"]
    return ask(daemon, method, vehicle_id, **segment, **({} if replace is None else {"replace": replace}))


def assert_becomes(
    daemon: Daemon, method: str, vehicle_id: str, asked: str, after: str, *, replace: bool | None = None
) -> None:
    """And once more, which changes nothing."""
    for _ in range(2):
        answer = set_segment(daemon, method, vehicle_id, asked, replace=replace)

        assert ({"POST": 201, "PUT": 200}[method], Timeline(asked).of(vehicle_id)) == (answer.status, [answer.json()])
        assert Timeline(after).of(vehicle_id) == segments(daemon, vehicle_id)[::-1]


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("replace", [None, False, True], ids=["", "not to replace", "replacing"])
@pytest.mark.parametrize(("before", "asked", "after"), FREE)
def test_a_mapping_where_nothing_is_in_the_way(
    daemon: Daemon, vehicle_id: str, method: str, *, replace: bool | None, before: str, asked: str, after: str
) -> None:
    prepare(daemon, vehicle_id, before)

    assert_becomes(daemon, method, vehicle_id, asked, after, replace=replace)


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize(("before", "asked", "ended", "split"), OPEN_ENDS)
@pytest.mark.parametrize("replace", [False, True], ids=["ends it", "splits it"])
def test_an_open_mapping_resumes_only_behind_one_that_replaces(
    daemon: Daemon, vehicle_id: str, method: str, *, before: str, asked: str, ended: str, split: str, replace: bool
) -> None:
    prepare(daemon, vehicle_id, before)

    assert_becomes(daemon, method, vehicle_id, asked, split if replace else ended, replace=replace)


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize(("before", "asked", "in_the_way", "after"), IN_THE_WAY)
def test_what_is_in_the_way_is_409_unless_it_is_to_be_replaced(
    daemon: Daemon, vehicle_id: str, method: str, *, before: str, asked: str, in_the_way: str, after: str
) -> None:
    prepare(daemon, vehicle_id, before)

    refused = set_segment(daemon, method, vehicle_id, asked)

    assert_problem(refused, 409, segments=Timeline(in_the_way).of(vehicle_id))
    assert Timeline(before).of(vehicle_id) == segments(daemon, vehicle_id)[::-1]
    assert_becomes(daemon, method, vehicle_id, asked, after, replace=True)


def test_a_409_says_what_is_in_the_way(daemon: Daemon, vehicle_id: str) -> None:
    ask(daemon, "PUT", vehicle_id, meterId="m-1", validFrom="2026-01-01T00:00:00Z", validTo="2026-02-01T01:00:00+01:00")
    ask(daemon, "PUT", vehicle_id, meterId="m-2", validFrom="2026-03-01T00:00:00.5Z")

    refused = ask(daemon, "PUT", vehicle_id, meterId="m-3", validFrom="2026-01-15T00:00:00Z")

    assert (
        "the vehicle is mapped already: m-1 from 2026-01-01T00:00:00Z to 2026-02-01T00:00:00Z; "
        "m-2 from 2026-03-01T00:00:00.500000Z until further notice"
    ) == assert_problem(refused, 409, segments=segments(daemon, vehicle_id)[::-1])


def test_one_vehicles_mappings_are_not_in_anothers_way(daemon: Daemon, vehicle_id: str) -> None:
    """Two vehicles may share a meter, and one that replaces leaves the other alone."""
    other = f"{vehicle_id}-other"
    for mapped in (vehicle_id, other):
        prepare(daemon, mapped, "A 0-4, B 4-")

    assert 200 == set_segment(daemon, "PUT", vehicle_id, "A 2-", replace=True).status

    assert Timeline("A 0-2, A 2-").of(vehicle_id) == segments(daemon, vehicle_id)[::-1]
    assert Timeline("A 0-4, B 4-").of(other) == segments(daemon, other)[::-1]


# From now on, again, until


@pytest.mark.parametrize("end", [None, DAY], ids=["open", "with an end"])
def test_a_mapping_is_valid_from_now_where_nothing_else_is_said(
    daemon: Daemon, names: Names, end: timedelta | None
) -> None:
    before = datetime.now(UTC)
    valid_to = end and before + end

    answer = ask(daemon, "POST", names.vehicle, meterId=names.meter, validTo=valid_to)

    mapping = answer.json()
    assert (201, names.vehicle, names.meter, valid_to and rfc3339(valid_to)) == (
        answer.status,
        *(mapping[key] for key in ("vehicleId", "meterId", "validTo")),
    )
    assert before <= datetime.fromisoformat(mapping["validFrom"]) <= datetime.now(UTC)
    assert {"vehicleId": names.vehicle, "meterId": names.meter, "history": [mapping]} == daemon.request(
        "GET", f"{MAPPINGS}/{names.vehicle}"
    ).json()


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("end", [None, DAY], ids=["open", "with an end"])
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_saying_again_what_holds_from_now_on_changes_nothing(
    daemon: Daemon, names: Names, method: str, end: timedelta | None, *, replace: bool
) -> None:
    valid_to = end and NOON + 3 * DAY
    first = ask(daemon, method, names.vehicle, meterId=names.meter, validTo=valid_to)

    again = ask(daemon, method, names.vehicle, meterId=names.meter, validTo=valid_to, replace=replace)

    assert first.status == again.status == {"POST": 201, "PUT": 200}[method]
    assert [first.json()] == [again.json()] == segments(daemon, names.vehicle)


def test_an_open_mapping_is_given_an_end_by_saying_it_again_with_one(daemon: Daemon, names: Names) -> None:
    ask(daemon, "PUT", names.vehicle, meterId=names.meter, validFrom=NOON)
    end = NOON + 3 * DAY

    ended = ask(daemon, "PUT", names.vehicle, meterId=names.meter, validTo=end)

    assert (200, rfc3339(end)) == (ended.status, ended.json()["validTo"])
    earlier = {
        "vehicleId": names.vehicle,
        "meterId": names.meter,
        "validFrom": rfc3339(NOON),
        "validTo": ended.json()["validFrom"],
    }
    assert [ended.json(), earlier] == segments(daemon, names.vehicle)


def test_a_moment_with_an_offset_is_answered_in_utc(daemon: Daemon, names: Names) -> None:
    answer = ask(
        daemon,
        "POST",
        names.vehicle,
        meterId=names.meter,
        validFrom="2026-11-20T10:30:00.5+05:30",
        validTo="2026-11-21T00:00:00-01:00",
    )

    assert ("2026-11-20T05:00:00.500000Z", "2026-11-21T01:00:00Z") == (
        answer.json()["validFrom"],
        answer.json()["validTo"],
    )


def test_a_correction_shows_at_once(daemon: Daemon, names: Names) -> None:
    """The figures are those of the mapping as it is now, whenever the readings came."""
    readings = [
        vehicle_message(names.vehicle, NOON + HOUR, kwh=1.0),
        meter_message(names.meter, NOON + HOUR, kwh=1.25),
        meter_message(names.other_meter, NOON + HOUR, kwh=64.0),
        meter_message(names.other_meter, NOON + 2 * HOUR, kwh=2.0),
    ]
    body = b"[" + b",".join(payload for _, payload in readings) + b"]"
    assert 201 == daemon.request("POST", "/v1/telemetry", body=body).status
    query = urlencode({"startTime": rfc3339(NOON), "endTime": rfc3339(NOON + 2 * HOUR)})

    def shares() -> list[tuple[str, str, str, float]]:
        answer = daemon.request("GET", f"/v1/analytics/performance/{names.vehicle}?{query}").json()
        return [(share["meterId"], share["from"], share["to"], share["acConsumed"]) for share in answer["meters"]]

    map_vehicle(daemon, names.vehicle, names.other_meter, NOON - DAY)
    assert [(names.other_meter, rfc3339(NOON), rfc3339(NOON + 2 * HOUR), 66.0)] == shares()

    ask(daemon, "PUT", names.vehicle, meterId=names.meter, validFrom=NOON, validTo=NOON + HOUR, replace=True)

    assert [
        (names.meter, rfc3339(NOON), rfc3339(NOON + HOUR), 1.25),
        (names.other_meter, rfc3339(NOON + HOUR), rfc3339(NOON + 2 * HOUR), 2.0),
    ] == shares()


# The end of a mapping


def test_a_mapping_ends_when_it_is_deleted_and_stays_in_the_history(daemon: Daemon, names: Names) -> None:
    mapping = map_vehicle(daemon, names.vehicle, names.meter, NOON).json()
    before = datetime.now(UTC)

    ended = daemon.request("DELETE", f"{MAPPINGS}/{names.vehicle}")

    assert (200, {**mapping, "validTo": ended.json()["validTo"]}) == (ended.status, ended.json())
    assert before <= datetime.fromisoformat(ended.json()["validTo"]) <= datetime.now(UTC)
    assert {"vehicleId": names.vehicle, "meterId": None, "history": [ended.json()]} == daemon.request(
        "GET", f"{MAPPINGS}/{names.vehicle}"
    ).json()
    assert names.vehicle in assert_problem(daemon.request("DELETE", f"{MAPPINGS}/{names.vehicle}"), 404)


def test_a_mapping_that_was_deleted_is_in_the_way_only_until_then(daemon: Daemon, names: Names) -> None:
    map_vehicle(daemon, names.vehicle, names.meter, NOON - DAY)
    daemon.request("DELETE", f"{MAPPINGS}/{names.vehicle}")

    refused = map_vehicle(daemon, names.vehicle, names.other_meter, NOON)

    assert names.meter in assert_problem(refused, 409, segments=segments(daemon, names.vehicle))
    assert 201 == map_vehicle(daemon, names.vehicle, names.other_meter).status


def test_a_mapping_of_the_future_does_not_hold_yet_and_goes_when_deleted(daemon: Daemon, names: Names) -> None:
    mapping = map_vehicle(daemon, names.vehicle, names.meter, datetime.now(UTC) + DAY).json()
    assert {"vehicleId": names.vehicle, "meterId": None, "history": [mapping]} == daemon.request(
        "GET", f"{MAPPINGS}/{names.vehicle}"
    ).json()

    assert 200 == daemon.request("DELETE", f"{MAPPINGS}/{names.vehicle}").status

    assert_problem(daemon.request("GET", f"{MAPPINGS}/{names.vehicle}"), 404)


def test_a_mapping_with_an_end_is_not_open_and_so_not_deleted(daemon: Daemon, names: Names) -> None:
    mapping = ask(daemon, "PUT", names.vehicle, meterId=names.meter, validFrom=NOON, validTo=NOON + 3 * DAY).json()

    answer = daemon.request("DELETE", f"{MAPPINGS}/{names.vehicle}")

    assert names.vehicle in assert_problem(answer, 404)
    assert {"vehicleId": names.vehicle, "meterId": names.meter, "history": [mapping]} == daemon.request(
        "GET", f"{MAPPINGS}/{names.vehicle}"
    ).json()


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_vehicle_that_was_never_mapped_is_404_and_named(daemon: Daemon, names: Names, method: str) -> None:
    answer = daemon.request(method, f"{MAPPINGS}/{names.vehicle}")

    assert names.vehicle in assert_problem(answer, 404)


def test_a_mapping_announces_devices_that_have_not_reported(daemon: Daemon, names: Names) -> None:
    """The vehicle is known from then on; there is no reading to show of either."""
    performance = f"/v1/analytics/performance/{names.vehicle}"
    assert_problem(daemon.request("GET", performance), 404)

    assert 201 == map_vehicle(daemon, names.vehicle, names.meter).status

    assert 200 == daemon.request("GET", performance).status
    for path in (f"vehicle/{names.vehicle}/live", f"meter/{names.meter}/live"):
        assert_problem(daemon.request("GET", f"/v1/analytics/{path}"), 404)


# What is no mapping


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize(
    ("change", "parameter"),
    [
        ({"meterId": None}, "meterId"),
        ({"meterId": 7}, "meterId"),
        ({"meterId": "m 1"}, "meterId"),
        ({"meterId": "m\n"}, "meterId"),
        ({"validFrom": "now"}, "validFrom"),
        ({"validFrom": 1_700_000_000}, "validFrom"),
        ({"validFrom": "2026-11-20T10:30:00"}, "validFrom"),
        ({"validFrom": "9999-12-31T23:59:59-01:00"}, "validFrom"),
        ({"validTo": "2026-11-20"}, "validTo"),
        ({"validTo": ""}, "validTo"),
        ({"validTo": "2026-01-01T00:00:00Z"}, "validTo"),  # from now on
        ({"validFrom": NOON, "validTo": NOON - MICROSECOND}, "validTo"),
        ({"validFrom": NOON, "validTo": NOON}, "validTo"),
        ({"validFrom": NOON, "validTo": NOON, "replace": True}, "validTo"),
        ({"replace": "true"}, "replace"),
        ({"replace": 1}, "replace"),
        ({"replace": None}, "replace"),
        ({"valid_from": NOON}, "valid_from"),
        ({"until": NOON}, "until"),
    ],
)
def test_a_bad_mapping_is_400_and_names_the_field(
    daemon: Daemon, names: Names, method: str, change: dict[str, object], parameter: str
) -> None:
    answer = ask(daemon, method, names.vehicle, **{"meterId": names.meter, **change})

    assert assert_problem(answer, 400, parameter=parameter).startswith(f"{parameter}: ")
    assert_problem(daemon.request("GET", f"{MAPPINGS}/{names.vehicle}"), 404)


@pytest.mark.parametrize(
    ("method", "path", "parameter"),
    [
        ("POST", MAPPINGS, "vehicleId"),
        ("PUT", f"{MAPPINGS}/EV-101", "vehicleId"),
        ("PUT", f"{MAPPINGS}/*", "vehicleId"),
    ],
    ids=["bad in the body", "in the path already", "bad in the path"],
)
def test_a_bad_vehicle_is_400_and_named(daemon: Daemon, method: str, path: str, parameter: str) -> None:
    body = {"meterId": "m", **({} if path.endswith("*") else {"vehicleId": ""})}

    assert_problem(daemon.request(method, path, body=body), 400, parameter=parameter)


def test_a_mapping_that_lacks_its_meter_is_400(daemon: Daemon, names: Names) -> None:
    for method in ("POST", "PUT"):
        assert_problem(ask(daemon, method, names.vehicle), 400, parameter="meterId")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff"])
def test_a_mapping_that_is_no_json_object_is_400(daemon: Daemon, body: bytes) -> None:
    assert_problem(daemon.request("POST", MAPPINGS, body=body), 400)


# Several at once


def test_mappings_of_a_vehicle_made_at_once_leave_one_that_holds(daemon: Daemon, names: Names) -> None:
    meters = [f"{names.meter}-{number}" for number in range(12)]

    with ThreadPoolExecutor(len(meters)) as pool:
        answers = list(pool.map(lambda meter_id: map_vehicle(daemon, names.vehicle, meter_id), meters))

    assert [201] * len(meters) == [answer.status for answer in answers]
    history = segments(daemon, names.vehicle)
    assert [None] == [segment["validTo"] for segment in history if segment["validTo"] is None]
    assert [later["validFrom"] for later, _ in pairwise(history)] == [
        earlier["validTo"] for _, earlier in pairwise(history)
    ]
    assert sorted(meters) == sorted(segment["meterId"] for segment in history)


def test_the_same_mapping_made_several_times_at_once_is_one(daemon: Daemon, names: Names) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: map_vehicle(daemon, names.vehicle, names.meter), range(8)))

    assert [201] * 8 == [answer.status for answer in answers]
    assert 1 == len(segments(daemon, names.vehicle))


@pytest.mark.parametrize("replace", [False, True], ids=["", "replacing"])
def test_of_two_changes_at_once_one_waits_for_the_other(
    daemon: Daemon, shared_database_url: str, vehicle_id: str, *, replace: bool
) -> None:
    """Both have begun before either can go on: the second sees what the first has done."""
    lock = ("ingestd-mapping", vehicle_id)
    waiting = (
        "SELECT count(*) FROM pg_locks JOIN pg_database AS here ON here.oid = database"
        " WHERE locktype = 'advisory' AND NOT granted AND here.datname = current_database()"
    )
    with psycopg.connect(shared_database_url, autocommit=True) as connection, ThreadPoolExecutor(2) as pool:
        connection.execute("SELECT pg_advisory_lock(hashtext(%s), hashtext(%s))", lock)
        asked = [
            pool.submit(set_segment, daemon, "PUT", vehicle_id, segment, replace=replace)
            for segment in ("A 2-6", "B 4-8")
        ]
        until(lambda: connection.execute(waiting).fetchone() == (2,))
        connection.execute("SELECT pg_advisory_unlock(hashtext(%s), hashtext(%s))", lock)
        statuses = [answer.result().status for answer in asked]

    outcomes: dict[tuple[int, ...], list[str]] = {
        (200, 409): ["A 2-6"],
        (409, 200): ["B 4-8"],
        (200, 200): ["A 2-4, B 4-8", "A 2-6, B 6-8"],
    }
    assert replace == (statuses == [200, 200])
    assert segments(daemon, vehicle_id)[::-1] in [Timeline(o).of(vehicle_id) for o in outcomes[*statuses]]
