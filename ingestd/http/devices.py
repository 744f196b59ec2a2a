"""The routes that list devices by pages: `next` is the `after` of the following page, null at the end."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from functools import partial
from typing import Annotated, Any, Final, Literal

from aiohttp import hdrs, web
from pydantic import AwareDatetime, Field, TypeAdapter
from pydantic_core import to_json

from ingestd.http import parameters
from ingestd.http.heavy import heavy
from ingestd.http.operations import Operation, asking
from ingestd.http.problems import bad_parameter
from ingestd.http.services import SERVICES
from ingestd.http.shapes import Answer, Ratio, UtcTime, figures, made, many, of_device
from ingestd.http.shared import asks_anew
from ingestd.model.device import Device, DevicePage, DeviceSort, SortKey
from ingestd.model.efficiency import Status
from ingestd.model.stream import STREAMS, VEHICLE, Stream

_ONLINE: Final = {"online": True, "offline": False}


class DevicesQuestion(parameters.Question):
    """Which devices, in which order."""

    limit: parameters.Limit = 100
    after: Annotated[str, Field(description="the `next` of the page before")] | None = None
    sort: DeviceSort = "id"
    order: Literal["asc", "desc"] = "asc"
    status: Literal["online", "offline"] | None = None


class WithoutEfficiency(DevicesQuestion):
    """The same for devices that have none to sort by."""

    sort: Literal["id", "lastSeen"] = "id"


class VehiclesQuestion(DevicesQuestion):
    """The same for vehicles."""

    below_threshold: parameters.Flag = False


_CURSORS: Final[dict[DeviceSort, TypeAdapter[Any]]] = {
    "id": TypeAdapter(tuple[parameters.Identity, parameters.Identity]),
    "lastSeen": TypeAdapter(tuple[AwareDatetime, parameters.Identity]),
    "efficiency": TypeAdapter(tuple[float, parameters.Identity]),
}
"""The position after a page: the value by which its last device is sorted, and the id of that device."""


def _device_of(stream: Stream) -> type[Answer]:
    members: dict[str, Any] = {
        **figures(stream),
        "timestamp": (UtcTime, ...),
        "lastSeen": (UtcTime, Field(description="when the newest reading arrived")),
        "online": (bool, ...),
    }
    if stream is VEHICLE:
        members |= {"efficiencyRatio": (Ratio | None, ...), "status": (Status, ...)}
    return of_device(stream, stream.title, members)


_DEVICE: Final = {stream: _device_of(stream) for stream in STREAMS}
_DEVICES: Final = {
    stream: made(
        stream.topic_root.title(),
        {
            stream.topic_root: (many(_DEVICE[stream]), ...),
            "next": (str | None, Field(description="the `after` of the page that follows; null at the end")),
        },
    )
    for stream in STREAMS
}


@heavy
async def get_devices(request: web.Request, asked: DevicesQuestion, stream: Stream) -> Answer:
    wanted = DevicePage(
        online=_ONLINE[asked.status] if asked.status else None,
        below_threshold=isinstance(asked, VehiclesQuestion) and asked.below_threshold,
        sort=asked.sort,
        descending=asked.order == "desc",
        after=_after(asked),
        limit=asked.limit,
    )
    devices = await request.app[SERVICES].devices(stream, wanted, anew=asks_anew(request))
    return _DEVICES[stream](
        **{stream.topic_root: [_device(stream, device) for device in devices]},
        next=_cursor(*wanted.place_of(devices[-1])) if len(devices) == wanted.limit else None,
    )


def _device(stream: Stream, found: Device) -> Answer:
    of_vehicle = {"efficiencyRatio": found.efficiency_ratio, "status": found.status} if stream is VEHICLE else {}
    return _DEVICE[stream](
        **{stream.id_key: found.newest.device_id},
        **found.newest.figures,
        timestamp=found.newest.timestamp,
        lastSeen=found.newest.received_at,
        online=found.online,
        **of_vehicle,
    )


def _cursor(key: SortKey, device_id: str) -> str:
    return urlsafe_b64encode(to_json((key, device_id), inf_nan_mode="constants")).decode().rstrip("=")


def _after(asked: DevicesQuestion) -> tuple[SortKey, str] | None:
    text = asked.after
    if text is None:
        return None
    try:
        key, device_id = _CURSORS[asked.sort].validate_json(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except ValueError as error:
        raise bad_parameter("after", f"the `next` of a page that is sorted by {asked.sort}") from error
    return key, device_id


OPERATIONS: Final[tuple[Operation, ...]] = tuple(
    asking(
        hdrs.METH_GET,
        f"/v1/{stream.topic_root}",
        partial(get_devices, stream=stream),
        summary=f"The {stream.topic_root} that have ever reported, each with its newest reading",
        tag="Devices",
        asks=VehiclesQuestion if stream is VEHICLE else WithoutEfficiency,
        answers=_DEVICES[stream],
    )
    for stream in STREAMS
)
