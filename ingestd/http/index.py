"""The route `/`: name, version, and a list of the routes."""

from typing import Final

from aiohttp import hdrs, web

from ingestd import __version__
from ingestd.http.shapes import answer


async def get_index(request: web.Request) -> web.Response:
    routes = [
        route.resource.canonical
        for route in request.app.router.routes()
        if route.resource is not None and route.method != hdrs.METH_HEAD  # aiohttp adds one to each GET
    ]
    return answer({"service": "ingestd", "version": __version__, "routes": routes})


ROUTES: Final[tuple[web.RouteDef, ...]] = (web.get("/", get_index),)
