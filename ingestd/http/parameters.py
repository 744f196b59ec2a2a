"""Reads and checks path, query and body. An error is answered with 400 and the name of the parameter."""

from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Final, TypeVar

from aiohttp import web
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from ingestd.http.bodies import BODIES, ORDINARY
from ingestd.http.problems import Problem, bad_parameter
from ingestd.model.periods import TimeRange, last_day
from ingestd.model.stream import IDENTITY_RULE, TIMESTAMP_RULE, Timestamp, is_identity

DEFAULT_WINDOW: Final = timedelta(hours=24)
LONGEST_WINDOW: Final = timedelta(days=366)
EARLIEST: Final = datetime(1, 1, 1, tzinfo=UTC)

_timestamp: Final = TypeAdapter(Timestamp)


def _parsed(value: object) -> datetime:
    """A timestamp in the format of the devices, in UTC. Raises ValueError."""
    try:
        return datetime.fromisoformat(_timestamp.validate_python(value)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(TIMESTAMP_RULE) from error


Identity = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]
TimestampField = Annotated[datetime, BeforeValidator(_parsed)]
_LONGEST_NUMBER: Final = 20
_Default = TypeVar("_Default", int, None)
_Choice = TypeVar("_Choice", bound=str)
_Body = TypeVar("_Body", bound=BaseModel)


class StrictBody(BaseModel):
    """The JSON object of a request, in camelCase, without unknown members."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)


def identity(request: web.Request, name: str) -> str:
    """A device id from the path."""
    return _identity(name, request.match_info[name])


class Query:
    """The query of a request, read parameter by parameter."""

    def __init__(self, request: web.Request, known: set[str]) -> None:
        self._values = request.query
        if unknown := set(self._values) - known:
            raise bad_parameter(min(unknown), "no such parameter")

    def text(self, name: str) -> str | None:
        values = self._values.getall(name, [])
        if len(values) > 1:
            raise bad_parameter(name, "given more than once")
        if values and "\0" in values[0]:
            raise bad_parameter(name, "must not contain a NUL character")
        return values[0] if values else None

    def timestamp(self, name: str) -> datetime | None:
        if (text := self.text(name)) is None:
            return None
        try:
            # A plus sign in a query is a space unless it was escaped; a timestamp has no space.
            return _parsed(text.replace(" ", "+"))
        except ValueError as error:
            raise bad_parameter(name, str(error)) from error

    def identity(self, name: str) -> str | None:
        text = self.text(name)
        return None if text is None else _identity(name, text)

    def choice(self, name: str, choices: tuple[_Choice, ...]) -> _Choice | None:
        text = self.text(name)
        if text is None:
            return None
        if text not in choices:
            raise bad_parameter(name, f"one of {', '.join(choices)}")
        return choices[choices.index(text)]

    def number(self, name: str, *, default: _Default, lowest: int, highest: int) -> int | _Default:
        text = self.text(name)
        if text is None:
            return default
        return whole_number(name, text, lowest=lowest, highest=highest)

    def since_until(self) -> tuple[datetime | None, datetime | None]:
        """`startTime` and `endTime` of a list, each of which may be missing."""
        since, until = self.timestamp("startTime"), self.timestamp("endTime")
        if since and until and since >= until:
            raise bad_parameter("endTime", "must be later than startTime")
        return since, until

    def page(self) -> tuple[int, int | None]:
        """`limit` and `before` of a list that is read by pages."""
        limit = self.number("limit", default=100, lowest=1, highest=1000)
        return limit, self.number("before", default=None, lowest=1, highest=2**63 - 1)


def whole_number(name: str, text: str, *, lowest: int, highest: int) -> int:
    usable = text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER
    if not usable or not lowest <= int(text) <= highest:
        raise bad_parameter(name, f"a whole number from {lowest} to {highest}")
    return int(text)


def window(request: web.Request, *, longest: timedelta = LONGEST_WINDOW) -> TimeRange:
    """For a route whose only parameters are startTime and endTime."""
    return window_of(Query(request, {"startTime", "endTime"}), longest=longest)


def window_of(query: Query, *, longest: timedelta = LONGEST_WINDOW) -> TimeRange:
    """startTime and endTime from the query; where both are left out, the last 24 hours.

    These begin at a quarter, so that all of them except their end is in rows of the ledger.
    """
    start, end = query.timestamp("startTime"), query.timestamp("endTime")
    if start is None and end is None:
        return last_day(datetime.now(UTC))
    if end is None:
        end = datetime.now(UTC)
    if start is None:
        start = end - DEFAULT_WINDOW if end - EARLIEST > DEFAULT_WINDOW else EARLIEST
    if start >= end:
        raise bad_parameter("endTime", "must be later than startTime")
    if end - start > longest:
        raise bad_parameter("startTime", f"a window is at most {longest.days} days")
    return TimeRange(start=start, end=end)


async def body(request: web.Request, model: type[_Body]) -> _Body:
    """The JSON body as `model`. If it does not fit, 400 names the first wrong field."""
    try:
        async with request.app[BODIES].read(request, ORDINARY) as content:
            return model.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if not first["loc"]:
            raise Problem(HTTPStatus.BAD_REQUEST, first["msg"]) from error
        raise bad_parameter(str(first["loc"][0]), first["msg"].removeprefix("Value error, ")) from error


def _identity(name: str, value: str) -> str:
    if not is_identity(value):
        raise bad_parameter(name, IDENTITY_RULE)
    return value
