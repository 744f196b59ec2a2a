"""The routes of a device's newest reading."""

from functools import partial
from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web

from ingestd.http import parameters
from ingestd.http.operations import Operation, asking
from ingestd.http.problems import unknown
from ingestd.http.services import SERVICES
from ingestd.http.shapes import Answer, UtcTime, figures, of_device
from ingestd.model.stream import STREAMS, Stream

_NEWEST: Final = {
    stream: of_device(
        stream,
        f"Newest{stream.title}Reading",
        {**figures(stream), "timestamp": (UtcTime, ...), "receivedAt": (UtcTime, ...)},
    )
    for stream in STREAMS
}


async def get_live(request: web.Request, _: parameters.Nothing, stream: Stream) -> Answer:
    device_id = parameters.identity(request, stream.id_key)
    reading = await request.app[SERVICES].live(stream, device_id)
    if reading is None:
        raise unknown(stream, device_id)
    return _NEWEST[stream](
        **{stream.id_key: reading.device_id},
        **reading.figures,
        timestamp=reading.timestamp,
        receivedAt=reading.received_at,
    )


OPERATIONS: Final[tuple[Operation, ...]] = tuple(
    asking(
        hdrs.METH_GET,
        f"/v1/analytics/{stream.name}/{{{stream.id_key}}}/live",
        partial(get_live, stream=stream),
        summary=f"The newest reading of a {stream.name}",
        tag="Devices",
        asks=parameters.Nothing,
        answers=_NEWEST[stream],
        problems=[HTTPStatus.NOT_FOUND],
    )
    for stream in STREAMS
)
