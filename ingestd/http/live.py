"""The routes of a device's newest reading."""

from functools import partial
from typing import Final

from aiohttp import web

from ingestd.http import parameters
from ingestd.http.problems import unknown
from ingestd.http.services import SERVICES
from ingestd.http.shapes import answer, rfc3339
from ingestd.model.device import LiveReading
from ingestd.model.stream import STREAMS, Stream


async def get_live(request: web.Request, stream: Stream) -> web.Response:
    device_id = parameters.identity(request, stream.id_key)
    parameters.Query(request, set())
    reading = await request.app[SERVICES].live(stream, device_id)
    if reading is None:
        raise unknown(stream, device_id)
    return answer(shape(stream, reading))


def shape(stream: Stream, reading: LiveReading) -> dict[str, object]:
    return {
        stream.id_key: reading.device_id,
        **reading.figures,
        "timestamp": rfc3339(reading.timestamp),
        "receivedAt": rfc3339(reading.received_at),
    }


ROUTES: Final[tuple[web.RouteDef, ...]] = tuple(
    web.get(f"/v1/analytics/{stream.name}/{{{stream.id_key}}}/live", partial(get_live, stream=stream))
    for stream in STREAMS
)
