"""The route of a vehicle's charging performance."""

from typing import Final

from aiohttp import web

from ingestd.http import parameters, shapes
from ingestd.http.problems import unknown
from ingestd.http.services import SERVICES
from ingestd.model.answers import Performance
from ingestd.model.stream import VEHICLE


async def get_performance(request: web.Request) -> web.Response:
    vehicle_id = parameters.identity(request, "vehicleId")
    found = await request.app[SERVICES].performance(vehicle_id, parameters.window(request))
    if found is None:
        raise unknown(VEHICLE, vehicle_id)
    return shapes.answer(shape(found))


def shape(found: Performance) -> dict[str, object]:
    return {
        "vehicleId": found.vehicle_id,
        "timeRange": shapes.time_range(found.window),
        "energy": shapes.energy(found),
        "compared": found.compared and shapes.compared(found.compared),
        "battery": {"avgTemperature": found.average_temperature},
        "meters": [
            {
                "meterId": meter.meter_id,
                "from": shapes.rfc3339(meter.valid.start),
                "to": shapes.rfc3339(meter.valid.end),
                "acConsumed": meter.ac_kwh,
                "shared": meter.shared,
            }
            for meter in found.meters
        ],
        "samples": {"vehicle": found.samples, "meter": found.meter_samples},
        "coverage": found.coverage,
        "gaps": {"count": found.gaps, "longestSeconds": found.longest_gap},
        "resets": found.resets,
        "excluded": found.excluded,
        "status": found.judgement.status,
        "reason": found.judgement.reason,
        "threshold": found.threshold,
    }


ROUTES: Final[tuple[web.RouteDef, ...]] = (web.get("/v1/analytics/performance/{vehicleId}", get_performance),)
