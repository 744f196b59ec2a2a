"""Counts the requests of each route, and their time."""

import time
from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web

from ingestd.http.problems import Handler
from ingestd.http.services import SERVICES
from ingestd.metrics import Requests

NO_ROUTE: Final = "none"
"""Stands for all paths that have no route, so that nobody can make series by asking for paths."""
OTHER_METHOD: Final = "other"
_METHODS: Final = frozenset({hdrs.METH_GET, hdrs.METH_POST, hdrs.METH_PUT, hdrs.METH_DELETE})
_GONE: Final = 499
"""The client closed the connection before it had its answer: a 4xx."""
_STARTED: Final = web.RequestKey("started", float)
"""When the request began, by the monotonic clock. Requests that are counted already do not have it."""


def expect_routes(app: web.Application, requests: Requests) -> None:
    for route in app.router.routes():
        if route.resource is not None and route.method in _METHODS:
            requests.expect(route.resource.canonical, route.method)
    for method in (*_METHODS, OTHER_METHOD):
        requests.expect(NO_ROUTE, method)


@web.middleware
async def count_requests(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The outermost middleware. HEAD counts as GET."""
    request[_STARTED] = time.monotonic()
    status = _GONE
    try:
        response = await handler(request)
        status = response.status
    except Exception:
        status = _GONE if request.transport is None else HTTPStatus.INTERNAL_SERVER_ERROR
        raise
    else:
        return response
    finally:
        if _STARTED in request:
            _count(request, status)


def count_begun(request: web.Request) -> None:
    """Count a request whose answer begins now, and goes on for as long as the client likes."""
    _count(request, HTTPStatus.OK)


def _count(request: web.Request, status: int) -> None:
    """Once for each request."""
    resource = request.match_info.route.resource
    method = hdrs.METH_GET if request.method == hdrs.METH_HEAD else request.method
    request.app[SERVICES].requests.answered(
        resource.canonical if resource else NO_ROUTE,
        method if method in _METHODS else OTHER_METHOD,
        status,
        time.monotonic() - request.pop(_STARTED),
    )
