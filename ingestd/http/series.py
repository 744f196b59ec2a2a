"""The routes of a device's energy by buckets."""

from functools import partial
from typing import Final

from aiohttp import web

from ingestd.http import buckets, parameters, shapes
from ingestd.http.problems import unknown
from ingestd.http.services import SERVICES
from ingestd.model.answers import Point
from ingestd.model.stream import WITH_ENERGY, Stream


async def get_series(request: web.Request, stream: Stream) -> web.Response:
    device_id = parameters.identity(request, stream.id_key)
    asked = buckets.of_device(parameters.Query(request, buckets.QUERY))
    found = await request.app[SERVICES].series(stream, device_id, asked.window, asked.buckets)
    if found is None:
        raise unknown(stream, device_id)
    return shapes.answer(
        {
            stream.id_key: device_id,
            **buckets.shape(asked),
            "points": [_point(stream, point) for point in found.items],
            **shapes.reason(found.reason),
        }
    )


def _point(stream: Stream, found: Point) -> dict[str, object]:
    return {
        "start": shapes.rfc3339(found.start),
        "kwh": found.kwh,
        "kw": found.kw,
        "spread": found.spread,
        **({"soc": found.soc} if "soc" in stream.columns else {}),
        **({stream.averaged_key: found.averaged} if stream.averaged_key else {}),
        "samples": found.samples,
    }


ROUTES: Final[tuple[web.RouteDef, ...]] = tuple(
    web.get(f"/v1/analytics/{stream.name}/{{{stream.id_key}}}/series", partial(get_series, stream=stream))
    for stream in WITH_ENERGY
)
