# ruff: noqa: SIM300 - expected == actual
"""What deploy/ ships for Prometheus and Grafana is run: by a Prometheus that reads a daemon, and by PostgreSQL."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import psycopg
import pytest

from ingestd.demo.process import LOOPBACK, LoopbackPort
from ingestd.demo.servers import PrivateMosquitto
from tests.support.daemon import Daemon
from tests.support.documents import ROOT
from tests.support.polling import until
from tests.support.promtool import IS_MISSING, MISSING, RULES, metrics_in
from tests.support.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DASHBOARD: Final = ROOT / "deploy" / "grafana" / "dashboards" / "ingestd.json"
PROVISIONING: Final = ROOT / "deploy" / "grafana" / "provisioning"
PANELS: Final[list[dict[str, Any]]] = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
TARGETS: Final = [(panel, target) for panel in PANELS for target in panel.get("targets", ())]
EXPRESSIONS: Final = [target["expr"] for _, target in TARGETS if "expr" in target]
STATEMENTS: Final = {panel["title"]: target for panel, target in TARGETS if "rawSql" in target}


class Prometheus:
    """A Prometheus that is asked over HTTP."""

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, path: str, **parameters: str) -> Any:  # noqa: ANN401 - as the API answers
        query = f"?{urlencode(parameters)}" if parameters else ""
        with urlopen(f"http://{LOOPBACK}:{self._port}/api/v1/{path}{query}", timeout=10) as answer:
            return json.load(answer)["data"]

    def has_read(self, daemon_is: str) -> bool:
        try:
            return any(sample["value"][1] == daemon_is for sample in self.ask("query", query="up")["result"])
        except (URLError, ConnectionError):
            return False  # not started yet


@contextmanager
def running(directory: Path, *, target: str, token: Path) -> Iterator[Prometheus]:
    """With the shipped configuration and rules; only names of files, the target and the pace are another's."""
    text = RULES.with_name("prometheus.yml").read_text(encoding="utf-8")
    for shipped, ours in (("ingestd:8080", target), ("/run/secrets/prometheus_token", str(token)), ("15s", "1s")):
        assert shipped in text
        text = text.replace(shipped, ours)
    (directory / "prometheus.yml").write_text(text, encoding="utf-8")
    shutil.copy(RULES, directory)
    port = LoopbackPort()
    options = [
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={LOOPBACK}:{port.number}",
    ]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(["prometheus", *options], stdout=log, stderr=log, process_group=0)
    try:
        yield Prometheus(port.number)
    finally:
        process.kill()
        process.wait()
        port.close()


@pytest.fixture(scope="module")
def broker() -> Iterator[PrivateMosquitto]:
    with PrivateMosquitto() as server:
        yield server


@pytest.fixture(scope="module")
def prometheus(
    tmp_path_factory: pytest.TempPathFactory, broker: PrivateMosquitto, shared_database_url: str
) -> Iterator[Prometheus]:
    """It has read a daemon several times, with dead letters among the messages."""
    if IS_MISSING or shutil.which("prometheus") is None:
        pytest.skip(MISSING)
    directory = tmp_path_factory.mktemp("prometheus")
    tokens = Tokens(directory / "tokens")
    token = directory / "token"
    token.write_text(f"{tokens.of['read']}\n", encoding="utf-8")
    with Daemon(
        mqtt_url=broker.url,
        database_url=shared_database_url,
        read_database_url=shared_database_url,  # so that there are metrics of a replica
        tokens_file=str(tokens.path),
        flush_interval=0.1,
    ) as daemon:
        daemon.wait_healthy()
        with running(directory, target=daemon.url.removeprefix("http://"), token=token) as server:
            until(lambda: server.has_read("1"))
            sent = {"Authorization": f"Bearer {tokens.gateway}"}
            daemon.request("POST", "/v1/telemetry", body={"no": "reading"}, headers=sent)
            until(lambda: increase_of_dead_letters(server) > 0)
            yield server


def increase_of_dead_letters(server: Prometheus) -> float:
    """Of the series that had no dead letter before: it was there, as 0."""
    result = server.ask("query", query="sum(increase(ingestd_dead_lettered_total[5m]))")["result"]
    return float(result[0]["value"][1]) if result else 0.0


def with_values(expression: str) -> str:
    """As Grafana sends it."""
    return expression.replace("$__rate_interval", "5m").replace("$job", "ingestd").replace("$instance", ".*")


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_each_expression_of_the_dashboard_has_a_result(prometheus: Prometheus, expression: str) -> None:
    assert prometheus.ask("query", query=with_values(expression))["result"]


def test_prometheus_reads_the_daemon_by_the_token_and_evaluates_all_rules(prometheus: Prometheus) -> None:
    rules = len(re.findall(r"- (?:alert|record): ", RULES.read_text(encoding="utf-8")))

    def evaluated() -> list[dict[str, Any]]:
        return [
            rule
            for group in prometheus.ask("rules")["groups"]
            for rule in group["rules"]
            if rule["health"] != "unknown"
        ]

    assert 20 <= rules
    until(lambda: len(evaluated()) == rules)
    assert {"ok"} == {rule["health"] for rule in evaluated()}
    assert [] == [rule["name"] for rule in evaluated() if rule.get("state") == "firing"]


def test_all_metrics_of_the_dashboard_and_the_rules_exist(prometheus: Prometheus) -> None:
    names = set(prometheus.ask("label/__name__/values"))
    used = metrics_in("\n".join([*EXPRESSIONS, RULES.read_text(encoding="utf-8")]))

    assert 15 < len(used)
    assert set() == used - names


@pytest.mark.parametrize("title", STATEMENTS)
def test_each_statement_of_the_dashboard_runs_on_a_migrated_database(shared_database_url: str, title: str) -> None:
    target = STATEMENTS[title]
    statement = re.sub(
        r"\$__timeFilter\((\w+)\)", r"\1 BETWEEN '2026-01-01T00:00:00Z' AND '2026-01-02T00:00:00Z'", target["rawSql"]
    )
    assert "$" not in statement

    with psycopg.connect(shared_database_url) as connection:
        cursor = connection.execute(statement)

    assert ("time" == (cursor.description or [])[0].name) == (target["format"] == "time_series")


def test_panels_have_sources_that_are_provisioned_and_places_of_their_own() -> None:
    provisioned = (PROVISIONING / "datasources" / "ingestd.yml").read_text(encoding="utf-8")
    sources = set(re.findall(r"^    uid: (\S+)\n    type: (\S+)$", provisioned, re.MULTILINE))
    used = {(target["datasource"]["uid"], target["datasource"]["type"]) for _, target in TARGETS}
    cells = [
        (x, y)
        for panel in PANELS
        for at in (panel["gridPos"],)
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]

    assert used == sources
    assert len(cells) == len(set(cells))
    assert len(PANELS) == len({panel["id"] for panel in PANELS})
    assert all(panel["title"] for panel in PANELS)
