"""The routes of the mapping: which meter feeds which vehicle."""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web
from pydantic import Field, StrictBool

from ingestd.errors import EmptySegmentError
from ingestd.http import parameters
from ingestd.http.authorization import who
from ingestd.http.operations import Operation, asking, taking
from ingestd.http.problems import Problem, bad_parameter
from ingestd.http.services import SERVICES
from ingestd.http.shapes import Answer, UtcTime, rfc3339
from ingestd.model.mapping import Mapping, MappingConflictError

_TAG: Final = "Mappings"


class MappingChange(parameters.StrictBody):
    """The body of PUT. `valid_from` is now where left out. `replace` cuts the segments that overlap the new one."""

    meter_id: parameters.Identity
    valid_from: parameters.TimestampField | None = None
    valid_to: parameters.TimestampField | None = None
    replace: StrictBool = False


class NewMapping(MappingChange):
    """The body of POST."""

    vehicle_id: parameters.Identity


class MappingSegment(Answer):
    """A time in which a meter feeds a vehicle."""

    vehicle_id: str
    meter_id: str
    valid_from: UtcTime
    valid_to: UtcTime | None = Field(description="null: until further notice")


class MappingHistory(Answer):
    """The meter of now, and all segments since the first."""

    vehicle_id: str
    meter_id: str | None
    history: list[MappingSegment]


async def post_mapping(request: web.Request, change: NewMapping) -> MappingSegment:
    return await _set(request, change.vehicle_id, change)


async def put_mapping(request: web.Request, change: MappingChange) -> MappingSegment:
    return await _set(request, parameters.identity(request, "vehicleId"), change)


async def get_mapping(request: web.Request, _: parameters.Nothing) -> MappingHistory:
    vehicle_id = parameters.identity(request, "vehicleId")
    history = await request.app[SERVICES].mappings.of_vehicle(vehicle_id)
    if not history:
        raise Problem(HTTPStatus.NOT_FOUND, f"vehicle {vehicle_id} was never mapped to a meter")
    now = datetime.now(UTC)
    current = [s for s in history if s.valid_from <= now and (s.valid_to is None or now < s.valid_to)]
    return MappingHistory(
        vehicle_id=vehicle_id,
        meter_id=current[0].meter_id if current else None,
        history=[_shape(segment) for segment in history],
    )


async def delete_mapping(request: web.Request, _: parameters.Nothing) -> MappingSegment:
    vehicle_id = parameters.identity(request, "vehicleId")
    closed = await request.app[SERVICES].mappings.close(vehicle_id, who=who(request))
    if closed is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"vehicle {vehicle_id} has no mapping that is open")
    return _shape(closed)


async def _set(request: web.Request, vehicle_id: str, change: MappingChange) -> MappingSegment:
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
    return _shape(segment)


def _shape(segment: Mapping) -> MappingSegment:
    return MappingSegment(
        vehicle_id=segment.vehicle_id,
        meter_id=segment.meter_id,
        valid_from=segment.valid_from,
        valid_to=segment.valid_to,
    )


def _describe(segment: Mapping) -> str:
    end = f"to {rfc3339(segment.valid_to)}" if segment.valid_to else "until further notice"
    return f"{segment.meter_id} from {rfc3339(segment.valid_from)} {end}"


OPERATIONS: Final[tuple[Operation, ...]] = (
    taking(
        hdrs.METH_POST,
        "/v1/analytics/mappings",
        post_mapping,
        summary="Map a vehicle to a meter",
        tag=_TAG,
        takes=NewMapping,
        answers=MappingSegment,
        status=HTTPStatus.CREATED,
        problems=[HTTPStatus.CONFLICT],
    ),
    taking(
        hdrs.METH_PUT,
        "/v1/analytics/mappings/{vehicleId}",
        put_mapping,
        summary="Map this vehicle to a meter",
        tag=_TAG,
        takes=MappingChange,
        answers=MappingSegment,
        problems=[HTTPStatus.CONFLICT],
    ),
    asking(
        hdrs.METH_GET,
        "/v1/analytics/mappings/{vehicleId}",
        get_mapping,
        summary="The meter of a vehicle now, and all its mappings since the first",
        tag=_TAG,
        asks=parameters.Nothing,
        answers=MappingHistory,
        problems=[HTTPStatus.NOT_FOUND],
    ),
    asking(
        hdrs.METH_DELETE,
        "/v1/analytics/mappings/{vehicleId}",
        delete_mapping,
        summary="End the mapping of a vehicle that is open",
        tag=_TAG,
        asks=parameters.Nothing,
        answers=MappingSegment,
        problems=[HTTPStatus.NOT_FOUND],
    ),
)
