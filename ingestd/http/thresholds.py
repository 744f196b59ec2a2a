"""The routes of vehicles that are judged by an efficiency threshold of their own."""

from http import HTTPStatus
from typing import Annotated, Final

from aiohttp import web
from pydantic import Field

from ingestd.http import parameters
from ingestd.http.ports import THRESHOLDS
from ingestd.http.problems import Problem
from ingestd.http.shapes import answer


class ThresholdChange(parameters.StrictBody):
    """The body of PUT: DC over AC below which something may be wrong."""

    threshold: Annotated[float, Field(strict=True, gt=0, le=1)]


async def put_threshold(request: web.Request) -> web.Response:
    vehicle_id = parameters.identity(request, "vehicleId")
    change = await parameters.body(request, ThresholdChange)
    await request.app[THRESHOLDS].set(vehicle_id, change.threshold)
    return _shape(vehicle_id, change.threshold)


async def get_threshold(request: web.Request) -> web.Response:
    vehicle_id = parameters.identity(request, "vehicleId")
    parameters.Query(request, set())
    return _shape(vehicle_id, await request.app[THRESHOLDS].get(vehicle_id))


async def delete_threshold(request: web.Request) -> web.Response:
    """Answers with what it was."""
    vehicle_id = parameters.identity(request, "vehicleId")
    return _shape(vehicle_id, await request.app[THRESHOLDS].remove(vehicle_id))


def _shape(vehicle_id: str, threshold: float | None) -> web.Response:
    if threshold is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"vehicle {vehicle_id} has no threshold of its own")
    return answer({"vehicleId": vehicle_id, "threshold": threshold})


_PATH: Final = "/v1/analytics/thresholds/{vehicleId}"

ROUTES: Final[tuple[web.RouteDef, ...]] = (
    web.put(_PATH, put_threshold),
    web.get(_PATH, get_threshold),
    web.delete(_PATH, delete_threshold),
)
