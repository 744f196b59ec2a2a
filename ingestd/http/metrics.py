"""The route that Prometheus reads."""

from typing import Final

from aiohttp import web

from ingestd.http.services import SERVICES


async def get_metrics(request: web.Request) -> web.Response:
    return web.Response(
        body=request.app[SERVICES].exposition(),
        headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
    )


ROUTES: Final[tuple[web.RouteDef, ...]] = (web.get("/metrics", get_metrics),)
