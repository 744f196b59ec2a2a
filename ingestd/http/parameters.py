"""Reads and checks path, query and body. An error is answered with 400 and the name of the parameter."""

from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Final, TypeAlias, TypeVar, get_origin

from aiohttp import web
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, WithJsonSchema
from pydantic.alias_generators import to_camel

from ingestd.http.bodies import BODIES, ORDINARY
from ingestd.http.problems import Problem, bad_parameter
from ingestd.model.periods import TimeRange, last_day
from ingestd.model.stream import IDENTITY, IDENTITY_RULE, TIMESTAMP_RULE, Timestamp, is_identity

DEFAULT_WINDOW: Final = timedelta(hours=24)
LONGEST_WINDOW: Final = timedelta(days=366)
EARLIEST: Final = datetime(1, 1, 1, tzinfo=UTC)
_LONGEST_NUMBER: Final = 20  # digits

_timestamp: Final = TypeAdapter(Timestamp)


def _parsed(value: object) -> datetime:
    """A timestamp in the format of the devices, in UTC. Raises ValueError."""
    try:
        return datetime.fromisoformat(_timestamp.validate_python(value)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(TIMESTAMP_RULE) from error


def _with_plus(value: object) -> object:
    """A plus sign in a query is a space unless it was escaped; a timestamp has no space."""
    return value.replace(" ", "+") if isinstance(value, str) else value


def _identity(value: object) -> object:
    if not isinstance(value, str) or not is_identity(value):
        raise ValueError(IDENTITY_RULE)
    return value


def _digits(value: object) -> object:
    """Python takes more for a number than digits: signs, spaces, underscores."""
    if isinstance(value, str):
        if not (value.isascii() and value.isdigit() and len(value) <= _LONGEST_NUMBER):
            raise ValueError("a whole number")
        return int(value)
    return value


def _true_or_false(value: object) -> object:
    if value not in {"true", "false"}:
        raise ValueError("one of true, false")
    return value == "true"


IDENTITY_SCHEMA: Final = {"type": "string", "pattern": f"^{IDENTITY}$"}
Identity: TypeAlias = Annotated[str, BeforeValidator(_identity), WithJsonSchema(IDENTITY_SCHEMA)]
TimestampField: TypeAlias = Annotated[
    datetime,
    BeforeValidator(_parsed),
    WithJsonSchema({"type": "string", "format": "date-time", "description": TIMESTAMP_RULE}),
]
TimestampParameter: TypeAlias = Annotated[TimestampField, BeforeValidator(_with_plus)]
Flag: TypeAlias = Annotated[bool, BeforeValidator(_true_or_false)]


class Question(BaseModel):
    """The parameters in the query of a request."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel)


class Nothing(Question):
    """A question without parameters."""


class Probe(Question):
    """A probe may add to its address whatever it takes to get a fresh answer."""

    model_config = ConfigDict(extra="ignore")


class StrictBody(BaseModel):
    """The JSON object of a request, in camelCase, without unknown members."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)


def refuse_disorder(start: datetime | None, end: datetime | None) -> None:
    """Raises Problem if the end is not later than the start. Either may be missing."""
    if start and end and start >= end:
        raise bad_parameter("endTime", "must be later than startTime")


class Period(Question):
    """The time that a list is about."""

    start_time: TimestampParameter | None = None
    end_time: TimestampParameter | None = None

    def since_until(self) -> tuple[datetime | None, datetime | None]:
        """Both ends, each of which may be missing. Raises Problem."""
        refuse_disorder(self.start_time, self.end_time)
        return self.start_time, self.end_time


class Window(Period):
    """The window of a figure."""

    def window(self, *, longest: timedelta = LONGEST_WINDOW) -> TimeRange:
        """Where both ends are left out: the last 24 hours. Raises Problem.

        These begin at a quarter, so that all of them except their end is in rows of the ledger.
        """
        start, end = self.start_time, self.end_time
        if start is None and end is None:
            return last_day(datetime.now(UTC))
        if end is None:
            end = datetime.now(UTC)
        if start is None:
            start = end - DEFAULT_WINDOW if end - EARLIEST > DEFAULT_WINDOW else EARLIEST
        refuse_disorder(start, end)
        if end - start > longest:
            raise bad_parameter("startTime", f"a window is at most {longest.days} days")
        return TimeRange(start=start, end=end)


Limit: TypeAlias = Annotated[
    int, Field(ge=1, le=1000, description="how many entries a page has"), BeforeValidator(_digits)
]
FewLimit: TypeAlias = Annotated[
    int, Field(ge=1, le=50, description="how many vehicles are looked at"), BeforeValidator(_digits)
]
Before: TypeAlias = Annotated[
    int, Field(ge=1, le=2**63 - 1, description="the `next` of the page before"), BeforeValidator(_digits)
]


LetterId: TypeAlias = Annotated[int, Field(ge=1, le=2**63 - 1), BeforeValidator(_digits)]


class Page(Question):
    """Which page of a list whose newest entries come first."""

    limit: Limit = 100
    before: Before | None = None


_Question = TypeVar("_Question", bound=Question)
_Body = TypeVar("_Body", bound=BaseModel)
_Value = TypeVar("_Value", str, int)

_identities: Final = TypeAdapter(Identity)
_letter_ids: Final = TypeAdapter(LetterId)
LETTER_ID_SCHEMA: Final = _letter_ids.json_schema()


def identity(request: web.Request, name: str) -> str:
    """A device id from the path."""
    return _of_path(request, name, _identities)


def letter_id(request: web.Request) -> int:
    """The id of a dead letter from the path."""
    return _of_path(request, "letterId", _letter_ids)


def _of_path(request: web.Request, name: str, adapter: TypeAdapter[_Value]) -> _Value:
    try:
        return adapter.validate_python(request.match_info[name])
    except ValidationError as error:
        raise _fault(error, name) from error


def question(request: web.Request, model: type[_Question]) -> _Question:
    """The query as `model`. Raises Problem, which names the first parameter that is wrong."""
    given: dict[str, str | list[str]] = {}
    for name in sorted(set(request.query)):
        texts = request.query.getall(name)
        if model.model_config["extra"] == "forbid":
            _check(name, texts, model)
        given[name] = texts if _is_list(name, model) else texts[0]
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise _fault(error) from error


def _check(name: str, texts: list[str], model: type[Question]) -> None:
    """Raises Problem for what is wrong with a parameter of any type."""
    if name not in aliases(model):
        raise bad_parameter(name, "no such parameter")
    if len(texts) > 1 and not _is_list(name, model):
        raise bad_parameter(name, "given more than once")
    if any("\0" in text for text in texts):
        raise bad_parameter(name, "must not contain a NUL character")


def _is_list(name: str, model: type[Question]) -> bool:
    """Whether the parameter may be given several times."""
    return any(field.alias == name and get_origin(field.annotation) is tuple for field in model.model_fields.values())


def aliases(model: type[BaseModel]) -> list[str]:
    """The names of its members as requests have them."""
    return [str(field.alias) for field in model.model_fields.values()]


async def body(request: web.Request, model: type[_Body]) -> _Body:
    """The JSON body as `model`. Raises Problem, which names the first field that is wrong."""
    try:
        async with request.app[BODIES].read(request, ORDINARY) as content:
            return model.model_validate_json(content)
    except ValidationError as error:
        raise _fault(error) from error


def _fault(error: ValidationError, name: str | None = None) -> Problem:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    said = first["msg"].removeprefix("Value error, ")
    name = name or next(map(str, first["loc"]), None)
    return Problem(HTTPStatus.BAD_REQUEST, said) if name is None else bad_parameter(name, said)
