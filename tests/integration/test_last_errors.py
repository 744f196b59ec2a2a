# ruff: noqa: SIM300 - expected == actual
"""What went wrong is in /health afterwards."""

from __future__ import annotations

from ingestd.demo.servers import PrivateMosquitto
from tests.support.daemon import Daemon
from tests.support.polling import until


def test_a_lost_connection_to_the_broker_is_in_health(database_url: str) -> None:
    with PrivateMosquitto() as broker, Daemon(mqtt_url=broker.url, database_url=database_url) as daemon:
        daemon.wait_healthy()
        broker.stop()
        until(lambda: "broker_connection_lost" in [one["event"] for one in last_errors(daemon)], within=20)
        (lost,) = [one for one in last_errors(daemon) if one["event"] == "broker_connection_lost"]

        assert {"at", "level", "event", "detail", "times"} == set(lost)
        assert ("warning", 1) == (lost["level"], lost["times"])
        assert lost["detail"]


def last_errors(daemon: Daemon) -> list[dict[str, object]]:
    found: list[dict[str, object]] = daemon.request("GET", "/health").json()["lastErrors"]
    return found
