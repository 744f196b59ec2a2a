# ruff: noqa: SIM300 - expected == actual
"""The paths of earlier systems: the same handler as POST /v1/telemetry, and the path tells the stream."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from ingestd.demo.servers import PrivateMosquitto
from ingestd.http.telemetry import PATHS
from ingestd.model.stream import METER, VEHICLE
from tests.support.api import Names, assert_problem
from tests.support.daemon import Daemon
from tests.support.readings import meter_message, vehicle_message
from tests.support.tokens import Tokens, ask, reading

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingestd.http.intake import TelemetryPath
    from ingestd.model.stream import Stream

NOW = datetime.now(UTC).replace(microsecond=0)
MINUTE = timedelta(minutes=1)
OTHER = {METER: VEHICLE, VEHICLE: METER}
TOLD = [path for path in PATHS if path.stream]
BATCHES = [path for path in PATHS if path.is_batch]


def name_of(path: TelemetryPath) -> str:
    return path.path


@pytest.fixture(scope="module")
def broker() -> Iterator[PrivateMosquitto]:
    with PrivateMosquitto() as server:
        yield server


@pytest.fixture(scope="module")
def daemon(broker: PrivateMosquitto, shared_database_url: str) -> Iterator[Daemon]:
    with Daemon(mqtt_url=broker.url, database_url=shared_database_url, flush_interval=0.1) as daemon:
        daemon.wait_healthy()
        yield daemon


@pytest.fixture
def names() -> Names:
    return Names()


def reading_of(stream: Stream, names: Names, at: datetime = NOW) -> dict[str, Any]:
    name, message = (names.meter, meter_message) if stream is METER else (names.vehicle, vehicle_message)
    parsed: dict[str, Any] = json.loads(message(name, at)[1])
    return parsed


def stored(database_url: str, stream: Stream, names: Names) -> list[datetime]:
    name = names.meter if stream is METER else names.vehicle
    query = sql.SQL("SELECT ts FROM {} WHERE {} = %s ORDER BY ts")
    with psycopg.connect(database_url) as database:
        found = database.execute(
            query.format(sql.Identifier(stream.history), sql.Identifier(stream.id_column)), (name,)
        )
        return [at for (at,) in found]


def letters(database_url: str, mark: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database_url) as database:
        return database.execute(
            "SELECT source, stream, topic, reason, detail FROM dead_letter WHERE position(%s IN payload) > 0",
            (mark.encode(),),
        ).fetchall()


def test_there_are_the_paths_that_earlier_systems_have() -> None:
    assert {
        "/v1/telemetry": None,
        "/v1/ingest": None,
        "/v1/ingest/meter": METER,
        "/v1/ingest/vehicle": VEHICLE,
        "/v1/ingest/meter/batch": METER,
        "/v1/ingest/vehicle/batch": VEHICLE,
        "/v1/ingestion/meter": METER,
        "/v1/ingestion/vehicle": VEHICLE,
    } == {path.path: path.stream for path in PATHS}


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_a_reading_and_an_array_are_in_the_table_when_201_arrives(
    daemon: Daemon, shared_database_url: str, names: Names, path: TelemetryPath
) -> None:
    for stream in [path.stream] if path.stream else [METER, VEHICLE]:
        single = daemon.request("POST", path.path, body=reading_of(stream, names))
        array = daemon.request(
            "POST", path.path, body=[reading_of(stream, names, NOW - number * MINUTE) for number in range(3)]
        )

        assert [NOW - 2 * MINUTE, NOW - MINUTE, NOW] == stored(shared_database_url, stream, names)
        assert (201, {"accepted": 1, "duplicates": 0, "rejected": []}) == (single.status, single.json())
        assert (201, {"accepted": 2, "duplicates": 1, "rejected": []}) == (array.status, array.json())


@pytest.mark.parametrize("path", BATCHES, ids=name_of)
def test_a_batch_may_have_its_array_in_an_object(
    daemon: Daemon, shared_database_url: str, names: Names, path: TelemetryPath
) -> None:
    assert path.stream
    bad = {**reading_of(path.stream, names), "timestamp": "yesterday"}
    answer = daemon.request("POST", path.path, body={"readings": [reading_of(path.stream, names), bad]})

    assert (201, 1) == (answer.status, answer.json()["accepted"])
    assert [(1, "schema")] == [(one["index"], one["reason"]) for one in answer.json()["rejected"]]
    assert [NOW] == stored(shared_database_url, path.stream, names)
    too_many = daemon.request("POST", path.path, body={"readings": [1] * 10_001})
    assert "10001" in assert_problem(too_many, 413)


@pytest.mark.parametrize("path", [path for path in PATHS if not path.is_batch], ids=name_of)
def test_other_paths_take_no_array_in_an_object(daemon: Daemon, path: TelemetryPath) -> None:
    assert_problem(daemon.request("POST", path.path, body={"readings": []}), 422, reason="schema")


@pytest.mark.parametrize("path", TOLD, ids=name_of)
def test_a_reading_of_the_other_kind_is_refused_and_kept_as_a_dead_letter(
    daemon: Daemon, shared_database_url: str, names: Names, path: TelemetryPath
) -> None:
    assert path.stream
    other = OTHER[path.stream]
    good = reading_of(path.stream, names)
    nameless = {key: value for key, value in good.items() if key != path.stream.id_key}
    refused = [
        reading_of(other, names),
        {**good, other.id_key: "x"},
        {**good, other.id_key: "x", "type": path.stream.name},
        {**good, "type": other.name},
        {**nameless, "type": path.stream.name},
    ]
    marks = [f"{names.meter}-{number}" for number in range(len(refused))]

    for item, mark in zip(refused, marks, strict=True):
        answer = daemon.request("POST", path.path, body={**item, "mark": mark})

        detail = assert_problem(answer, 422, reason="schema")
        assert detail.startswith(f"{path.stream.id_key} is required here")
        assert [("http", "unknown", f"POST {path.path}", "schema", detail)] == letters(shared_database_url, mark)
    assert [] == stored(shared_database_url, METER, names)
    assert [] == stored(shared_database_url, VEHICLE, names)


@pytest.mark.parametrize("path", TOLD, ids=name_of)
def test_what_else_is_wrong_is_said_as_of_any_reading(
    daemon: Daemon, shared_database_url: str, names: Names, path: TelemetryPath
) -> None:
    assert path.stream
    stream = path.stream
    bad = {**reading_of(stream, names), "type": stream.name, "timestamp": "2020-01-01T00:00:00Z"}
    answer = daemon.request("POST", path.path, body=bad)

    detail = assert_problem(answer, 422, reason="timestamp-out-of-range")
    topic = stream.topic(bad[stream.id_key])
    assert [("http", stream.name, topic, "timestamp-out-of-range", detail)] == letters(
        shared_database_url, bad[stream.id_key]
    )


def test_a_token_sends_for_its_own_devices_by_every_path(
    broker: PrivateMosquitto, shared_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tokens = Tokens(tmp_path_factory.mktemp("tokens") / "tokens")
    with Daemon(
        mqtt_url=broker.url,
        database_url=shared_database_url,
        mqtt_client_id="ingestd-paths",
        tokens_file=str(tokens.path),
        flush_interval=0.1,
    ) as daemon:
        daemon.wait_healthy()
        for path in PATHS:
            if path.stream is VEHICLE:
                continue
            own, others = reading("mine"), reading("another")
            token = tokens.of["ingest"]

            assert 401 == ask(daemon, "POST", path.path, body=own).status
            assert 403 == ask(daemon, "POST", path.path, token=tokens.of["read"], body=own).status
            assert 201 == ask(daemon, "POST", path.path, token=token, body=own).status
            assert 403 == ask(daemon, "POST", path.path, token=token, body=others).status
            mixed = ask(daemon, "POST", path.path, token=token, body=[own, others, {}]).json()
            assert [(1, "not-allowed"), (2, "not-allowed")] == [
                (one["index"], one["reason"]) for one in mixed["rejected"]
            ]
