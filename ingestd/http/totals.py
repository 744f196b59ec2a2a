"""The routes of a device's energy by days, weeks, months and years of a time zone."""

from functools import partial
from typing import Final

from aiohttp import web

from ingestd.http import buckets, parameters, shapes
from ingestd.http.problems import unknown
from ingestd.http.services import SERVICES
from ingestd.model.answers import Total
from ingestd.model.periods import CALENDARS, periods
from ingestd.model.stream import WITH_ENERGY, Stream


async def get_totals(request: web.Request, stream: Stream) -> web.Response:
    device_id = parameters.identity(request, stream.id_key)
    query = parameters.Query(request, {"startTime", "endTime", "by", "timeZone"})
    window = parameters.window_of(query)
    by = query.choice("by", CALENDARS) or "day"
    zone = buckets.time_zone(query)
    try:
        asked = periods(window, by, zone)
    except OverflowError as error:
        raise buckets.no_calendar(zone) from error
    found = await request.app[SERVICES].totals(stream, device_id, window, asked)
    if found is None:
        raise unknown(stream, device_id)
    return shapes.answer(
        {
            stream.id_key: device_id,
            "by": by,
            "timeZone": zone.key,
            "timeRange": shapes.time_range(window),
            "totals": [_total(total) for total in found.items],
            **shapes.reason(found.reason),
        }
    )


def _total(found: Total) -> dict[str, object]:
    return {**shapes.time_range(found.within), "date": found.label, "kwh": found.kwh, "samples": found.samples}


ROUTES: Final[tuple[web.RouteDef, ...]] = tuple(
    web.get(f"/v1/analytics/{stream.name}/{{{stream.id_key}}}/totals", partial(get_totals, stream=stream))
    for stream in WITH_ENERGY
)
