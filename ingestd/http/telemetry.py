"""The routes that take readings in: one handler, by the paths of ingestd and of earlier systems."""

from functools import partial
from http import HTTPStatus
from typing import Final

from aiohttp import web

from ingestd.http.authorization import NotAllowedError, client_of, may_send
from ingestd.http.bodies import BODIES, TELEMETRY
from ingestd.http.intake import NOT_ALLOWED, TelemetryPath
from ingestd.http.problems import Problem
from ingestd.http.services import SERVICES
from ingestd.http.shapes import answer
from ingestd.model.stream import STREAMS

PATHS: Final = (
    TelemetryPath(path="/v1/telemetry"),
    TelemetryPath(path="/v1/ingest"),
    *(
        path
        for stream in STREAMS
        for path in (
            TelemetryPath(path=f"/v1/ingest/{stream.name}", stream=stream),
            TelemetryPath(path=f"/v1/ingest/{stream.name}/batch", stream=stream, is_batch=True),
            TelemetryPath(path=f"/v1/ingestion/{stream.name}", stream=stream),
        )
    ),
)
"""All but the first are paths of earlier systems of this kind, so that their senders need another host only."""


async def post_telemetry(request: web.Request, to: TelemetryPath) -> web.Response:
    """One reading or an array of them; 201 after the commit."""
    intake = request.app[SERVICES].intake
    intake.admit()  # before the body is in memory
    async with request.app[BODIES].read(request, TELEMETRY) as body:
        receipt = await intake.submit(body, to=to, client=client_of(request), may_send=may_send(request))
    if receipt.rejected and receipt.single:
        (rejected,) = receipt.rejected
        if rejected["reason"] == NOT_ALLOWED:
            raise NotAllowedError
        too_large = rejected["reason"] == "too-large"
        raise Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE if too_large else HTTPStatus.UNPROCESSABLE_ENTITY,
            rejected["detail"],
            reason=rejected["reason"],
        )
    return answer(
        {"accepted": receipt.accepted, "duplicates": receipt.duplicates, "rejected": receipt.rejected},
        HTTPStatus.CREATED,
    )


ROUTES: Final[tuple[web.RouteDef, ...]] = tuple(web.post(to.path, partial(post_telemetry, to=to)) for to in PATHS)
