# ruff: noqa: SIM300 - expected == actual
"""What becomes of a request whose client hangs up."""

from __future__ import annotations

import asyncio
import gc
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from aiohttp.test_utils import make_mocked_request

from ingestd.http.cancellation import carry_changes_through
from ingestd.http.problems import Problem

if TYPE_CHECKING:
    from aiohttp import web


async def test_a_change_that_is_refused_when_its_client_is_gone_is_no_error_of_ours() -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    begun, gone = asyncio.Event(), asyncio.Event()

    async def refuse(_: web.Request) -> NoReturn:
        begun.set()
        await gone.wait()
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "no reading")

    request = make_mocked_request("POST", "/")
    answering = asyncio.create_task(carry_changes_through(request, refuse))
    await begun.wait()
    request.protocol.transport = None
    answering.cancel()
    await asyncio.sleep(0)
    gone.set()
    with pytest.raises(asyncio.CancelledError):
        await answering
    del answering
    gc.collect()

    assert [] == told  # and not: "Task exception was never retrieved"
