"""Waits for a condition: it is checked again until a deadline."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

INTERVAL = 0.01


@overload
async def eventually(check: Callable[[], Awaitable[T]], *, within: float = ...) -> T: ...
@overload
async def eventually(check: Callable[[], T], *, within: float = ...) -> T: ...
async def eventually(check: Callable[[], object], *, within: float = 10.0) -> object:
    """Calls `check`, plain or async, until it returns something true, and returns that.

    A failing assertion inside it, like a false value (None included), means: not yet. Raises AssertionError
    after `within` seconds: the last one of `check`, or one that shows the last value.
    """
    deadline = time.monotonic() + within
    while True:
        try:
            value = check()
            if inspect.isawaitable(value):
                value = await value
        except AssertionError:
            if time.monotonic() > deadline:
                raise
        else:
            if value:
                return value
            _not_too_late(deadline, value)
        await asyncio.sleep(INTERVAL)


def until(check: Callable[[], T], *, within: float = 10.0) -> T:
    """`eventually` for tests without an event loop."""
    deadline = time.monotonic() + within
    while True:
        try:
            value = check()
        except AssertionError:
            if time.monotonic() > deadline:
                raise
        else:
            if value:
                return value
            _not_too_late(deadline, value)
        time.sleep(INTERVAL)


def _not_too_late(deadline: float, value: object) -> None:
    if time.monotonic() > deadline:
        raise AssertionError(f"it was still {value!r} at the deadline")
