"""The routes of a device's energy by days, weeks, months and years of a time zone."""

from functools import partial
from http import HTTPStatus
from typing import Final
from zoneinfo import ZoneInfo

from aiohttp import hdrs, web
from pydantic import Field

from ingestd.http import buckets, parameters
from ingestd.http.operations import Operation, asking
from ingestd.http.problems import unknown
from ingestd.http.services import SERVICES
from ingestd.http.shapes import Answer, AsOf, KilowattHours, Reason, TimeRange, UtcTime, of_device
from ingestd.model import answers
from ingestd.model.periods import Calendar, periods
from ingestd.model.stream import WITH_ENERGY, Stream


class TotalsWindow(parameters.Window):
    """The window, and by which periods of the calendar it is divided."""

    by: Calendar = "day"
    time_zone: buckets.Zone = ZoneInfo("UTC")


class Total(Answer):
    """A period, or its part in the window."""

    start: UtcTime
    end: UtcTime
    date: str = Field(description="2026-03-29, 2026-W13, 2026-03 or 2026")
    kwh: KilowattHours | None = Field(description="null where nothing was sent")
    samples: int | None


_TOTALS: Final = {
    stream: of_device(
        stream,
        f"{stream.title}Totals",
        {
            "by": (Calendar, ...),
            "timeZone": (str, ...),
            "timeRange": (TimeRange, ...),
            "asOf": (AsOf, None),
            "totals": (list[Total], ...),
            "reason": (Reason, None),
        },
    )
    for stream in WITH_ENERGY
}


async def get_totals(request: web.Request, asked: TotalsWindow, stream: Stream) -> Answer:
    device_id = parameters.identity(request, stream.id_key)
    window = asked.window()
    try:
        divided = periods(window, asked.by, asked.time_zone)
    except OverflowError as error:
        raise buckets.no_calendar(asked.time_zone) from error
    found = await request.app[SERVICES].totals(stream, device_id, window, divided)
    if found is None:
        raise unknown(stream, device_id)
    return _TOTALS[stream](
        **{stream.id_key: device_id},
        by=asked.by,
        timeZone=asked.time_zone.key,
        timeRange=TimeRange.of(window),
        asOf=found.as_of,
        totals=[_total(total) for total in found.items],
        reason=found.reason,
    )


def _total(found: answers.Total) -> Total:
    return Total(start=found.within.start, end=found.within.end, date=found.label, kwh=found.kwh, samples=found.samples)


OPERATIONS: Final[tuple[Operation, ...]] = tuple(
    asking(
        hdrs.METH_GET,
        f"/v1/analytics/{stream.name}/{{{stream.id_key}}}/totals",
        partial(get_totals, stream=stream),
        summary=f"Energy of a {stream.name} by days, weeks, months or years",
        tag="Energy",
        asks=TotalsWindow,
        answers=_TOTALS[stream],
        problems=[HTTPStatus.NOT_FOUND],
    )
    for stream in WITH_ENERGY
)
