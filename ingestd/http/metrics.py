"""The route that Prometheus reads."""

from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web

from ingestd.http import parameters
from ingestd.http.operations import Operation, raw
from ingestd.http.services import SERVICES
from ingestd.http.shapes import compressible


async def get_metrics(request: web.Request, _: parameters.Probe) -> web.Response:
    return compressible(request.app[SERVICES].exposition(), "text/plain; version=0.0.4; charset=utf-8")


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
