"""The routes of charging sessions: those of a vehicle, and those of the fleet that are under way."""

from datetime import timedelta
from typing import Final

from aiohttp import web

from ingestd.http import parameters, shapes
from ingestd.http.heavy import heavy
from ingestd.http.problems import unknown
from ingestd.http.services import SERVICES
from ingestd.http.shared import shared
from ingestd.model.answers import ChargingSession, SessionUnderWay
from ingestd.model.stream import VEHICLE

LONGEST_WINDOW: Final = timedelta(days=31)


async def get_sessions(request: web.Request) -> web.Response:
    vehicle_id = parameters.identity(request, "vehicleId")
    window = parameters.window(request, longest=LONGEST_WINDOW)
    found = await request.app[SERVICES].sessions(vehicle_id, window)
    if found is None:
        raise unknown(VEHICLE, vehicle_id)
    return shapes.answer(
        {
            "vehicleId": vehicle_id,
            "timeRange": shapes.time_range(window),
            "sessions": [_session(session) for session in found.items],
            **shapes.reason(found.reason),
        }
    )


@shared
@heavy
async def get_fleet_sessions(request: web.Request) -> web.Response:
    query = parameters.Query(request, {"limit", "after"})
    limit = query.number("limit", default=50, lowest=1, highest=50)
    found = await request.app[SERVICES].sessions_under_way(limit=limit, after=query.identity("after"))
    return shapes.answer(
        {
            "asOf": shapes.rfc3339(found.as_of),
            "timeRange": shapes.time_range(found.window),
            "sessions": [_under_way(one) for one in found.items],
            "next": found.next_after,
        }
    )


def _under_way(found: SessionUnderWay) -> dict[str, object]:
    return {"vehicleId": found.vehicle_id, **_session(found.session), "kw": found.kw}


def _session(found: ChargingSession) -> dict[str, object]:
    return {
        "start": shapes.rfc3339(found.start),
        "end": shapes.rfc3339(found.end),
        "open": found.open,
        **shapes.energy(found),
        "lossKwh": found.loss_kwh,
        "socFrom": found.soc_from,
        "socTo": found.soc_to,
        "maxTemperature": found.max_temperature,
        "samples": found.samples,
    }


ROUTES: Final[tuple[web.RouteDef, ...]] = (
    web.get("/v1/analytics/vehicle/{vehicleId}/sessions", get_sessions),
    web.get("/v1/analytics/fleet/sessions", get_fleet_sessions),
)
