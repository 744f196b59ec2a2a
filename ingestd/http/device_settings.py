"""The routes of the settings of single devices."""

from datetime import timedelta
from functools import partial
from http import HTTPStatus
from typing import Annotated, Final

from aiohttp import web
from pydantic import Field

from ingestd.http import parameters
from ingestd.http.authorization import who
from ingestd.http.problems import Problem
from ingestd.http.services import SERVICES
from ingestd.http.shapes import answer
from ingestd.model.alert import RETIRED
from ingestd.model.device import DeviceSettings
from ingestd.model.stream import STREAMS, VEHICLE, WITH_ENERGY, Stream
from ingestd.setting_types import Duration, Kilowatts


class Settings(parameters.StrictBody):
    """The body of PUT. A setting that is left out has the value for all devices."""

    offline_after: Annotated[Duration, Field(gt=timedelta(0), lt=RETIRED)] | None = None


class EnergySettings(Settings):
    """The same for a device with energy."""

    max_kw: Annotated[Kilowatts, Field(strict=True)] | None = None


class VehicleSettings(EnergySettings):
    """The same for a vehicle. If DC ÷ AC is below `threshold`, it is reported."""

    threshold: Annotated[float, Field(strict=True, gt=0, le=1)] | None = None


_BODIES: Final[dict[Stream, type[Settings]]] = {
    stream: EnergySettings if stream in WITH_ENERGY else Settings for stream in STREAMS
} | {VEHICLE: VehicleSettings}


async def put_settings(request: web.Request, stream: Stream) -> web.Response:
    device_id = parameters.identity(request, "id")
    body = await parameters.body(request, _BODIES[stream])
    settings = DeviceSettings(**body.model_dump())
    await request.app[SERVICES].device_settings.set(stream, device_id, settings, who=who(request))
    return _shape(stream, device_id, settings)


async def get_settings(request: web.Request, stream: Stream) -> web.Response:
    device_id = parameters.identity(request, "id")
    parameters.Query(request, set())
    return _shape(stream, device_id, await request.app[SERVICES].device_settings.get(stream, device_id))


async def delete_settings(request: web.Request, stream: Stream) -> web.Response:
    """Delete the settings; the answer shows the old ones."""
    device_id = parameters.identity(request, "id")
    removed = await request.app[SERVICES].device_settings.remove(stream, device_id, who=who(request))
    return _shape(stream, device_id, removed)


def _shape(stream: Stream, device_id: str, settings: DeviceSettings | None) -> web.Response:
    if settings is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"nothing is set for {stream.name} {device_id}")
    return answer({stream.id_key: device_id, **shown(stream, settings)})


def shown(stream: Stream, settings: DeviceSettings) -> dict[str, object]:
    """The settings that devices of the stream have."""
    of_stream = {field.alias for field in _BODIES[stream].model_fields.values()}
    return {name: value for name, value in settings.described().items() if name in of_stream}


ROUTES: Final[tuple[web.RouteDef, ...]] = tuple(
    route(f"/v1/devices/{stream.name}/{{id}}/settings", partial(handler, stream=stream))
    for stream in STREAMS
    for route, handler in ((web.put, put_settings), (web.get, get_settings), (web.delete, delete_settings))
)
