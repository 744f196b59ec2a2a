from __future__ import annotations

from itertools import count

import pytest

from tests.support.polling import eventually, until


async def test_waits_for_something_true_and_returns_it() -> None:
    calls = count()

    assert await eventually(lambda: next(calls) >= 3 and "there") == "there"
    assert next(calls) == 4


async def test_awaits_what_the_check_returns() -> None:
    calls = count()

    async def check() -> int:
        return next(calls)

    assert await eventually(check) == 1


async def test_a_failing_assertion_is_not_yet() -> None:
    calls = count()

    def check() -> str:
        assert next(calls) == 2
        return "there"

    assert await eventually(check) == "there"


async def test_the_last_assertion_is_what_is_shown_at_the_deadline() -> None:
    def check() -> bool:
        raise AssertionError("0 rows")

    with pytest.raises(AssertionError, match="0 rows"):
        await eventually(check, within=0.05)


async def test_none_is_not_true() -> None:
    with pytest.raises(AssertionError, match="still None"):
        await eventually(lambda: None, within=0.05)


async def test_other_errors_are_not_waited_out() -> None:
    def check() -> bool:
        raise ValueError("a mistake in the test")

    with pytest.raises(ValueError, match="a mistake"):
        await eventually(check)


def test_until_does_the_same_without_an_event_loop() -> None:
    calls = count()

    assert until(lambda: next(calls)) == 1
    with pytest.raises(AssertionError, match="still 0"):
        until(lambda: 0, within=0.05)
