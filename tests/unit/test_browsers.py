# ruff: noqa: SIM300 - expected == actual
"""Which names a server goes by."""

from __future__ import annotations

from http import HTTPStatus
from unittest.mock import Mock

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from ingestd.http.browsers import ALLOWED, Allowed, refuse_foreign
from ingestd.http.problems import Problem


async def status_of(host: str, *, at: str, listens_on: str = "0.0.0.0") -> HTTPStatus:  # noqa: S104 - one of the cases
    """Of a request for `host` whose connection came in at the address `at`."""

    async def handler(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app[ALLOWED] = Allowed.of(host=listens_on, hosts=(), origins=())
    transport = Mock(get_extra_info=lambda name, _=None: (at, 8080) if name == "sockname" else None)
    request = make_mocked_request("GET", "/", headers={"Host": host}, transport=transport, app=app)
    try:
        return HTTPStatus((await refuse_foreign(request, handler)).status)
    except Problem as problem:
        return problem.status


@pytest.mark.parametrize(
    ("host", "at"),
    [
        ("192.168.1.5", "192.168.1.5"),
        ("192.168.1.5:8080", "192.168.1.5"),
        ("[fd00::5]:8080", "fd00::5"),
        ("[FD00:0::5]", "fd00::5"),
        ("[fe80::5]:8080", "fe80::5%eth0"),
    ],
)
async def test_the_address_that_the_connection_came_in_at_is_a_name(host: str, at: str) -> None:
    assert HTTPStatus.OK == await status_of(host, at=at)


@pytest.mark.parametrize("host", ["192.168.1.6", "192.168.1.5.evil.example", "[fd00::5]", "3232235781"])
async def test_other_addresses_are_not(host: str) -> None:
    assert HTTPStatus.MISDIRECTED_REQUEST == await status_of(host, at="192.168.1.5")


async def test_the_name_that_the_server_listens_on_is_one() -> None:
    assert HTTPStatus.OK == await status_of("meters.LAN:80", at="192.168.1.5", listens_on="Meters.lan")
