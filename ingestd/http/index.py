"""The route `/`: the page for browsers; for others name, version, and a list of the routes."""

from typing import Final

from aiohttp import hdrs, web

from ingestd import __version__
from ingestd.http import pages
from ingestd.http.authorization import AUTHORIZATION
from ingestd.http.shapes import answer


async def get_index(request: web.Request) -> web.Response:
    if pages.is_asked_for(request):
        return pages.page(request, "index.html")
    routes = [
        route.resource.canonical
        for route in request.app.router.routes()
        if route.resource is not None and route.method != hdrs.METH_HEAD  # aiohttp adds one to each GET
    ]
    tokens = request.app[AUTHORIZATION].is_required
    response = answer({"service": "ingestd", "version": __version__, "tokens": tokens, "routes": routes})
    response.headers[hdrs.VARY] = hdrs.ACCEPT
    return response


ROUTES: Final[tuple[web.RouteDef, ...]] = (web.get("/", get_index),)
