# ruff: noqa: SIM300 - expected == actual
"""Sessions of browsers: how long they last, and how many there may be."""

from __future__ import annotations

from ingestd.http.logins import MOST, SECONDS, Logins


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_session_ends_after_twelve_hours() -> None:
    clock = Clock()
    logins = Logins(clock)
    secret = logins.begin("a")

    clock.now = SECONDS - 1
    assert "a" == logins.token_id(secret)
    clock.now = SECONDS
    assert logins.token_id(secret) is None


def test_each_session_has_a_secret_of_its_own() -> None:
    logins = Logins()
    first, second = logins.begin("a"), logins.begin("a")

    logins.end(first)

    assert first != second
    assert [None, "a"] == [logins.token_id(secret) for secret in (first, second)]


def test_a_token_with_too_many_logins_ends_its_own_oldest_one() -> None:
    logins = Logins()
    other = logins.begin("other")
    secrets = [logins.begin("a") for _ in range(MOST + 1)]

    assert [None, "a", "a"] == [logins.token_id(secrets[number]) for number in (0, 1, MOST)]
    assert "other" == logins.token_id(other)


def test_what_is_no_secret_is_no_session() -> None:
    logins = Logins()
    logins.begin("a")

    assert [None] * 3 == [logins.token_id(text) for text in ("", "a", "\udc80")]
