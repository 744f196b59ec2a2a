"""Runs work with files in threads, because a disk may be slow, and the event loop must not wait for it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# Not the threads of asyncio, which look up the names of hosts: a disk that hangs would keep the daemon from its broker.
_THREADS: Final = ThreadPoolExecutor(max_workers=4, thread_name_prefix="archive")


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of the work. If the caller is cancelled, the work ends first: it may be using a file."""
    running = asyncio.get_running_loop().run_in_executor(_THREADS, partial(work, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        raise
