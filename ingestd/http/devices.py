"""The routes that list devices by pages: `next` is the `after` of the following page, null at the end."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from functools import partial
from typing import Any, Final

from aiohttp import web
from pydantic import AwareDatetime, TypeAdapter
from pydantic_core import to_json

from ingestd.http import parameters, shapes
from ingestd.http.heavy import heavy
from ingestd.http.problems import bad_parameter
from ingestd.http.services import SERVICES
from ingestd.http.shared import asks_anew
from ingestd.model.device import Device, DevicePage, DeviceSort, SortKey
from ingestd.model.stream import STREAMS, VEHICLE, Stream

_PARAMETERS: Final = {"limit", "after", "sort", "order", "status"}
_SORTS: Final[tuple[DeviceSort, ...]] = ("id", "lastSeen")
_SORTS_OF_VEHICLES: Final[tuple[DeviceSort, ...]] = (*_SORTS, "efficiency")
_ONLINE: Final = {"online": True, "offline": False}

_CURSORS: Final[dict[DeviceSort, TypeAdapter[Any]]] = {
    "id": TypeAdapter(tuple[parameters.Identity, parameters.Identity]),
    "lastSeen": TypeAdapter(tuple[AwareDatetime, parameters.Identity]),
    "efficiency": TypeAdapter(tuple[float, parameters.Identity]),
}
"""The position after a page: the value by which its last device is sorted, and the id of that device."""


@heavy
async def get_devices(request: web.Request, stream: Stream) -> web.Response:
    query = parameters.Query(request, _PARAMETERS | ({"belowThreshold"} if stream is VEHICLE else set()))
    sort = query.choice("sort", _SORTS_OF_VEHICLES if stream is VEHICLE else _SORTS) or "id"
    status = query.choice("status", tuple(_ONLINE))
    wanted = DevicePage(
        online=_ONLINE[status] if status else None,
        below_threshold=query.choice("belowThreshold", ("true", "false")) == "true",
        sort=sort,
        descending=query.choice("order", ("asc", "desc")) == "desc",
        after=_after(query, sort),
        limit=query.number("limit", default=100, lowest=1, highest=1000),
    )
    devices = await request.app[SERVICES].devices(stream, wanted, anew=asks_anew(request))
    return shapes.answer(
        {
            stream.topic_root: [_device(stream, device) for device in devices],
            "next": _cursor(*wanted.place_of(devices[-1])) if len(devices) == wanted.limit else None,
        }
    )


def _device(stream: Stream, found: Device) -> dict[str, object]:
    return {
        stream.id_key: found.newest.device_id,
        **found.newest.figures,
        "timestamp": shapes.rfc3339(found.newest.timestamp),
        "lastSeen": shapes.rfc3339(found.newest.received_at),
        "online": found.online,
        **({"efficiencyRatio": found.efficiency_ratio, "status": found.status} if found.status else {}),
    }


def _cursor(key: SortKey, device_id: str) -> str:
    return urlsafe_b64encode(to_json((key, device_id), inf_nan_mode="constants")).decode().rstrip("=")


def _after(query: parameters.Query, sort: DeviceSort) -> tuple[SortKey, str] | None:
    text = query.text("after")
    if text is None:
        return None
    try:
        key, device_id = _CURSORS[sort].validate_json(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except ValueError as error:
        raise bad_parameter("after", f"the `next` of a page that is sorted by {sort}") from error
    return key, device_id


ROUTES: Final[tuple[web.RouteDef, ...]] = tuple(
    web.get(f"/v1/{stream.topic_root}", partial(get_devices, stream=stream)) for stream in STREAMS
)
