# ruff: noqa: SIM300 - expected == actual
"""The id of a request: in every answer, in problems, and in the log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.api import answer_on, assert_problem, connected
from tests.support.daemon import Daemon

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingestd.demo.servers import PrivateMosquitto, PrivatePostgres

HEADER = "x-request-id"


@pytest.fixture
def daemon(broker: PrivateMosquitto, own_database_url: str) -> Iterator[Daemon]:
    with Daemon(mqtt_url=broker.url, database_url=own_database_url) as daemon:
        daemon.wait_healthy()
        yield daemon


def test_every_request_has_an_id_that_its_answer_and_the_log_show(
    daemon: Daemon, own_postgres: PrivatePostgres
) -> None:
    paths = ["/", "/health", "/metrics", "/v1/export/meters.csv", "/login", "/nowhere", "/v1/vehicles?colour=red"]
    made = [daemon.request("GET", path).headers[HEADER] for path in paths]
    assert len(set(made)) == len(paths)

    mine = "order-66:Ab_9.z"
    assert [mine] * len(paths) == [
        daemon.request("GET", path, headers={HEADER: mine}).headers[HEADER] for path in paths
    ]
    problem = daemon.request("GET", "/v1/vehicles?colour=red", headers={HEADER: mine})
    assert mine == problem.json()["requestId"]
    assert_problem(problem, 400, parameter="colour")

    longest = "x" * 64
    assert longest == daemon.request("GET", "/livez", headers={HEADER: longest}).headers[HEADER]
    for refused in ("", "x" * 65, "a b", "a,b", "<script>", 'a"b', "ä"):
        answered = daemon.request("GET", "/livez", headers={HEADER: refused})
        assert answered.status == 200
        assert refused != answered.headers[HEADER]
        assert 16 == len(answered.headers[HEADER])

    own_postgres.stop()
    for method, path in (("GET", "/v1/alerts"), ("DELETE", "/v1/devices/meter/meter-001")):
        answer = daemon.request(method, path, headers={HEADER: f"{method}-1"})
        assert_problem(answer, 503)
        (line,) = [
            line for line in map(json.loads, daemon.log.read_text().splitlines()) if f"{method}-1" in line.values()
        ]
        assert ("request_failed", f"{method}-1") == (line["event"], line["request_id"])
    others = [line for line in map(json.loads, daemon.log.read_text().splitlines()) if "path" not in line]
    assert [] == [line for line in others if "request_id" in line]


@pytest.mark.parametrize("sent", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nExpect: cake\r\n\r\n"])
def test_what_is_no_request_is_answered_with_an_id_too(daemon: Daemon, sent: bytes) -> None:
    with connected(daemon) as client:
        client.sendall(sent)
        answer = answer_on(client)

    assert answer.json()["requestId"] == answer.headers[HEADER]


def test_ids_of_requests_on_one_connection_are_their_own(daemon: Daemon) -> None:
    with connected(daemon) as client:
        ids = []
        for header in ("X-Request-ID: one\r\n", "", "X-Request-ID: two\r\n", ""):
            client.sendall(f"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n{header}\r\n".encode())
            ids.append(answer_on(client).json()["requestId"])

    assert ("one", "two") == (ids[0], ids[2])
    assert len(set(ids)) == len(ids)
