"""The routes of charging sessions: those of a vehicle, and those of the fleet that are under way."""

from datetime import timedelta
from http import HTTPStatus
from typing import Annotated, Final

from aiohttp import hdrs, web
from pydantic import Field

from ingestd.http import parameters
from ingestd.http.heavy import heavy
from ingestd.http.operations import Operation, asking
from ingestd.http.problems import unknown
from ingestd.http.services import SERVICES
from ingestd.http.shapes import Answer, AsOf, KilowattHours, Ratio, Reason, TimeRange, UtcTime
from ingestd.model import answers
from ingestd.model.stream import VEHICLE

LONGEST_WINDOW: Final = timedelta(days=31)


class ChargingSession(Answer):
    """A charge of the vehicle, short pauses included, or its part in the window."""

    start: UtcTime
    end: UtcTime
    open: bool = Field(description="no reading has shown yet that the session is over")
    ac_consumed: KilowattHours
    dc_delivered: KilowattHours
    efficiency_ratio: Ratio | None
    loss_kwh: KilowattHours | None
    soc_from: float | None = Field(description="%")
    soc_to: float | None = Field(description="%")
    max_temperature: float | None = Field(description="°C")
    samples: int


class ChargingSessions(Answer):
    vehicle_id: str
    time_range: TimeRange
    as_of: AsOf = None
    sessions: list[ChargingSession]
    reason: Reason = None


class UnderWayQuestion(parameters.Question):
    """Which vehicles are looked at, in order of their id."""

    limit: parameters.FewLimit = 50
    after: Annotated[parameters.Identity, Field(description="the `next` of the page before")] | None = None


class SessionUnderWay(ChargingSession):
    """The session of a vehicle that charges now."""

    vehicle_id: str
    kw: float | None = Field(description="kW of the newest reading, a mean over its interval; 0 in a pause")


class SessionsUnderWay(Answer):
    """The sessions of the last 24 hours that are under way."""

    as_of: UtcTime
    time_range: TimeRange
    sessions: list[SessionUnderWay]
    next: str | None = Field(description="the `after` of the page that follows; null at the end")


@heavy
async def get_fleet_sessions(request: web.Request, asked: UnderWayQuestion) -> SessionsUnderWay:
    found = await request.app[SERVICES].sessions_under_way(limit=asked.limit, after=asked.after)
    return SessionsUnderWay(
        as_of=found.as_of,
        time_range=TimeRange.of(found.window),
        sessions=[
            SessionUnderWay(**dict(_session(one.session)), vehicle_id=one.vehicle_id, kw=one.kw) for one in found.items
        ],
        next=found.next_after,
    )


async def get_sessions(request: web.Request, asked: parameters.Window) -> ChargingSessions:
    vehicle_id = parameters.identity(request, "vehicleId")
    window = asked.window(longest=LONGEST_WINDOW)
    found = await request.app[SERVICES].sessions(vehicle_id, window)
    if found is None:
        raise unknown(VEHICLE, vehicle_id)
    return ChargingSessions(
        vehicle_id=vehicle_id,
        time_range=TimeRange.of(window),
        as_of=found.as_of,
        sessions=[_session(session) for session in found.items],
        reason=found.reason,
    )


def _session(found: answers.ChargingSession) -> ChargingSession:
    return ChargingSession(
        start=found.start,
        end=found.end,
        open=found.open,
        ac_consumed=found.ac_kwh,
        dc_delivered=found.dc_kwh,
        efficiency_ratio=found.efficiency_ratio,
        loss_kwh=found.loss_kwh,
        soc_from=found.soc_from,
        soc_to=found.soc_to,
        max_temperature=found.max_temperature,
        samples=found.samples,
    )


OPERATIONS: Final[tuple[Operation, ...]] = (
    asking(
        hdrs.METH_GET,
        "/v1/analytics/vehicle/{vehicleId}/sessions",
        get_sessions,
        summary="Charging sessions of a vehicle in a window of at most 31 days",
        tag="Energy",
        asks=parameters.Window,
        answers=ChargingSessions,
        problems=[HTTPStatus.NOT_FOUND],
    ),
    asking(
        hdrs.METH_GET,
        "/v1/analytics/fleet/sessions",
        get_fleet_sessions,
        summary="Charging sessions of the whole fleet that are under way",
        tag="Energy",
        asks=UnderWayQuestion,
        answers=SessionsUnderWay,
        is_shared=True,
    ),
)
