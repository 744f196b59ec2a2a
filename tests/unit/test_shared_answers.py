# ruff: noqa: SIM300 - expected == actual
"""An answer is made once for all who ask the same meanwhile, and not kept for longer than a few seconds."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING

import pytest

from ingestd.http.shared import SharedAnswers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def making() -> Callable[[], Awaitable[bytes]]:
    """Another answer each time, and a while for each."""
    numbers = count(1)

    async def make() -> bytes:
        await asyncio.sleep(0)
        return str(next(numbers)).encode()

    return make


async def test_all_who_ask_the_same_at_once_have_one_answer() -> None:
    answers, make = SharedAnswers(), making()

    bodies = [body for body, _ in await asyncio.gather(*(answers.answer("/fleet", make, anew=False) for _ in range(5)))]

    assert [b"1"] * 5 == bodies
    assert b"2" == (await answers.answer("/fleet?bucket=1h", make, anew=False))[0]


async def test_an_answer_is_made_anew_when_it_is_too_old_or_asked_for_anew() -> None:
    answers, make = SharedAnswers(seconds=0), making()
    kept, others = SharedAnswers(), making()

    assert [b"1", b"2"] == [(await answers.answer("/fleet", make, anew=False))[0] for _ in range(2)]
    assert [b"1", b"2", b"2"] == [(await kept.answer("/fleet", others, anew=anew))[0] for anew in (False, True, False)]


async def test_who_gives_up_leaves_it_to_the_next_and_an_error_is_not_kept() -> None:
    answers, make = SharedAnswers(), making()

    async def never() -> bytes:
        await asyncio.Event().wait()
        return b"never"

    async def fail() -> bytes:
        raise ZeroDivisionError

    first = asyncio.create_task(answers.answer("/fleet", never, anew=False))
    second = asyncio.create_task(answers.answer("/fleet", make, anew=False))
    await asyncio.sleep(0)
    first.cancel()
    assert b"1" == (await second)[0]
    with pytest.raises(ZeroDivisionError):
        await answers.answer("/other", fail, anew=False)
    assert b"2" == (await answers.answer("/other", make, anew=False))[0]
