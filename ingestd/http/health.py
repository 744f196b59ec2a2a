"""`/health` and `/readyz` say whether the daemon works; `/livez` only says that it answers."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final, Literal, TypeAlias

from aiohttp import hdrs, web
from pydantic import BaseModel, Field, RootModel

from ingestd.errors import StoreError
from ingestd.http import parameters
from ingestd.http.authorization import may_read
from ingestd.http.operations import Operation, asking, raw
from ingestd.http.services import SERVICES, Condition
from ingestd.http.shapes import Answer, UtcTime, answer
from ingestd.model.claims import Holder

_TAG: Final = "Health"

Handler: TypeAlias = Callable[[web.Request, parameters.Probe], Awaitable[web.Response]]


class Status(Answer):
    """The status alone."""

    status: Literal["healthy", "degraded", "unhealthy", "standby"]


class LoggedError(Answer):
    """A warning or an error of the log."""

    at: UtcTime = Field(description="the last of the times")
    level: str
    event: str
    detail: str
    times: int


class SessionHealth(Answer):
    """A session of the broker, as this daemon sees it."""

    session: str = Field(description="its client id")
    holder: Holder
    left: bool = Field(description="none of the settings, but the broker keeps it: run `ingestd leave`")
    reason: str | None = Field(description="why no telemetry arrives in it, if this daemon holds it")
    in_flight: int = Field(description="messages of it that this daemon has received and not acknowledged yet")
    free_seconds: float = Field(description="for how long no daemon has held it; its messages wait in the broker")


class Health(Status):
    """The state of the daemon, with the reason where readings cannot flow."""

    database: str
    broker: str
    replica: str | None = Field(description="null if there is no replica for reading")
    replica_lag_seconds: float | None = Field(description="what the replica shows is so old; null if it is not known")
    archive: str | None = Field(description="ready, or why days cannot be archived; null where there is no archive")
    stopping: bool
    last_commit_age_seconds: float | None
    received_messages: int = Field(description="since the daemon started")
    buffered_messages: int
    sessions: list[SessionHealth] = Field(description="those of the settings, then those that are left")
    last_errors: list[LoggedError] = Field(description="the different ones that came last, the newest first")
    timestamp: UtcTime


class HealthOrStatus(RootModel[Health | Status]):
    """The whole, or the status alone for whoever shows no token where tokens are used."""


class Alive(Answer):
    """The daemon answers."""

    status: Literal["alive"] = "alive"


async def get_health(request: web.Request, _: parameters.Probe) -> web.Response:
    """200 while readings can flow from the broker to the database, else 503 with the reason.

    Without a token, where tokens are used, the status alone.
    """
    return await _health(request, is_whole=may_read(request))


async def get_readyz(request: web.Request, _: parameters.Probe) -> web.Response:
    """The same, always with the status alone."""
    return await _health(request, is_whole=False)


async def _health(request: web.Request, *, is_whole: bool) -> web.Response:
    services = request.app[SERVICES]
    condition = services.condition()
    database_reason = condition.database_reason
    if database_reason is None:
        try:
            await services.ping()
        except StoreError as error:
            database_reason = str(error)
    is_healthy = condition.is_ready and database_reason is None
    status = Status(status=_status(condition, is_healthy=is_healthy))
    code = HTTPStatus.OK if is_healthy else HTTPStatus.SERVICE_UNAVAILABLE
    if not is_whole:
        return answer(status, code)
    age, lag = condition.last_commit_age, condition.replica_lag
    whole = Health(
        status=status.status,
        database=database_reason or "connected",
        broker=condition.broker_reason or "connected",
        replica=(condition.replica_reason or "connected") if condition.has_replica else None,
        replica_lag_seconds=round(lag, 3) if lag is not None else None,
        archive=condition.archive,
        stopping=condition.is_stopping,
        last_commit_age_seconds=round(age, 3) if age is not None else None,
        received_messages=condition.received_messages,
        buffered_messages=condition.buffered_messages,
        sessions=[
            SessionHealth(
                session=one.session,
                holder=one.holder,
                left=one.is_left,
                reason=one.reason,
                in_flight=one.in_flight,
                free_seconds=round(one.free_seconds, 1),
            )
            for one in condition.sessions
        ],
        last_errors=[
            LoggedError(at=one.at, level=one.level, event=one.event, detail=one.detail, times=one.times)
            for one in services.last_errors()
        ],
        timestamp=datetime.now(UTC),
    )
    return answer(whole, code)


def _status(condition: Condition, *, is_healthy: bool) -> Literal["healthy", "degraded", "unhealthy", "standby"]:
    """Degraded: readings flow, but the replica for reading is away or far behind."""
    if condition.is_standby:
        return "standby"
    if not is_healthy:
        return "unhealthy"
    return "degraded" if condition.replica_reason is not None else "healthy"


async def get_livez(_request: web.Request, _: parameters.Probe) -> Alive:
    return Alive()


def _probe(path: str, handler: Handler, summary: str, shows: type[BaseModel]) -> Operation:
    answers = {HTTPStatus.OK: shows, HTTPStatus.SERVICE_UNAVAILABLE: shows}
    return raw(hdrs.METH_GET, path, handler, summary=summary, tag=_TAG, asks=parameters.Probe, answers=answers)


OPERATIONS: Final[tuple[Operation, ...]] = (
    _probe(
        "/health", get_health, "Whether readings can flow from the broker to the database, and why not", HealthOrStatus
    ),
    _probe("/readyz", get_readyz, "The same, with the status alone", Status),
    asking(
        hdrs.METH_GET,
        "/livez",
        get_livez,
        summary="Whether the daemon answers",
        tag=_TAG,
        asks=parameters.Probe,
        answers=Alive,
    ),
)
