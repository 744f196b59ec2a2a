"""The route that Prometheus reads."""

from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web

from ingestd.http import parameters
from ingestd.http.operations import Operation, raw
from ingestd.http.services import SERVICES


async def get_metrics(request: web.Request, _: parameters.Probe) -> web.Response:
    return web.Response(
        body=request.app[SERVICES].exposition(),
        headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
    )


OPERATIONS: Final[tuple[Operation, ...]] = (
    raw(
        hdrs.METH_GET,
        "/metrics",
        get_metrics,
        summary="The metrics, as Prometheus reads them",
        tag="Health",
        asks=parameters.Probe,
        answers={HTTPStatus.OK: "text/plain"},
    ),
)
