# ruff: noqa: SIM300 - expected == actual
"""An alert on its whole way: from a reading to the API, to the broker and to somebody's web server."""

from __future__ import annotations

import json
import subprocess
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from tests.support.api import assert_problem
from tests.support.daemon import Daemon
from tests.support.devices import Device
from tests.support.polling import until
from tests.support.readings import vehicle_message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingestd.demo.servers import PrivateMosquitto

BATTERY, DEAD_LETTERS = "battery-over-temperature", "dead-letter-rate"


class WebServer(ThreadingHTTPServer):
    """Keeps the alerts it is sent; the first request is answered with 503."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.refused = 0
        self.alerts: list[dict[str, Any]] = []

    @property
    def told(self) -> list[tuple[str, str | None, str]]:
        return [(alert["kind"], alert["deviceId"], alert["state"]) for alert in self.alerts]


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, WebServer)
        assert "application/json" == self.headers["Content-Type"]
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if server.refused:
            server.alerts += body["alerts"]
        else:
            server.refused += 1
        self.send_response(204 if server.alerts else 503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


@contextmanager
def web_server() -> Iterator[WebServer]:
    with WebServer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def retained(broker: PrivateMosquitto, count: int) -> dict[str, tuple[str, str]]:
    """The first messages a newcomer is given: state and seconds until it expires, by topic."""
    command = ["mosquitto_sub", "-p", str(broker.port), "-V", "5", "-q", "1", "-t", "ingestd/alerts/#"]
    wanted = ["--retained-only", "-C", str(count), "-W", "1", "-F", "%t\t%E\t%p"]
    shown = subprocess.run([*command, *wanted], capture_output=True, text=True, check=False).stdout
    lines = [line.split("\t") for line in shown.splitlines()]
    return {topic: (json.loads(payload)["state"], expiry) for topic, expiry, payload in lines}


def test_alerts_reach_everybody_and_outlive_a_restart(broker: PrivateMosquitto, database_url: str) -> None:
    def report(celsius: float) -> None:
        device.publish(*vehicle_message("EV-101", datetime.now(UTC), temperature=celsius))

    def listed(query: str) -> list[dict[str, Any]]:
        alerts: list[dict[str, Any]] = daemon.request("GET", f"/v1/alerts?{query}").json()["alerts"]
        return alerts

    with (
        web_server() as web,
        Daemon(
            mqtt_url=broker.url,
            database_url=database_url,
            flush_interval=0.1,
            alert_min_duration="1s",
            alert_battery_temp=55,
            alert_webhook_url=f"http://127.0.0.1:{web.server_port}/alerts?key=secret",
        ) as daemon,
        Device(broker.url) as device,
    ):
        daemon.wait_healthy()
        report(celsius=60)
        until(lambda: web.told == [(BATTERY, "EV-101", "active")])
        assert 1 == web.refused
        assert listed("state=active") == web.alerts
        assert 1 == daemon.metric("ingestd_alerts_active", kind=BATTERY)
        assert {f"ingestd/alerts/{BATTERY}/EV-101": ("active", "")} == retained(broker, 1)

        assert 0 == daemon.terminate()
        daemon.start()
        daemon.wait_healthy()
        assert listed("state=active") == web.alerts
        report(celsius=20)
        for _ in range(3):
            device.publish("vehicles/EV-101/telemetry", b"volts: many")
        until(lambda: len(web.told) == 3)

        assert {(BATTERY, "EV-101", "cleared"), (DEAD_LETTERS, None, "active")} == set(web.told[1:])
        (past,) = listed("state=past")
        assert (web.alerts[0]["id"], web.alerts[0]["raisedAt"]) == (past["id"], past["raisedAt"])
        kept = until(lambda: len(found := retained(broker, 2)) == 2 and found)
        assert kept
        assert ("active", "") == kept[f"ingestd/alerts/{DEAD_LETTERS}/fleet"]
        state, expiry = kept[f"ingestd/alerts/{BATTERY}/EV-101"]
        assert ("cleared", True) == (state, 86_000 < int(expiry) <= 86_400)
        log = daemon.log.read_text()
        assert "secret" not in log
        assert "alert_evaluation_failed" not in log

        _listed_by_pages_and_filters(daemon)


def _listed_by_pages_and_filters(daemon: Daemon) -> None:
    first = daemon.request("GET", "/v1/alerts?limit=1").json()
    second = daemon.request("GET", f"/v1/alerts?limit=1&before={first['next']}").json()
    third = daemon.request("GET", f"/v1/alerts?limit=1&before={second['next']}").json()
    assert [DEAD_LETTERS, BATTERY] == [page["alerts"][0]["kind"] for page in (first, second)]
    assert {"alerts": [], "next": None} == third
    for query, count in {f"kind={BATTERY}": 1, "device=EV-101": 1, "device=EV-102": 0, "kind=meter-silent": 0}.items():
        assert count == len(daemon.request("GET", f"/v1/alerts?{query}").json()["alerts"]), query
    for name, value in {
        "state": "pending",
        "kind": "bad-luck",
        "device": "a/b",
        "limit": "0",
        "before": "-1",
        "colour": "red",
    }.items():
        assert_problem(daemon.request("GET", f"/v1/alerts?{name}={value}"), 400, parameter=name)
