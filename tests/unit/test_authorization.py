# ruff: noqa: SIM300 - expected == actual
"""Failures are counted by address; a route that nobody gave a scope is closed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from ingestd.http.authorization import AUTHORIZATION, MAX_FAILURES, Authorization, authorize
from ingestd.model.token import made

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ingestd.model.token import Token


def refused(authorization: Authorization, *addresses: str) -> int:
    """How many of these failures are too many."""
    return sum(authorization.has_failed_too_often(address) for address in addresses)


def test_failures_of_one_address_are_counted_and_not_those_of_others() -> None:
    authorization = Authorization({})

    assert 0 == refused(authorization, *["192.0.2.1"] * MAX_FAILURES)
    assert 3 == refused(authorization, *["192.0.2.1"] * 3)
    assert 0 == refused(authorization, "192.0.2.2", "::1", "::c000:201")


def test_a_host_that_changes_its_address_within_its_network_is_one_address() -> None:
    authorization = Authorization({})

    assert 0 == refused(authorization, *(f"2001:db8::{number:x}" for number in range(MAX_FAILURES)))
    assert 1 == refused(authorization, "2001:db8::ffff:1")
    assert 0 == refused(authorization, "2001:db8:0:1::1")


async def status(tokens: Mapping[str, Token] | None, text: str) -> int:
    """Of a route that is in no table of scopes."""

    async def forgotten(_: web.Request) -> web.StreamResponse:
        return web.Response(status=204)

    app = web.Application()
    app[AUTHORIZATION] = Authorization(tokens)
    app.add_routes([web.get("/forgotten", forgotten)])
    app.freeze()
    request = make_mocked_request("GET", "/forgotten", headers={"Authorization": f"Bearer {text}"}, app=app)
    found = await app.router.resolve(request)
    request._match_info = found  # noqa: SLF001 - what the web server does
    found.add_app(app)
    return (await authorize(request, forgotten)).status


@pytest.mark.parametrize("is_required", [True, False])
async def test_a_route_without_a_scope_is_closed_to_every_token(is_required: bool) -> None:  # noqa: FBT001
    token, text = made(
        name="all",
        scopes=frozenset({"read", "ingest", "admin"}),
        devices=frozenset({"*"}),
        expires_at=None,
    )

    assert (403 if is_required else 204) == await status({token.id: token} if is_required else None, text)
