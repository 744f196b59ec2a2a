# ruff: noqa: SIM300 - expected == actual
"""Tokens of the HTTP API, on a real daemon. Before there were tokens, each route here answered everybody."""

from __future__ import annotations

import http.client
import os
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

from ingestd.demo.servers import PrivateMosquitto
from ingestd.http.routes import OPERATIONS
from ingestd.http.scopes import ACCESS
from tests.support.api import PROBLEM, answer_on, assert_problem, connected
from tests.support.commands import finished
from tests.support.daemon import Daemon, Response
from tests.support.polling import until
from tests.support.readings import count
from tests.support.tokens import SCOPES, Tokens, address, ask, ask_with, reading

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aiohttp import web

ENDLESS = "/v1/stream"
"""The answer to its GET does not end."""


@pytest.fixture(scope="module")
def daemon(tokens: Tokens, shared_database_url: str) -> Iterator[Daemon]:
    with (
        PrivateMosquitto() as broker,
        Daemon(
            mqtt_url=broker.url,
            database_url=shared_database_url,
            mqtt_client_id="ingestd-tokens",
            tokens_file=str(tokens.path),
            log_level="debug",
            flush_interval=0.1,
        ) as daemon,
    ):
        daemon.wait_healthy()
        yield daemon


def words(answer: Response) -> tuple[object, ...]:
    """The members of a problem, all but the id of the request."""
    return tuple((name, value) for name, value in answer.json().items() if name != "requestId")


def test_every_route_has_declared_who_may_use_it() -> None:
    assert sorted((route.method, route.path) for route in OPERATIONS) == sorted(ACCESS)


@pytest.mark.parametrize("route", OPERATIONS, ids=lambda route: f"{route.method} {route.path}")
def test_a_route_answers_its_scope_and_no_other(route: web.RouteDef, daemon: Daemon, tokens: Tokens) -> None:
    access = ACCESS[route.method, route.path]
    path = re.sub(r"\{\w+\}", "nobody", route.path)
    body: dict[str, str] | None = (
        {} if route.method in {"POST", "PUT"} else None
    )  # which no route takes: 400 or 422, and nothing changes
    method = "HEAD" if route.path == ENDLESS else route.method
    is_open = access in {"open", "partly-open"}
    shown = {**tokens.of, "ingest": tokens.gateway}

    allowed = {scope for scope, token in shown.items() if is_allowed(ask(daemon, method, path, token=token, body=body))}
    anonymous = ask(daemon, method, path, body=body)

    assert (set(SCOPES) if is_open else {access}) == allowed
    assert (anonymous.status == http.client.UNAUTHORIZED) is not is_open


def is_allowed(answer: Response) -> bool:
    assert answer.status not in {http.client.UNAUTHORIZED, http.client.INTERNAL_SERVER_ERROR}
    return answer.status != http.client.FORBIDDEN


def test_head_needs_the_scope_of_get(daemon: Daemon, tokens: Tokens) -> None:
    statuses = [
        ask(daemon, "HEAD", "/v1/vehicles", token=token).status
        for token in (None, tokens.of["admin"], tokens.of["read"])
    ]

    assert [401, 403, 200] == statuses


def test_what_is_no_route_is_told_to_those_with_a_token_only(daemon: Daemon, tokens: Tokens) -> None:
    assert 401 == ask(daemon, "GET", "/v1/nothing").status
    assert 404 == ask(daemon, "GET", "/v1/nothing", token=tokens.of["read"]).status
    assert 401 == ask(daemon, "DELETE", "/v1/vehicles").status
    assert 405 == ask(daemon, "DELETE", "/v1/vehicles", token=tokens.of["read"]).status


def test_all_that_is_no_valid_token_is_refused_in_the_same_words(daemon: Daemon, tokens: Tokens) -> None:
    read = tokens.of["read"]
    _, token_id, secret = read.split("_")
    other_id = tokens.of["admin"].split("_")[1]
    wrong = [
        {},
        *(
            {"Authorization": value}
            for value in (
                f"Bearer {tokens.expired}",
                f"Bearer {tokens.revoked}",
                f"Bearer ing_{token_id}_{'0' * 64}",
                f"Bearer ing_{other_id}_{secret}",
                f"Bearer ing_{'0' * 12}_{secret}",
                f"Bearer {read[:-1]}",
                f"Bearer {read}0",
                f"Bearer {secret}",
                f"Bearer {read.upper()}",
                f"Basic {read}",
                read,
                "Bearer",
                "",
            )
        ),
    ]
    answers = [ask_with(daemon, "GET", "/v1/vehicles", headers) for headers in wrong]
    answers.append(ask(daemon, "GET", f"/v1/vehicles?access_token={read}"))

    assert 200 == ask(daemon, "GET", "/v1/vehicles", token=read).status
    assert {401} == {answer.status for answer in answers}
    assert 1 == len({words(answer) for answer in answers})
    assert {("Bearer", PROBLEM)} == {
        (answer.headers["www-authenticate"], answer.headers["content-type"]) for answer in answers
    }
    assert 1 == len({tuple(sorted(set(answer.headers))) for answer in answers})


def test_a_scope_that_is_missing_is_refused_in_the_same_words_everywhere(daemon: Daemon, tokens: Tokens) -> None:
    answers = [
        ask(daemon, "GET", "/v1/vehicles", token=tokens.of["ingest"]),
        ask(daemon, "GET", "/v1/dead-letters", token=tokens.of["read"]),
        ask(daemon, "POST", "/v1/analytics/mappings", token=tokens.of["read"], body={}),
        ask(daemon, "POST", "/v1/telemetry", token=tokens.of["ingest"], body=reading("another")),
    ]

    for answer in answers:
        assert_problem(answer, 403)
    assert 1 == len({words(answer) for answer in answers})
    assert {"Bearer"} == {answer.headers["www-authenticate"] for answer in answers}


def test_the_twenty_first_failure_of_an_address_in_a_minute_is_answered_with_429(
    daemon: Daemon, tokens: Tokens
) -> None:
    hostile = address()
    statuses = [
        ask(daemon, "GET", "/metrics", token=f"ing_{n:012x}_{n:064x}", source=hostile).status for n in range(50)
    ]
    refused = ask(daemon, "GET", "/metrics", source=hostile)

    assert [401] * 20 + [429] * 30 == statuses
    assert_problem(refused, 429)
    assert "60" == refused.headers["retry-after"]
    # Whoever shares the address and has a token is not shut out.
    assert 200 == ask(daemon, "GET", "/metrics", token=tokens.of["read"], source=hostile).status
    assert 200 == ask(daemon, "GET", "/health", source=hostile).status
    assert 401 == ask(daemon, "GET", "/metrics").status


def test_readings_of_devices_that_the_token_is_not_bound_to_are_kept_nowhere(
    daemon: Daemon, tokens: Tokens, shared_database_url: str
) -> None:
    before = count(shared_database_url, "dead_letter")
    bad = reading("another") | {"voltage": -1}
    elements: list[Any] = [
        reading("mine"),
        reading("another"),
        bad,
        {"voltage": 230},
        1,
        reading("mine") | {"voltage": -1},
    ]
    answer = ask(daemon, "POST", "/v1/telemetry", token=tokens.of["ingest"], body=elements)
    alone = [ask(daemon, "POST", "/v1/telemetry", token=tokens.of["ingest"], body=body) for body in elements[1:5]]

    assert 201 == answer.status
    assert 1 == answer.json()["accepted"]
    reasons = {rejected["index"]: rejected["reason"] for rejected in answer.json()["rejected"]}
    assert dict.fromkeys(range(1, 5), "not-allowed") | {5: "schema"} == reasons
    assert [403] * 4 == [answer.status for answer in alone]
    assert before + 1 == count(shared_database_url, "dead_letter")
    assert 404 == ask(daemon, "GET", "/v1/analytics/meter/another/live", token=tokens.of["read"]).status


def test_a_gateway_sends_for_all_devices(daemon: Daemon, tokens: Tokens) -> None:
    answer = ask(daemon, "POST", "/v1/telemetry", token=tokens.gateway, body=[reading("g-1"), reading("g-2"), {}])

    assert 201 == answer.status
    assert 2 == answer.json()["accepted"]
    assert ["schema"] == [rejected["reason"] for rejected in answer.json()["rejected"]]


def test_health_tells_its_status_alone_to_those_who_may_not_read(daemon: Daemon, tokens: Tokens) -> None:
    assert {"status": "healthy"} == ask(daemon, "GET", "/health").json()
    assert {"status": "healthy"} == ask(daemon, "GET", "/health", token=tokens.of["ingest"]).json()
    assert {"status": "healthy"} == ask(daemon, "GET", "/readyz", token=tokens.of["read"]).json()
    assert {"status": "alive"} == ask(daemon, "GET", "/livez", token="wrong").json()  # noqa: S106
    assert 401 == ask(daemon, "GET", "/health", token="wrong").status  # noqa: S106
    assert "database" in ask(daemon, "GET", "/health", token=tokens.of["read"]).json()


def test_no_token_reaches_the_log_or_an_answer(daemon: Daemon, tokens: Tokens) -> None:
    texts = [*tokens.of.values(), tokens.expired, tokens.revoked, f"ing_{'ab' * 6}_{'cd' * 32}"]
    answers = [
        ask_with(daemon, "GET", path, {"Authorization": f"{kind} {text}"}, source=address()).body
        for text in texts
        for kind in ("Bearer", "Basic")
        for path in ("/v1/vehicles", "/v1/nothing", "/health", "/v1/vehicles?colour=red")
    ]
    for text in texts:  # headers that the parser does not take
        for header in (f"Authorization: Bearer {text}\x01\r\n", f"Authorization Bearer {text}\r\n", f" {text}\r\n"):
            with connected(daemon) as client:
                client.sendall(f"GET /v1/vehicles HTTP/1.1\r\nHost: x\r\n{header}\r\n".encode())
                answers.append(answer_on(client).body)
    secrets = [text.split("_")[2] for text in texts]
    log = daemon.log.read_text()

    assert [] == [secret for secret in secrets if secret in log]
    assert [] == [secret for secret in secrets for answer in answers if secret.encode() in answer]


def test_tokens_are_made_listed_and_revoked_by_commands_and_read_on_sighup(
    broker: PrivateMosquitto, database_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "tokens"
    settings: dict[str, str | float] = {"tokens_file": str(path)}
    daemon = Daemon(mqtt_url=broker.url, database_url=database_url, **settings)
    daemon.command("token", "add", "first", "--scope", "read")  # the file has to be there at the start
    with daemon:
        daemon.wait_healthy()
        text = daemon.command("token", "add", "ops", "--scope", "read", "--scope", "admin", "--expires", "90d").strip()
        token_id, secret = text.split("_")[1:]

        assert 401 == ask(daemon, "GET", "/v1/vehicles", token=text).status
        reload(daemon, 1)
        assert 200 == ask(daemon, "GET", "/v1/vehicles", token=text).status
        assert 200 == ask(daemon, "GET", "/v1/dead-letters", token=text).status
        assert 0o600 == path.stat().st_mode & 0o777
        assert secret not in path.read_text()
        assert f"{token_id}\tops\tactive\tadmin,read\t-\t" in daemon.command("token", "list")

        daemon.command("token", "revoke", token_id)
        assert 200 == ask(daemon, "GET", "/v1/vehicles", token=text).status
        reload(daemon, 2)
        assert 401 == ask(daemon, "GET", "/v1/vehicles", token=text).status
        assert f"{token_id}\tops\trevoked" in daemon.command("token", "list")
        assert secret not in daemon.log.read_text()


def reload(daemon: Daemon, times: int) -> None:
    """SIGHUP, until it has read the file so often."""
    os.kill(daemon.pid, signal.SIGHUP)
    until(lambda: daemon.log.read_text().count('"file_read"') == times)


def test_a_file_that_others_can_read_ends_the_start_and_is_not_taken_on_sighup(
    broker: PrivateMosquitto, database_url: str, tmp_path: Path
) -> None:
    tokens = Tokens(tmp_path / "tokens")
    settings: dict[str, str | float] = {"tokens_file": str(tokens.path)}
    with Daemon(mqtt_url=broker.url, database_url=database_url, **settings) as daemon:
        daemon.wait_healthy()
        text = tokens.add("late", "read")
        tokens.path.chmod(0o644)
        os.kill(daemon.pid, signal.SIGHUP)
        until(lambda: "file_not_read" in daemon.log_tail())

        assert 401 == ask(daemon, "GET", "/v1/vehicles", token=text).status
        assert 200 == ask(daemon, "GET", "/v1/vehicles", token=tokens.of["read"]).status
        for mode in (0o640, 0o604, 0o620):
            tokens.path.chmod(mode)
            for command in ("run", "check-config"):
                refused = finished(tmp_path, command, **{name: str(value) for name, value in settings.items()})
                assert 1 == refused.returncode
                assert (
                    f"ingestd: INGESTD_TOKENS_FILE: {tokens.path}: others than its owner can use it"
                    f" (mode {mode:04o}): chmod 600 it\n" == refused.stderr
                )


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])  # noqa: S104 - to be refused
@pytest.mark.parametrize("command", ["run", "check-config"])
def test_without_tokens_a_host_that_others_can_reach_is_refused(host: str, command: str, tmp_path: Path) -> None:
    refused = finished(tmp_path, command, http_host=host)

    assert 1 == refused.returncode
    assert (
        f"ingestd: INGESTD_HTTP_HOST: others can reach {host!r}, and no tokens are used: set INGESTD_TOKENS_FILE, or"
        " listen on 127.0.0.1\n" == refused.stderr
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_without_tokens_loopback_addresses_are_taken(host: str, tmp_path: Path) -> None:
    assert 0 == finished(tmp_path, "check-config", http_host=host).returncode


def test_with_tokens_any_host_is_taken(tokens: Tokens, tmp_path: Path) -> None:
    taken = finished(
        tmp_path,
        "check-config",
        http_host="0.0.0.0",  # noqa: S104 - printed, not listened on
        tokens_file=str(tokens.path),
    )

    assert 0 == taken.returncode, taken.stderr


def test_options_that_mean_nothing_are_refused_and_write_nothing(tmp_path: Path) -> None:
    settings = {"tokens_file": str(tmp_path / "tokens")}
    wrong = [
        ("a", "--scope", "ingest"),
        ("a", "--scope", "read", "--device", "*"),
        ("a", "--scope", "ingest", "--device", "car:1"),
        ("a", "--scope", "read", "--expires", "soon"),
        ("a", "--scope", "read", "--expires", "9999999999d"),
        ("a\x1b", "--scope", "read"),
        ("a", "--scope", "all"),
        ("a",),
    ]

    assert {2} == {finished(tmp_path, "token", "add", *words, **settings).returncode for words in wrong}
    assert not (tmp_path / "tokens").exists()
    assert 1 == finished(tmp_path, "token", "list").returncode


def test_a_file_of_tokens_that_is_no_ordinary_file_is_refused(tmp_path: Path) -> None:
    """Before, a FIFO made the command wait for ever."""
    os.mkfifo(tmp_path / "fifo", 0o600)
    (tmp_path / "directory").mkdir(0o700)

    for name, said in (("fifo", "no ordinary file"), ("directory", "Is a directory")):
        refused = finished(tmp_path, "token", "list", tokens_file=str(tmp_path / name))
        assert (1, f"ingestd: INGESTD_TOKENS_FILE: {tmp_path / name}: {said}\n") == (refused.returncode, refused.stderr)
