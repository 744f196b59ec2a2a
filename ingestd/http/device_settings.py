"""The routes of the settings of single devices."""

from datetime import timedelta
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, Final

from aiohttp import hdrs, web
from pydantic import Field

from ingestd.http import parameters
from ingestd.http.authorization import who
from ingestd.http.operations import Operation, asking, taking
from ingestd.http.parameters import aliases
from ingestd.http.problems import Problem
from ingestd.http.services import SERVICES
from ingestd.http.shapes import Answer, made, of_device
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
_TYPES: Final = {"offlineAfter": str | None, "maxKw": float | None, "threshold": float | None}
"""By name: the type of a setting in answers; null: the setting for all devices holds."""


def _members(stream: Stream) -> dict[str, Any]:
    """The settings that devices of the stream have."""
    return {name: (_TYPES[name], ...) for name in aliases(_BODIES[stream])}


SHOWN: Final = {stream: made(f"{stream.title}SettingsShown", _members(stream)) for stream in STREAMS}
"""By stream: the model of the settings in an answer."""
_OF_DEVICE: Final = {stream: of_device(stream, f"SettingsOf{stream.title}", _members(stream)) for stream in STREAMS}


async def put_settings(request: web.Request, body: Settings, stream: Stream) -> Answer:
    device_id = parameters.identity(request, "id")
    settings = DeviceSettings(**body.model_dump())
    await request.app[SERVICES].device_settings.set(stream, device_id, settings, who=who(request))
    return _shape(stream, device_id, settings)


async def get_settings(request: web.Request, _: parameters.Nothing, stream: Stream) -> Answer:
    device_id = parameters.identity(request, "id")
    found = await request.app[SERVICES].device_settings.get(stream, device_id)
    return _shape(stream, device_id, found or DeviceSettings())


async def delete_settings(request: web.Request, _: parameters.Nothing, stream: Stream) -> Answer:
    """Delete the settings; the answer shows the old ones."""
    device_id = parameters.identity(request, "id")
    removed = await request.app[SERVICES].device_settings.remove(stream, device_id, who=who(request))
    if removed is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"nothing is set for {stream.name} {device_id}")
    return _shape(stream, device_id, removed)


def _shape(stream: Stream, device_id: str, settings: DeviceSettings) -> Answer:
    return _OF_DEVICE[stream](**{stream.id_key: device_id}, **shown(stream, settings))


def shown(stream: Stream, settings: DeviceSettings) -> dict[str, Any]:
    """The settings that devices of the stream have."""
    return {name: value for name, value in settings.described().items() if name in SHOWN[stream].model_fields}


def _operations(stream: Stream) -> tuple[Operation, ...]:
    path = f"/v1/devices/{stream.name}/{{id}}/settings"
    tag, answers = "Devices", _OF_DEVICE[stream]
    return (
        taking(
            hdrs.METH_PUT,
            path,
            partial(put_settings, stream=stream),
            summary=f"Set what is different for one {stream.name}; it takes the place of all that was set",
            tag=tag,
            takes=_BODIES[stream],
            answers=answers,
        ),
        asking(
            hdrs.METH_GET,
            path,
            partial(get_settings, stream=stream),
            summary=f"What is set for one {stream.name}; null where the setting for all devices holds",
            tag=tag,
            asks=parameters.Nothing,
            answers=answers,
        ),
        asking(
            hdrs.METH_DELETE,
            path,
            partial(delete_settings, stream=stream),
            summary=f"Delete what is set for one {stream.name}; the answer shows it",
            tag=tag,
            asks=parameters.Nothing,
            answers=answers,
            problems=[HTTPStatus.NOT_FOUND],
        ),
    )


OPERATIONS: Final[tuple[Operation, ...]] = tuple(one for stream in STREAMS for one in _operations(stream))
