"""Energy over time: by buckets, by days and months, by charging sessions. Nothing of it is stored."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from psycopg import sql

from ingestd.analytics import ChargingSession, FleetPoint, Point, TimeRange, Total
from ingestd.periods import ALIGNED, QUARTER, Period, Stretch
from ingestd.store import energy, queries
from ingestd.store.database import Reads
from ingestd.store.reads import Analytics
from ingestd.telemetry import METER, STREAMS, VEHICLE, Stream

_SQL: Final = queries.load("series.sql")
_BUCKETS: Final = _SQL["buckets"].format()
_KNOWN: Final = {stream: queries.ready(queries.for_stream(_SQL["known"], stream)) for stream in STREAMS}
_LAST_SOC: Final = {VEHICLE: queries.for_stream(_SQL["last_soc"], VEHICLE), METER: sql.SQL("NULL::double precision")}
_SERIES: Final = {
    stream: queries.ready(
        _SQL["series"].format(
            readings=energy.readings(stream, "device_span"), buckets=_BUCKETS, last_soc=_LAST_SOC[stream]
        )
    )
    for stream in STREAMS
}
_TOTALS: Final = {
    stream: queries.ready(_SQL["totals"].format(readings=energy.readings(stream, "period"))) for stream in STREAMS
}
_OF_ALL: Final = {
    stream: queries.for_stream(
        _SQL["series_of_all"],
        stream,
        buckets=_BUCKETS,
        readings_one_by_one=energy.readings(stream, "one_by_one"),
    )
    for stream in STREAMS
}
_FLEET_SERIES: Final = queries.ready(
    _SQL["fleet_series"].format(
        buckets=_BUCKETS, series_of_all_meters=_OF_ALL[METER], series_of_all_vehicles=_OF_ALL[VEHICLE]
    )
)
_SESSIONS_SQL: Final = queries.load("sessions.sql")
_SESSIONS: Final = queries.ready(
    _SESSIONS_SQL["sessions"].format(
        vehicle_readings=energy.readings(VEHICLE, "vehicle_span"),
        vehicle_cadence=energy.cadences(VEHICLE, "vehicle_span"),
        meter_cadences=energy.cadences(METER, "meter_span"),
        shares=energy.SHARES,
    )
)

PAUSE: Final = timedelta(minutes=15)
"""So long without energy, or without a reading, a charging session goes on."""


class Series:
    """What charts ask. Every method raises StoreError when the database does not answer."""

    def __init__(self, reads: Reads, *, analytics: Analytics) -> None:
        self._reads = reads
        self._analytics = analytics

    async def of_device(
        self, stream: Stream, device_id: str, window: TimeRange, buckets: Sequence[Stretch]
    ) -> list[Point] | None:
        """Each of the buckets, which make up the window; None where the device is unknown."""
        parameters = {**await self._analytics.parameters(window), **_of_buckets(buckets), "device_id": device_id}
        rows = await self._reads.fetch(_SERIES[stream], parameters)
        points = [Point(start=bucket.start, **row._asdict()) for bucket, row in zip(buckets, rows, strict=True)]
        return points if any(point.samples for point in points) or await self._known(stream, device_id) else None

    async def of_fleet(self, window: TimeRange, buckets: Sequence[Stretch]) -> list[FleetPoint]:
        """Each of the buckets. Where they do not begin at quarters of an hour they are read from history alone."""
        parameters = {**await self._analytics.parameters(window), **_of_buckets(buckets)}
        if not parameters["rolled"]:
            parameters |= {**energy.edges(METER, window, None), **energy.edges(VEHICLE, window, None)}
        rows = await self._reads.fetch(_FLEET_SERIES, parameters)
        return [FleetPoint(start=bucket.start, **row._asdict()) for bucket, row in zip(buckets, rows, strict=True)]

    async def totals(
        self, stream: Stream, device_id: str, window: TimeRange, periods: Sequence[Period]
    ) -> list[Total] | None:
        """What the device sent in each of the periods, which lie in the window; None where it is unknown."""
        parameters = {
            **await self._analytics.parameters(window),
            "device_id": device_id,
            "starts": [period.within.start for period in periods],
            "ends": [period.within.end for period in periods],
        }
        rows = await self._reads.fetch(_TOTALS[stream], parameters)
        totals = [
            Total(label=period.label, within=period.within, kwh=row.kwh, samples=row.samples)
            for period, row in zip(periods, rows, strict=True)
        ]
        return totals if any(total.samples for total in totals) or await self._known(stream, device_id) else None

    async def sessions(self, vehicle_id: str, window: TimeRange) -> list[ChargingSession] | None:
        """Those that have a part in the window, cut to it, in order of time; None where the vehicle is unknown."""
        rows = await self._reads.fetch(
            _SESSIONS,
            {**await self._analytics.parameters(window), "rolled": False, "vehicle_id": vehicle_id, "pause": PAUSE},
        )
        return (
            [ChargingSession(**row._asdict()) for row in rows]
            if rows or await self._known(VEHICLE, vehicle_id)
            else None
        )

    async def _known(self, stream: Stream, device_id: str) -> bool:
        (row,) = await self._reads.fetch(_KNOWN[stream], {"device_id": device_id})
        return bool(row.known)


def _of_buckets(buckets: Sequence[Stretch]) -> dict[str, Any]:
    """The rollups, which are made by the quarter of an hour, add up to buckets that begin at one."""
    return {
        "rolled": not any((bucket.start - ALIGNED) % QUARTER for bucket in buckets[1:]),
        "froms": [bucket.within.start for bucket in buckets],
        "untils": [bucket.within.end for bucket in buckets],
    }
