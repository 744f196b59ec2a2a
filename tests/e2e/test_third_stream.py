# ruff: noqa: SIM300 - expected == actual
"""Other kinds of devices, in a copy of the package: a declaration and a migration each, and all the rest is there.

Chargers tell of energy, and may leave out a figure. Stations tell of their state, and of no energy.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest

from tests.support.daemon import ROOT, Daemon
from tests.support.devices import Device
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ingestd.demo.servers import PrivateMosquitto, PrivatePostgres

DECLARED: Final = """
class ChargerPayload(TypedDict):
    chargerId: NotRequired[_Identity]
    current: Annotated[float, _number(0, 1000, "A")]
    cableTemp: NotRequired[Annotated[float, _number(-60, 150, "degrees Celsius")]]
    kwhDelivered: NotRequired[_KilowattHours]
    kwhDeliveredRegister: NotRequired[_Register]
    timestamp: Timestamp


class StationPayload(TypedDict):
    stationId: NotRequired[_Identity]
    state: Annotated[float, _number(0, 9, "state")]
    timestamp: Timestamp


CHARGER: Final = Stream(
    name="charger",
    topic_root="chargers",
    id_key="chargerId",
    columns={
        "current": "current_a",
        "cableTemp": "cable_temp",
        "kwhDelivered": "kwh_delivered",
        "kwhDeliveredRegister": "kwh_delivered_register",
    },
    energy_key="kwhDelivered",
    register_key="kwhDeliveredRegister",
    max_kw=350.0,
    averaged_key="current",
    optional=frozenset({"cableTemp"}),
    validate_json=TypeAdapter(ChargerPayload).validator.validate_json,
    validate_object=TypeAdapter(ChargerPayload).validator.validate_python,
    payload_schema=TypeAdapter(ChargerPayload).json_schema,
)
STATION: Final = Stream(
    name="station",
    topic_root="stations",
    id_key="stationId",
    columns={"state": "state"},
    validate_json=TypeAdapter(StationPayload).validator.validate_json,
    validate_object=TypeAdapter(StationPayload).validator.validate_python,
    payload_schema=TypeAdapter(StationPayload).json_schema,
)
"""
MIGRATION: Final = """
SELECT ingestd_create_stream('charger', $$
    current_a              double precision  NOT NULL,
    cable_temp             double precision,
    kwh_delivered          double precision,
    kwh_delivered_register double precision
$$);
SELECT ingestd_create_stream('station', 'state double precision NOT NULL', has_energy => false);
"""
STREAMS: Final = "STREAMS: Final = (METER, VEHICLE)"
HOUR: Final = timedelta(hours=1)
MINUTE: Final = timedelta(minutes=1)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package in it, to which both kinds have been added."""
    root = tmp_path_factory.mktemp("streams")
    shutil.copytree(ROOT / "ingestd", root / "ingestd", ignore=shutil.ignore_patterns("__pycache__"))
    stream = root / "ingestd" / "model" / "stream.py"
    text = stream.read_text(encoding="utf-8")
    assert 1 == text.count(STREAMS)
    both = DECLARED + STREAMS.replace("VEHICLE", "VEHICLE, CHARGER, STATION")
    stream.write_text(text.replace(STREAMS, both), encoding="utf-8")
    (root / "ingestd" / "sql" / "schema" / "0099_more_streams.sql").write_text(MIGRATION, encoding="utf-8")
    return root


@pytest.fixture
def daemon(package: Path, broker: PrivateMosquitto, own_postgres: PrivatePostgres) -> Iterator[Daemon]:
    class Copied(Daemon):
        root = package

    with Copied(
        mqtt_url=broker.url,
        database_url=own_postgres.dsn(),
        flush_interval=0.1,
        offline_after="2s",
        alert_min_duration="1s",
    ) as daemon:
        daemon.wait_healthy()
        yield daemon


def told(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def get(daemon: Daemon, path: str) -> Any:  # noqa: ANN401
    response = daemon.request("GET", path)
    assert 200 == response.status, response.body
    return response.json()


def test_other_kinds_of_devices_are_taken_in_kept_and_shown(
    daemon: Daemon, broker: PrivateMosquitto, own_postgres: PrivatePostgres
) -> None:
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    begin = (now - 2 * HOUR).replace(minute=0)
    messages: list[tuple[str, dict[str, object]]] = [
        ("chargers/C-1/telemetry", {"current": 16.0, "kwhDelivered": 0.1, "timestamp": told(begin + number * MINUTE)})
        for number in range(31)
    ]
    messages[-1][1]["cableTemp"] = 30.0
    messages.append(("chargers/C-1/telemetry", {"current": 16.0, "timestamp": told(begin)}))
    messages.append(("stations/S-1/telemetry", {"state": 2, "timestamp": told(now)}))
    with Device(broker.url) as device:
        device.publish_many((topic, json.dumps(payload).encode()) for topic, payload in messages)
    posted = daemon.request(
        "POST",
        "/v1/telemetry",
        body=[
            {"type": "charger", "chargerId": "C-2", "current": 6, "kwhDeliveredRegister": 10.5, "timestamp": told(now)},
            {"stationId": "S-2", "state": 1, "timestamp": told(now)},
            {"stationId": "S-2", "state": 10, "timestamp": told(now)},
        ],
    )

    assert (201, 2, ["schema"]) == (
        posted.status,
        posted.json()["accepted"],
        [one["reason"] for one in posted.json()["rejected"]],
    )
    by_path = {"chargerId": "C-2", "current": 6, "kwhDeliveredRegister": 10.6, "timestamp": told(now - MINUTE)}
    assert 201 == daemon.request("POST", "/v1/ingest/charger", body=by_path).status
    until(lambda: 33.0 == daemon.metric("ingestd_committed_total", stream="charger"))
    until(lambda: 2.0 == daemon.metric("ingestd_committed_total", stream="station"))
    assert 1.0 == daemon.metric("ingestd_dead_lettered_total", stream="charger", source="mqtt", reason="schema")
    (refused,) = (one for one in get(daemon, "/v1/dead-letters")["deadLetters"] if one["stream"] == "charger")
    assert "exactly one of kwhDelivered and kwhDeliveredRegister" == refused["detail"]
    shows_newest_readings(daemon, begin)
    shows_energy(daemon, begin)
    exports_history(daemon, begin, now)
    documents_topics(daemon)
    has_settings(daemon)
    until(lambda: {("charger-silent", "C-1"), ("station-silent", "S-1")} <= active_alerts(daemon), within=40)
    closes_quarters(own_postgres, daemon)
    assert {"charger_history", "station_history"} <= {
        one["table"] for one in json.loads(daemon.command("partitions", "--json"))["totals"]
    }
    assert 'FROM "station_live"' in daemon.command("sql", "newest:station")


def shows_newest_readings(daemon: Daemon, begin: datetime) -> None:
    newest = get(daemon, "/v1/analytics/charger/C-1/live")
    assert {"chargerId": "C-1", "current": 16.0, "kwhDelivered": 0.1, "cableTemp": 30.0} == {
        key: value for key, value in newest.items() if key not in ("timestamp", "receivedAt")
    }
    assert told(begin + 30 * MINUTE) == newest["timestamp"]
    assert ["C-1", "C-2"] == [one["chargerId"] for one in get(daemon, "/v1/chargers")["chargers"]]
    assert [("S-1", 2.0), ("S-2", 1.0)] == [
        (one["stationId"], one["state"]) for one in get(daemon, "/v1/stations")["stations"]
    ]
    assert 404 == daemon.request("GET", "/v1/analytics/station/S-1/series").status


def shows_energy(daemon: Daemon, begin: datetime) -> None:
    window = f"startTime={told(begin)}&endTime={told(begin + HOUR)}"
    series = get(daemon, f"/v1/analytics/charger/C-1/series?bucket=15m&{window}")
    assert [(1.5, 16.0, 15), (1.5, 16.0, 15), (None, None, 0), (None, None, 0)] == [
        (point["kwh"] and round(point["kwh"], 9), point["current"], point["samples"]) for point in series["points"]
    ]
    (total,) = get(daemon, f"/v1/analytics/charger/C-1/totals?{window}")["totals"]
    assert (3.0, 30) == (round(total["kwh"], 9), total["samples"])


def exports_history(daemon: Daemon, begin: datetime, now: datetime) -> None:
    window = f"startTime={told(begin)}&endTime={told(now + MINUTE)}"
    chargers, stations = (
        list(csv.DictReader(io.StringIO(daemon.request("GET", f"/v1/export/{root}.csv?{window}").body.decode())))
        for root in ("chargers", "stations")
    )
    assert 33 == len(chargers)
    assert [("S-1", "2"), ("S-2", "1")] == sorted((row["stationId"], row["state"]) for row in stations)


def documents_topics(daemon: Daemon) -> None:
    document = get(daemon, "/asyncapi.json")
    addresses = {channel["address"] for channel in document["channels"].values()}
    assert {"chargers/{chargerId}/telemetry", "stations/{stationId}/telemetry"} < addresses
    assert {"current", "cableTemp"} < document["components"]["schemas"]["charger"]["properties"].keys()
    assert "station-silent" in document["channels"]["alerts"]["parameters"]["kind"]["enum"]


def has_settings(daemon: Daemon) -> None:
    of_charger = daemon.request("PUT", "/v1/devices/charger/C-1/settings", body={"maxKw": 350, "offlineAfter": "1s"})
    assert (200, {"chargerId": "C-1", "offlineAfter": "1s", "maxKw": 350.0}) == (of_charger.status, of_charger.json())
    of_station = daemon.request("PUT", "/v1/devices/station/S-1/settings", body={"offlineAfter": "1s"})
    assert (200, {"stationId": "S-1", "offlineAfter": "1s"}) == (of_station.status, of_station.json())
    assert 400 == daemon.request("PUT", "/v1/devices/station/S-1/settings", body={"maxKw": 350}).status


def active_alerts(daemon: Daemon) -> set[tuple[str, str]]:
    return {(one["kind"], one["deviceId"]) for one in get(daemon, "/v1/alerts?state=active")["alerts"]}


def closes_quarters(postgres: PrivatePostgres, daemon: Daemon) -> None:
    def quarters() -> list[tuple[str, float, int]]:
        with psycopg.connect(postgres.dsn()) as connection:
            return connection.execute(
                "SELECT charger_id, kwh, samples FROM charger_quarter WHERE charger_id = 'C-1' ORDER BY start"
            ).fetchall()

    until(lambda: 3 <= len(quarters()), within=40)
    assert [0.1, 1.5, 1.5] == [round(kwh, 9) for _, kwh, _ in quarters()]
    assert daemon.metric("ingestd_ledger_made_until_timestamp_seconds", stream="charger") > 0
