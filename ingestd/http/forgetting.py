"""The routes that forget devices."""

from functools import partial
from http import HTTPStatus
from typing import Final

from aiohttp import web

from ingestd.errors import StillReportsError
from ingestd.http import parameters
from ingestd.http.authorization import who
from ingestd.http.device_settings import shown
from ingestd.http.problems import Problem
from ingestd.http.services import SERVICES
from ingestd.http.shapes import answer, rfc3339
from ingestd.model.stream import STREAMS, Stream


async def delete_device(request: web.Request, stream: Stream) -> web.Response:
    """Forget a device; the answer shows what was removed."""
    device_id = parameters.identity(request, "id")
    parameters.Query(request, set())
    try:
        forgotten = await request.app[SERVICES].forget(stream, device_id, who=who(request))
    except StillReportsError as error:
        raise Problem(HTTPStatus.CONFLICT, str(error)) from error
    if forgotten is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"of {stream.name} {device_id} there is nothing to forget")
    return answer(
        {
            stream.id_key: device_id,
            "lastSeen": None if forgotten.last_seen is None else rfc3339(forgotten.last_seen),
            "settings": None if forgotten.settings is None else shown(stream, forgotten.settings),
            "alerts": forgotten.alerts,
        }
    )


ROUTES: Final[tuple[web.RouteDef, ...]] = tuple(
    web.delete(f"/v1/devices/{stream.name}/{{id}}", partial(delete_device, stream=stream)) for stream in STREAMS
)
