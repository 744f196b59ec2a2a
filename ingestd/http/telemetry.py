"""The route that takes readings in."""

from http import HTTPStatus
from typing import Final

from aiohttp import web

from ingestd.http.authorization import NotAllowedError, client_of, may_send
from ingestd.http.bodies import BODIES, TELEMETRY
from ingestd.http.intake import NOT_ALLOWED
from ingestd.http.problems import Problem
from ingestd.http.services import SERVICES
from ingestd.http.shapes import answer


async def post_telemetry(request: web.Request) -> web.Response:
    """One reading or an array of them; 201 after the commit."""
    intake = request.app[SERVICES].intake
    intake.admit()  # before the body is in memory
    async with request.app[BODIES].read(request, TELEMETRY) as body:
        receipt = await intake.submit(body, client=client_of(request), may_send=may_send(request))
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


ROUTES: Final[tuple[web.RouteDef, ...]] = (web.post("/v1/telemetry", post_telemetry),)
