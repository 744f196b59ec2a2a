# ruff: noqa: SIM300 - expected == actual
"""Logging in at the page, on real daemons: what the cookie allows, and what it does not."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING

import pytest

from ingestd.demo.servers import PrivateMosquitto
from tests.support.api import assert_problem
from tests.support.daemon import Daemon
from tests.support.polling import until
from tests.support.tokens import Tokens, address, ask_with, cookie, log_in

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = {"Accept": "text/html,application/xhtml+xml", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


@pytest.fixture(scope="module")
def daemon(tokens: Tokens, shared_database_url: str) -> Iterator[Daemon]:
    with (
        PrivateMosquitto() as broker,
        Daemon(mqtt_url=broker.url, database_url=shared_database_url, tokens_file=str(tokens.path)) as daemon,
    ):
        daemon.wait_healthy()
        yield daemon


def test_a_token_logs_in_and_the_cookie_has_its_scopes(daemon: Daemon, tokens: Tokens) -> None:
    answer = log_in(daemon, tokens.of["read"])
    session = {"Cookie": cookie(answer)}

    assert (200, {"name": "reader", "scopes": ["read"]}) == (answer.status, answer.json())
    assert 200 == ask_with(daemon, "GET", "/v1/vehicles", session).status
    assert 200 == ask_with(daemon, "GET", "/", session | PAGE).status
    assert_problem(ask_with(daemon, "GET", "/v1/dead-letters", session), 403)
    assert "database" in ask_with(daemon, "GET", "/health", session).json()


def test_the_cookie_is_out_of_reach_of_scripts_and_of_other_sites(daemon: Daemon, tokens: Tokens) -> None:
    answer = log_in(daemon, tokens.of["read"])
    ((name, morsel),) = SimpleCookie(answer.headers["set-cookie"]).items()

    assert "ingestd" == name
    assert (True, "Strict", "/", "", "") == (
        morsel["httponly"],
        morsel["samesite"],
        morsel["path"],
        morsel["domain"],
        morsel["secure"],  # TLS has a test of its own
    )
    assert str(12 * 3600) == morsel["max-age"]
    assert tokens.of["read"].split("_")[2] not in answer.headers["set-cookie"]
    assert len(morsel.value) >= 43  # 256 bits


@pytest.mark.parametrize("kind", ["expired", "revoked", "unknown"])
def test_what_is_no_valid_token_does_not_log_in(daemon: Daemon, tokens: Tokens, kind: str) -> None:
    texts = {"expired": tokens.expired, "revoked": tokens.revoked, "unknown": "ing_"}

    answer = log_in(daemon, texts[kind])

    assert_problem(answer, 401)
    assert "set-cookie" not in answer.headers


def test_guessing_at_the_login_is_limited_like_guessing_at_other_routes(daemon: Daemon, tokens: Tokens) -> None:
    source = address()

    statuses = [log_in(daemon, "ing_000000000000_" + "0" * 64, source=source).status for _ in range(22)]

    assert [401] * 20 + [429] * 2 == statuses
    assert 200 == log_in(daemon, tokens.of["read"], source=source).status


def test_a_session_ends_when_one_logs_out(daemon: Daemon, tokens: Tokens) -> None:
    session = {"Cookie": cookie(log_in(daemon, tokens.of["read"]))}

    out = ask_with(daemon, "POST", "/logout", session)

    assert 204 == out.status
    assert "Max-Age=0" in out.headers["set-cookie"]
    assert 401 == ask_with(daemon, "GET", "/v1/vehicles", session).status


def test_a_session_ends_with_its_token(daemon: Daemon, tokens: Tokens) -> None:
    brief = tokens.add("brief", "read", expires_at=datetime.now(UTC) + timedelta(seconds=60))
    revoked = tokens.add("soon-revoked", "read")
    read_again(daemon)
    sessions = [{"Cookie": cookie(log_in(daemon, text))} for text in (brief, revoked)]
    tokens.file.revoke(revoked.split("_")[1], at=datetime.now(UTC))
    read_again(daemon)

    assert [200, 401] == [ask_with(daemon, "GET", "/v1/vehicles", session).status for session in sessions]


def read_again(daemon: Daemon) -> None:
    before = daemon.log.read_text().count("file_read")
    os.kill(daemon.pid, signal.SIGHUP)
    until(lambda: daemon.log.read_text().count("file_read") > before)


@pytest.mark.parametrize(
    "sent",
    ["ingestd=", "ingestd=x", f"ingestd={'A' * 43}", "ingestd=a; ingestd=b", 'ingestd="', "=;;=", "ingestd=\u00e4"],
)
def test_a_cookie_that_nobody_was_given_is_refused(daemon: Daemon, sent: str) -> None:
    assert 401 == ask_with(daemon, "GET", "/v1/vehicles", {"Cookie": sent}).status


def test_a_header_wins_over_a_cookie(daemon: Daemon, tokens: Tokens) -> None:
    session = {"Cookie": cookie(log_in(daemon, tokens.of["read"]))}

    assert 401 == ask_with(daemon, "GET", "/v1/vehicles", session | {"Authorization": "Bearer wrong"}).status


def test_a_page_of_another_site_cannot_use_the_cookie(daemon: Daemon, tokens: Tokens) -> None:
    session = {"Cookie": cookie(log_in(daemon, tokens.of["admin"]))}
    change = {"vehicleId": "EV-1", "meterId": "m-1"}

    for foreign in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        for path, body in (("/v1/analytics/mappings", change), ("/login", {"token": tokens.of["read"]})):
            assert_problem(ask_with(daemon, "POST", path, session | foreign, body=body), 403)
        assert_problem(ask_with(daemon, "POST", "/logout", session | foreign), 403)
    own = {"Origin": daemon.url, "Sec-Fetch-Site": "same-origin"}
    assert 201 == ask_with(daemon, "POST", "/v1/analytics/mappings", session | own, body=change).status


def test_a_login_is_taken_as_json_only(daemon: Daemon, tokens: Tokens) -> None:
    for content_type in ("application/x-www-form-urlencoded", "text/plain"):
        answer = daemon.request(
            "POST", "/login", body=f"token={tokens.of['read']}".encode(), headers={"Content-Type": content_type}
        )
        assert_problem(answer, 415)


def test_who_opens_the_page_without_a_session_is_led_to_the_login(daemon: Daemon) -> None:
    page = ask_with(daemon, "GET", "/", PAGE)
    program = ask_with(daemon, "GET", "/", {"Accept": "*/*"})

    assert (303, "/login") == (page.status, page.headers["location"])
    assert 401 == program.status


def test_the_login_page_runs_its_own_script_and_nothing_else(daemon: Daemon) -> None:
    page = daemon.request("GET", "/login")
    script, style = (daemon.request("GET", f"/web/login.{kind}") for kind in ("js", "css"))

    assert ["text/html; charset=utf-8", "text/javascript; charset=utf-8", "text/css; charset=utf-8"] == [
        answer.headers["content-type"] for answer in (page, script, style)
    ]
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert {"'none'"} == {policy[name] for name in ("default-src", "base-uri", "frame-ancestors")}
    assert {"'self'"} == {policy[name] for name in ("script-src", "style-src", "connect-src", "form-action")}
    assert "nosniff" == page.headers["x-content-type-options"]
    assert b"<script>" not in page.body
    assert b"style=" not in page.body


def test_a_token_ends_no_logins_of_another(daemon: Daemon, tokens: Tokens) -> None:
    """Before, a device could log everybody out: the oldest of 1,000 logins ended, whoever had it."""
    session = {"Cookie": cookie(log_in(daemon, tokens.of["read"]))}

    for _ in range(30):
        assert 200 == log_in(daemon, tokens.of["ingest"]).status

    assert 200 == ask_with(daemon, "GET", "/v1/vehicles", session).status
