"""What answers have in common: camelCase, UTC with Z, floats in full."""

from collections.abc import Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, TypeAlias

from aiohttp import hdrs, web
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, create_model
from pydantic.alias_generators import to_camel

from ingestd.model import efficiency, periods
from ingestd.model.answers import ChargingSession, FleetEnergy, Performance
from ingestd.model.stream import Stream


class Answer(BaseModel):
    """The JSON object of an answer. Its members are those of the OpenAPI document."""

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, validate_by_alias=False, serialize_by_alias=True, frozen=True
    )


def answer(body: BaseModel, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    content = body.model_dump_json(by_alias=True).encode()
    return web.Response(status=status, body=content, content_type="application/json")


def compressible(body: bytes, content_type: str) -> web.Response:
    """A large answer of text, compressed for those who take that."""
    response = web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type, hdrs.VARY: hdrs.ACCEPT_ENCODING})
    response.enable_compression()
    return response


def _in_utc(at: datetime) -> datetime:
    return at.astimezone(UTC)


UtcTime: TypeAlias = Annotated[AwareDatetime, AfterValidator(_in_utc)]
"""RFC 3339 in UTC with Z; fractions only where there are any."""
KilowattHours: TypeAlias = Annotated[float, Field(description="kWh")]
Ratio: TypeAlias = Annotated[float, Field(description="DC energy divided by AC energy")]


def _is_none(value: object) -> bool:
    return value is None


Reason: TypeAlias = Annotated[str | None, Field(description="why a figure is null or missing", exclude_if=_is_none)]
"""Absent if there is no reason."""
AsOf: TypeAlias = Annotated[
    AwareDatetime | None,
    AfterValidator(lambda at: at and _in_utc(at)),
    Field(description="what was stored after this may be missing; only where a replica answers", exclude_if=_is_none),
]
Next: TypeAlias = Annotated[int | None, Field(description="the `before` of the page that follows; null at the end")]


def rfc3339(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def next_page(ids: Sequence[int], *, limit: int) -> int | None:
    """The `next` of a page of a list whose newest entries come first."""
    return ids[-1] if len(ids) == limit else None


class TimeRange(Answer):
    start: UtcTime
    end: UtcTime

    @classmethod
    def of(cls, window: periods.TimeRange) -> "TimeRange":
        return cls(start=window.start, end=window.end)


class Energy(Answer):
    """All energy of the window."""

    ac_consumed: KilowattHours | None
    dc_delivered: KilowattHours | None
    efficiency_ratio: Ratio | None

    @classmethod
    def of(cls, found: Performance | FleetEnergy | ChargingSession) -> "Energy":
        return cls(ac_consumed=found.ac_kwh, dc_delivered=found.dc_kwh, efficiency_ratio=found.efficiency_ratio)


class Compared(Answer):
    """The energy of the units of time in which both sides are known, and its share of all energy."""

    ac_consumed: KilowattHours
    dc_delivered: KilowattHours
    share: float

    @classmethod
    def of(cls, found: efficiency.Compared) -> "Compared":
        return cls(ac_consumed=found.ac, dc_delivered=found.dc, share=found.share)


def figures(stream: Stream) -> dict[str, Any]:
    """The figures of a reading, as fields of a model. Those that were not sent are absent."""
    members = stream.payload_schema()["properties"]
    may_miss = {stream.energy_key, stream.register_key, *stream.optional}
    return {
        key: (float | None, Field(default=None, description=members[key]["description"], exclude_if=_is_none))
        if key in may_miss
        else (float, Field(description=members[key]["description"]))
        for key in stream.columns
    }


def made(name: str, members: dict[str, Any]) -> type[Answer]:
    """A model whose members depend on the stream: for each its type, and `...` or what else is known of it."""
    return create_model(name, __base__=Answer, **members)


def of_device(stream: Stream, name: str, members: dict[str, Any]) -> type[Answer]:
    """The model of an answer about a device of the stream, whose id is the first member."""
    return made(name, {stream.id_key: (str, ...)} | members)


def many(model: type[Answer]) -> Any:  # noqa: ANN401 - a type that is made at run time
    """The type of a list of what `made` made."""
    return list[model]  # type: ignore[valid-type]
