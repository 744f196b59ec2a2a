"""The routes of the whole fleet's energy: of a window, and by buckets."""

from typing import Final, get_args

from aiohttp import web

from ingestd.errors import TooManyReadingsError
from ingestd.http import buckets, parameters, shapes
from ingestd.http.heavy import heavy
from ingestd.http.services import SERVICES
from ingestd.http.shared import shared
from ingestd.model.answers import FleetEnergy, FleetPoint
from ingestd.model.efficiency import Status


@shared
@heavy
async def get_fleet(request: web.Request) -> web.Response:
    return shapes.answer(_fleet(await request.app[SERVICES].fleet_energy(parameters.window(request))))


@shared
@heavy
async def get_fleet_series(request: web.Request) -> web.Response:
    asked = buckets.of_fleet(parameters.Query(request, buckets.QUERY))
    try:
        found = await request.app[SERVICES].fleet_series(asked.window, asked.buckets)
    except TooManyReadingsError as error:
        raise buckets.too_fine(str(error), asked.window) from error
    return shapes.answer(
        {
            "asOf": shapes.rfc3339(found.as_of),
            **buckets.shape(asked),
            "points": [_point(point) for point in found.points],
            **shapes.reason(found.reason),
        }
    )


def _fleet(found: FleetEnergy) -> dict[str, object]:
    """Readings that were stored after `asOf` are not in the answer."""
    mapped = found.mapped
    return {
        "asOf": shapes.rfc3339(found.as_of),
        "timeRange": shapes.time_range(found.window),
        "energy": shapes.energy(found),
        "devices": {"meters": found.meters, "vehicles": found.vehicles},
        "mapped": {
            "acConsumed": mapped.all_ac,
            "dcDelivered": mapped.all_dc,
            "efficiencyRatio": found.mapped_ratio,
            "lossKwh": mapped.all_ac - mapped.all_dc,
            "compared": shapes.compared(mapped),
        },
        "vehicles": {status: found.statuses.get(status, 0) for status in get_args(Status)},
        "worst": [
            {
                "vehicleId": vehicle.vehicle_id,
                "efficiencyRatio": vehicle.efficiency_ratio,
                "acConsumed": vehicle.ac_kwh,
                "dcDelivered": vehicle.dc_kwh,
            }
            for vehicle in found.worst
        ],
        **shapes.reason(found.reason),
    }


def _point(found: FleetPoint) -> dict[str, object]:
    return {"start": shapes.rfc3339(found.start), "acConsumed": found.ac_kwh, "dcDelivered": found.dc_kwh}


ROUTES: Final[tuple[web.RouteDef, ...]] = (
    web.get("/v1/analytics/fleet", get_fleet),
    web.get("/v1/analytics/fleet/series", get_fleet_series),
)
