"""The routes of a device's energy by buckets."""

from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, Final

from aiohttp import hdrs, web
from pydantic import Field

from ingestd.http import buckets, parameters
from ingestd.http.operations import Operation, asking
from ingestd.http.problems import unknown
from ingestd.http.services import SERVICES
from ingestd.http.shapes import Answer, AsOf, KilowattHours, Reason, TimeRange, UtcTime, made, many, of_device
from ingestd.model import answers
from ingestd.model.stream import WITH_ENERGY, Stream

Kilowatts = Annotated[float, Field(description="kW: the mean over the bucket, or over its part in the window")]


def _point_of(stream: Stream) -> type[Answer]:
    members: dict[str, Any] = {
        "start": (UtcTime, Field(description="of the bucket, also if it began before the window")),
        "kwh": (KilowattHours | None, ...),
        "kw": (Kilowatts | None, ...),
        "spread": (bool | None, Field(description="whether it has energy of a reading longer than a quarter-hour")),
    }
    members["spread"] = (
        bool | None,
        Field(description="whether it has energy of a reading longer than a quarter-hour"),
    )
    if "soc" in stream.columns:
        members["soc"] = (float | None, Field(description="%, the last one"))
    if stream.averaged_key:
        unit = stream.payload_schema()["properties"][stream.averaged_key]["description"]
        members[stream.averaged_key] = (float | None, Field(description=f"{unit}, the mean"))
    members["samples"] = (int | None, Field(description="the number of readings; null if it is not known"))
    return made(f"{stream.title}Point", members)


def _series_of(stream: Stream) -> type[Answer]:
    members: dict[str, Any] = {
        "bucket": (str, ...),
        "timeZone": (str, ...),
        "timeRange": (TimeRange, ...),
        "asOf": (AsOf, None),
        "points": (many(_POINT[stream]), ...),
        "reason": (Reason, None),
    }
    return of_device(stream, f"{stream.title}Series", members)


_POINT: Final = {stream: _point_of(stream) for stream in WITH_ENERGY}
_SERIES: Final = {stream: _series_of(stream) for stream in WITH_ENERGY}


async def get_series(request: web.Request, asks: buckets.SeriesWindow, stream: Stream) -> Answer:
    device_id = parameters.identity(request, stream.id_key)
    asked = buckets.of_device(asks)
    found = await request.app[SERVICES].series(stream, device_id, asked.window, asked.buckets)
    if found is None:
        raise unknown(stream, device_id)
    return _SERIES[stream](
        **{stream.id_key: device_id},
        bucket=asked.bucket.text,
        timeZone=asked.zone.key,
        timeRange=TimeRange.of(asked.window),
        asOf=found.as_of,
        points=[_point(stream, point) for point in found.items],
        reason=found.reason,
    )


def _point(stream: Stream, found: answers.Point) -> Answer:
    return _POINT[stream](
        start=found.start,
        kwh=found.kwh,
        kw=found.kw,
        spread=found.spread,
        **({"soc": found.soc} if "soc" in stream.columns else {}),
        **({stream.averaged_key: found.averaged} if stream.averaged_key else {}),
        samples=found.samples,
    )


OPERATIONS: Final[tuple[Operation, ...]] = tuple(
    asking(
        hdrs.METH_GET,
        f"/v1/analytics/{stream.name}/{{{stream.id_key}}}/series",
        partial(get_series, stream=stream),
        summary=f"Energy of a {stream.name} over time, by buckets",
        tag="Energy",
        asks=buckets.SeriesWindow,
        answers=_SERIES[stream],
        problems=[HTTPStatus.NOT_FOUND],
    )
    for stream in WITH_ENERGY
)
