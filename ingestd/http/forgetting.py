"""The routes that forget devices."""

from functools import partial
from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web

from ingestd.errors import StillReportsError
from ingestd.http import parameters
from ingestd.http.authorization import who
from ingestd.http.device_settings import SHOWN, shown
from ingestd.http.operations import Operation, asking
from ingestd.http.problems import Problem
from ingestd.http.services import SERVICES
from ingestd.http.shapes import Answer, UtcTime, of_device
from ingestd.model.stream import STREAMS, Stream

_FORGOTTEN: Final = {
    stream: of_device(
        stream,
        f"Forgotten{stream.title}",
        {"lastSeen": (UtcTime | None, ...), "settings": (SHOWN[stream] | None, ...), "alerts": (int, ...)},
    )
    for stream in STREAMS
}


async def delete_device(request: web.Request, _: parameters.Nothing, stream: Stream) -> Answer:
    """Forget a device; the answer shows what was removed."""
    device_id = parameters.identity(request, "id")
    try:
        forgotten = await request.app[SERVICES].forget(stream, device_id, who=who(request))
    except StillReportsError as error:
        raise Problem(HTTPStatus.CONFLICT, str(error)) from error
    if forgotten is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"of {stream.name} {device_id} there is nothing to forget")
    settings = forgotten.settings
    return _FORGOTTEN[stream](
        **{stream.id_key: device_id},
        lastSeen=forgotten.last_seen,
        settings=None if settings is None else SHOWN[stream](**shown(stream, settings)),
        alerts=forgotten.alerts,
    )


OPERATIONS: Final[tuple[Operation, ...]] = tuple(
    asking(
        hdrs.METH_DELETE,
        f"/v1/devices/{stream.name}/{{id}}",
        partial(delete_device, stream=stream),
        summary=f"Forget a {stream.name} that does not report any more; its history stays",
        tag="Devices",
        asks=parameters.Nothing,
        answers=_FORGOTTEN[stream],
        problems=[HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT],
    )
    for stream in STREAMS
)
