"""What comes in by path, query and body, checked; what is wrong is answered with 400 naming the parameter."""

from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Final, TypeVar

from aiohttp import web
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from ingestd.analytics import TimeRange
from ingestd.http.problems import Problem, bad_parameter
from ingestd.telemetry import Timestamp, is_identity

DEFAULT_WINDOW: Final = timedelta(hours=24)
LONGEST_WINDOW: Final = timedelta(days=366)
EARLIEST: Final = datetime(1, 1, 1, tzinfo=UTC)

_timestamp: Final = TypeAdapter(Timestamp)


def _moment(value: object) -> datetime:
    """The timestamp format devices use as a moment in UTC. Raises ValueError (ValidationError is one)."""
    try:
        return datetime.fromisoformat(_timestamp.validate_python(value)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError("an RFC 3339 timestamp with an offset, such as 2026-11-20T10:30:00Z") from error


Identity = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]
Moment = Annotated[datetime, BeforeValidator(_moment)]
_Body = TypeVar("_Body", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)


class MappingChange(_Strict):
    """The body of PUT: which meter, and from when (now where left out)."""

    meter_id: Identity
    valid_from: Moment | None = None


class NewMapping(MappingChange):
    """The body of POST."""

    vehicle_id: Identity


def identity(request: web.Request, name: str) -> str:
    """A device id from the path."""
    value = request.match_info[name]
    if not is_identity(value):
        raise bad_parameter(name, "1 to 64 of A-Z a-z 0-9 . _ : -")
    return value


def window(request: web.Request) -> TimeRange:
    """startTime and endTime from the query; the last 24 hours where both are left out."""
    unknown = set(request.query) - {"startTime", "endTime"}
    if unknown:
        raise bad_parameter(min(unknown), "no such parameter")
    start, end = _time(request, "startTime"), _time(request, "endTime")
    if end is None:
        end = datetime.now(UTC)
    if start is None:
        start = end - DEFAULT_WINDOW if end - EARLIEST > DEFAULT_WINDOW else EARLIEST
    if start >= end:
        raise bad_parameter("endTime", "must be later than startTime")
    if end - start > LONGEST_WINDOW:
        raise bad_parameter("startTime", f"a window is at most {LONGEST_WINDOW.days} days")
    return TimeRange(start=start, end=end)


async def body(request: web.Request, model: type[_Body]) -> _Body:
    """The JSON body as `model`; 400 names the first field at fault."""
    try:
        return model.model_validate_json(await request.read())
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if not first["loc"]:
            raise Problem(HTTPStatus.BAD_REQUEST, first["msg"]) from error
        raise bad_parameter(str(first["loc"][0]), first["msg"]) from error


def _time(request: web.Request, name: str) -> datetime | None:
    values = request.query.getall(name, [])
    if not values:
        return None
    if len(values) > 1:
        raise bad_parameter(name, "given more than once")
    try:
        # A plus sign in a query is a space unless it was escaped; a timestamp has no space.
        return _moment(values[0].replace(" ", "+"))
    except ValueError as error:
        raise bad_parameter(name, str(error)) from error
