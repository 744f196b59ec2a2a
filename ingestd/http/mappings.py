"""The routes of the mapping: which meter feeds which vehicle."""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from aiohttp import web
from pydantic import StrictBool

from ingestd.errors import EmptySegmentError
from ingestd.http import parameters
from ingestd.http.authorization import who
from ingestd.http.problems import Problem, bad_parameter
from ingestd.http.services import SERVICES
from ingestd.http.shapes import answer, rfc3339
from ingestd.model.mapping import Mapping, MappingConflictError


class MappingChange(parameters.StrictBody):
    """The body of PUT. `valid_from` is now where left out. `replace` cuts the segments that overlap the new one."""

    meter_id: parameters.Identity
    valid_from: parameters.TimestampField | None = None
    valid_to: parameters.TimestampField | None = None
    replace: StrictBool = False


class NewMapping(MappingChange):
    """The body of POST."""

    vehicle_id: parameters.Identity


async def post_mapping(request: web.Request) -> web.Response:
    change = await parameters.body(request, NewMapping)
    return await _set(request, change.vehicle_id, change, HTTPStatus.CREATED)


async def put_mapping(request: web.Request) -> web.Response:
    change = await parameters.body(request, MappingChange)
    return await _set(request, parameters.identity(request, "vehicleId"), change, HTTPStatus.OK)


async def get_mapping(request: web.Request) -> web.Response:
    """The meter of now, and all segments since the first."""
    vehicle_id = parameters.identity(request, "vehicleId")
    parameters.Query(request, set())
    history = await request.app[SERVICES].mappings.of_vehicle(vehicle_id)
    if not history:
        raise Problem(HTTPStatus.NOT_FOUND, f"vehicle {vehicle_id} was never mapped to a meter")
    now = datetime.now(UTC)
    current = [s for s in history if s.valid_from <= now and (s.valid_to is None or now < s.valid_to)]
    return answer(
        {
            "vehicleId": vehicle_id,
            "meterId": current[0].meter_id if current else None,
            "history": [_shape(segment) for segment in history],
        }
    )


async def delete_mapping(request: web.Request) -> web.Response:
    vehicle_id = parameters.identity(request, "vehicleId")
    closed = await request.app[SERVICES].mappings.close(vehicle_id, who=who(request))
    if closed is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"vehicle {vehicle_id} has no mapping that is open")
    return answer(_shape(closed))


async def _set(request: web.Request, vehicle_id: str, change: MappingChange, status: HTTPStatus) -> web.Response:
    try:
        segment = await request.app[SERVICES].mappings.set(
            vehicle_id=vehicle_id,
            meter_id=change.meter_id,
            valid_from=change.valid_from,
            valid_to=change.valid_to,
            replace=change.replace,
            who=who(request),
        )
    except EmptySegmentError as error:
        raise bad_parameter("validTo", "must be later than validFrom") from error
    except MappingConflictError as error:
        raise Problem(
            HTTPStatus.CONFLICT,
            f"the vehicle is mapped already: {'; '.join(map(_describe, error.segments))}",
            segments=[_shape(in_the_way) for in_the_way in error.segments],
        ) from error
    return answer(_shape(segment), status)


def _shape(segment: Mapping) -> dict[str, object]:
    return {
        "vehicleId": segment.vehicle_id,
        "meterId": segment.meter_id,
        "validFrom": rfc3339(segment.valid_from),
        "validTo": rfc3339(segment.valid_to) if segment.valid_to else None,
    }


def _describe(segment: Mapping) -> str:
    end = f"to {rfc3339(segment.valid_to)}" if segment.valid_to else "until further notice"
    return f"{segment.meter_id} from {rfc3339(segment.valid_from)} {end}"


ROUTES: Final[tuple[web.RouteDef, ...]] = (
    web.post("/v1/analytics/mappings", post_mapping),
    web.put("/v1/analytics/mappings/{vehicleId}", put_mapping),
    web.get("/v1/analytics/mappings/{vehicleId}", get_mapping),
    web.delete("/v1/analytics/mappings/{vehicleId}", delete_mapping),
)
