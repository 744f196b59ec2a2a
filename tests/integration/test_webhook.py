# ruff: noqa: SIM300 - expected == actual
"""The webhook against real web servers, good and bad."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from ingestd.alerting.webhook import Webhook
from ingestd.demo.process import LOOPBACK, LoopbackPort
from ingestd.errors import WebhookError
from tests.fakes import in_virtual_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Server:
    """Answers with one status, and keeps what it is sent."""

    def __init__(self, status: int) -> None:
        self.url = ""
        self.heard: list[tuple[str, str, bytes]] = []
        self._status = status

    async def answer(self, request: web.Request) -> web.Response:
        self.heard.append((request.path_qs, request.content_type, await request.read()))
        return web.Response(status=self._status, headers={"Location": "/another-page"})


@asynccontextmanager
async def answering(status: int) -> AsyncIterator[Server]:
    server = Server(status)
    app = web.Application()
    app.router.add_post("/{path:.*}", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, 0).start()
    server.url = f"http://{LOOPBACK}:{runner.addresses[0][1]}/alerts?key=secret"
    try:
        yield server
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_a_server_that_takes_it_is_told_once(status: int) -> None:
    async with answering(status) as server:
        await Webhook(server.url).post(b'{"alerts":[]}')

    assert [("/alerts?key=secret", "application/json", b'{"alerts":[]}')] == server.heard


@pytest.mark.parametrize("status", [302, 307, 400, 500, 503])
async def test_any_other_answer_is_a_failure_and_no_redirect_is_followed(status: int) -> None:
    async with answering(status) as server:
        with pytest.raises(WebhookError, match=f"^the webhook answers {status}$"):
            await Webhook(server.url).post(b"{}")

    assert 1 == len(server.heard)


async def test_a_server_that_is_not_there_is_a_failure_that_tells_no_secret() -> None:
    port = LoopbackPort()
    port.close()

    with pytest.raises(WebhookError, match="cannot be reached: ClientConnectorError"):
        await Webhook(f"http://{LOOPBACK}:{port.number}/secret").post(b"{}")


@pytest.mark.parametrize(
    "url",
    ["http://a..b/", f"http://{'a' * 64}.example/", f"http://u€:p@{LOOPBACK}:1/"],
    ids=["dots", "long", "account"],
)
async def test_an_address_that_cannot_be_sent_to_is_a_failure(url: str) -> None:
    with pytest.raises(WebhookError, match="cannot be reached: Unicode"):
        await Webhook(url).post(b"{}")


@in_virtual_time
async def test_a_server_that_does_not_answer_is_given_five_seconds() -> None:
    with (
        socket.create_server((LOOPBACK, 0)) as silent,
        pytest.raises(WebhookError, match="did not answer within 5 s"),
    ):
        await Webhook(f"http://{LOOPBACK}:{silent.getsockname()[1]}/").post(b"{}")
