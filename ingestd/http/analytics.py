"""The routes that say what devices did: performance, live, fleet, series, totals, charging sessions."""

from datetime import timedelta
from functools import partial
from http import HTTPStatus
from typing import Final

from aiohttp import web

from ingestd.errors import TooManyReadingsError
from ingestd.http import buckets, parameters, shapes
from ingestd.http.heavy import heavy
from ingestd.http.ports import ANALYTICS, FLEET, SERIES
from ingestd.http.problems import Problem
from ingestd.http.shared import shared
from ingestd.model.periods import CALENDARS, periods
from ingestd.model.stream import STREAMS, VEHICLE, WITH_ENERGY, Stream

LONGEST_OF_SESSIONS: Final = timedelta(days=31)


async def get_performance(request: web.Request) -> web.Response:
    vehicle_id = parameters.identity(request, "vehicleId")
    found = await request.app[ANALYTICS].performance(vehicle_id, parameters.window(request))
    if found is None:
        raise _unknown(VEHICLE, vehicle_id)
    return shapes.answer(shapes.performance(found))


async def get_live(request: web.Request, stream: Stream) -> web.Response:
    device_id = parameters.identity(request, stream.id_key)
    parameters.Query(request, set())
    reading = await request.app[ANALYTICS].live(stream, device_id)
    if reading is None:
        raise _unknown(stream, device_id)
    return shapes.answer(shapes.live(stream, reading))


@shared
@heavy
async def get_fleet(request: web.Request) -> web.Response:
    return shapes.answer(shapes.fleet(await request.app[FLEET].energy(parameters.window(request))))


async def get_series(request: web.Request, stream: Stream) -> web.Response:
    device_id = parameters.identity(request, stream.id_key)
    asked = buckets.of_device(parameters.Query(request, buckets.QUERY))
    found = await request.app[SERIES].of_device(stream, device_id, asked.window, asked.buckets)
    if found is None:
        raise _unknown(stream, device_id)
    return shapes.answer(
        {
            stream.id_key: device_id,
            "bucket": asked.bucket.text,
            "timeZone": asked.zone.key,
            "timeRange": shapes.time_range(asked.window),
            "points": [shapes.point(stream, point) for point in found.items],
            **shapes.reason(found.reason),
        }
    )


@shared
@heavy
async def get_fleet_series(request: web.Request) -> web.Response:
    asked = buckets.of_fleet(parameters.Query(request, buckets.QUERY))
    try:
        found = await request.app[FLEET].series(asked.window, asked.buckets)
    except TooManyReadingsError as error:
        raise buckets.too_fine(str(error), asked.window) from error
    return shapes.answer(
        {
            "asOf": shapes.moment(found.as_of),
            "bucket": asked.bucket.text,
            "timeZone": asked.zone.key,
            "timeRange": shapes.time_range(asked.window),
            "points": [shapes.fleet_point(point) for point in found.points],
        }
    )


async def get_totals(request: web.Request, stream: Stream) -> web.Response:
    device_id = parameters.identity(request, stream.id_key)
    query = parameters.Query(request, {"startTime", "endTime", "by", "timeZone"})
    window = parameters.window_of(query)
    by = query.choice("by", CALENDARS) or "day"
    zone = buckets.time_zone(query)
    try:
        asked = periods(window, by, zone)
    except OverflowError as error:
        raise buckets.no_calendar(zone) from error
    found = await request.app[SERIES].totals(stream, device_id, window, asked)
    if found is None:
        raise _unknown(stream, device_id)
    return shapes.answer(
        {
            stream.id_key: device_id,
            "by": by,
            "timeZone": zone.key,
            "timeRange": shapes.time_range(window),
            "totals": [shapes.total(total) for total in found.items],
            **shapes.reason(found.reason),
        }
    )


async def get_sessions(request: web.Request) -> web.Response:
    vehicle_id = parameters.identity(request, "vehicleId")
    window = parameters.window(request, longest=LONGEST_OF_SESSIONS)
    found = await request.app[SERIES].sessions(vehicle_id, window)
    if found is None:
        raise _unknown(VEHICLE, vehicle_id)
    return shapes.answer(
        {
            "vehicleId": vehicle_id,
            "timeRange": shapes.time_range(window),
            "sessions": [shapes.session(session) for session in found.items],
            **shapes.reason(found.reason),
        }
    )


def _unknown(stream: Stream, device_id: str) -> Problem:
    return Problem(HTTPStatus.NOT_FOUND, f"no {stream.name} {device_id} is known")


def _of_device(what: str, stream: Stream) -> str:
    return f"/v1/analytics/{stream.name}/{{{stream.id_key}}}/{what}"


ROUTES: Final[tuple[web.RouteDef, ...]] = (
    web.get("/v1/analytics/performance/{vehicleId}", get_performance),
    *(web.get(_of_device("live", stream), partial(get_live, stream=stream)) for stream in STREAMS),
    *(web.get(_of_device("series", stream), partial(get_series, stream=stream)) for stream in WITH_ENERGY),
    *(web.get(_of_device("totals", stream), partial(get_totals, stream=stream)) for stream in WITH_ENERGY),
    web.get(_of_device("sessions", VEHICLE), get_sessions),
    web.get("/v1/analytics/fleet", get_fleet),
    web.get("/v1/analytics/fleet/series", get_fleet_series),
)
