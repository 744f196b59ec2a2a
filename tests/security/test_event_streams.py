# ruff: noqa: SIM300 - expected == actual
"""Who reads live values: as long as the token or the login is valid, and not a moment longer."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from ingestd.demo.servers import PrivateMosquitto
from tests.support.api import assert_problem
from tests.support.daemon import Daemon
from tests.support.event_streams import EventReader
from tests.support.polling import until
from tests.support.tokens import Tokens, address, ask_with, cookie, log_in

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 5.0


@pytest.fixture(scope="module")
def daemon(tokens: Tokens, shared_database_url: str) -> Iterator[Daemon]:
    with (
        PrivateMosquitto() as broker,
        Daemon(mqtt_url=broker.url, database_url=shared_database_url, tokens_file=str(tokens.path)) as daemon,
    ):
        daemon.wait_healthy()
        yield daemon


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("scope", ["ingest", "admin"])
def test_a_token_without_the_scope_is_refused(daemon: Daemon, tokens: Tokens, scope: str) -> None:
    token = tokens.of["ingest" if scope == "ingest" else "admin"]

    assert_problem(EventReader(daemon, headers=bearer(token), source=address()).head(), 403)
    assert_problem(EventReader(daemon, source=address()).head(), 401)


def test_a_token_that_is_revoked_ends_its_streams_and_no_others(daemon: Daemon, tokens: Tokens) -> None:
    token = tokens.add("to-be-revoked", "read")
    os.kill(daemon.pid, signal.SIGHUP)
    until(lambda: 200 == ask_with(daemon, "GET", "/v1/vehicles", bearer(token)).status)
    with (
        EventReader(daemon, headers=bearer(token)) as reader,
        EventReader(daemon, headers=bearer(tokens.of["read"])) as other,
    ):
        tokens.file.revoke(token.split("_")[1], at=datetime.now(UTC))
        os.kill(daemon.pid, signal.SIGHUP)

        until(lambda: reader.is_ended, within=SECONDS)
        assert not reader.was_cut
        assert not other.is_ended
    assert_problem(EventReader(daemon, headers=bearer(token), source=address()).head(), 401)


def test_a_token_that_expires_ends_its_streams(daemon: Daemon, tokens: Tokens) -> None:
    token = tokens.add("to-expire", "read", expires_at=datetime.now(UTC) + timedelta(seconds=4))
    os.kill(daemon.pid, signal.SIGHUP)
    until(lambda: 200 == ask_with(daemon, "GET", "/v1/vehicles", bearer(token)).status, within=3)
    with EventReader(daemon, headers=bearer(token)) as reader:
        until(lambda: reader.is_ended, within=4 + SECONDS)


def test_a_logout_ends_the_streams_of_the_login_and_of_no_other(daemon: Daemon, tokens: Tokens) -> None:
    login, other_login = ({"Cookie": cookie(log_in(daemon, tokens.of["read"]))} for _ in range(2))
    with EventReader(daemon, headers=login) as reader, EventReader(daemon, headers=other_login) as other:
        assert 204 == ask_with(daemon, "POST", "/logout", login).status

        until(lambda: reader.is_ended, within=SECONDS)
        assert not other.is_ended


def test_a_page_of_another_site_reads_nothing(daemon: Daemon, tokens: Tokens) -> None:
    headers = bearer(tokens.of["read"])
    for foreign in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}):
        assert_problem(EventReader(daemon, headers=headers | foreign, source=address()).head(), 403)
