"""The routes of the whole fleet's energy: of a window, and by buckets."""

from typing import Final, get_args

from aiohttp import hdrs, web

from ingestd.errors import TooManyReadingsError
from ingestd.http import buckets, parameters
from ingestd.http.heavy import heavy
from ingestd.http.operations import Operation, asking
from ingestd.http.services import SERVICES
from ingestd.http.shapes import Answer, Compared, Energy, KilowattHours, Ratio, Reason, TimeRange, UtcTime
from ingestd.model import answers
from ingestd.model.efficiency import Status


class Devices(Answer):
    """The number of devices that sent a reading in the window."""

    meters: int
    vehicles: int


class Mapped(Answer):
    """The energy of the vehicles that had a meter in the window, and of these meters."""

    ac_consumed: KilowattHours
    dc_delivered: KilowattHours
    efficiency_ratio: Ratio | None
    loss_kwh: KilowattHours
    compared: Compared


class VehicleEfficiency(Answer):
    vehicle_id: str
    efficiency_ratio: Ratio | None
    ac_consumed: KilowattHours
    dc_delivered: KilowattHours


class FleetEnergy(Answer):
    """The energy of all devices in a window. Readings that were stored after `asOf` are not in it."""

    as_of: UtcTime
    time_range: TimeRange
    energy: Energy
    devices: Devices
    mapped: Mapped
    vehicles: dict[Status, int]
    worst: list[VehicleEfficiency]
    reason: Reason = None


class FleetPoint(Answer):
    start: UtcTime
    ac_consumed: KilowattHours | None
    dc_delivered: KilowattHours | None


class FleetSeries(Answer):
    """The energy of all devices by buckets. Readings that were stored after `asOf` are not in it."""

    as_of: UtcTime
    bucket: str
    time_zone: str
    time_range: TimeRange
    points: list[FleetPoint]
    reason: Reason = None


@heavy
async def get_fleet(request: web.Request, asked: parameters.Window) -> FleetEnergy:
    return _fleet(await request.app[SERVICES].fleet_energy(asked.window()))


@heavy
async def get_fleet_series(request: web.Request, asks: buckets.SeriesWindow) -> FleetSeries:
    asked = buckets.of_fleet(asks)
    try:
        found = await request.app[SERVICES].fleet_series(asked.window, asked.buckets)
    except TooManyReadingsError as error:
        raise buckets.too_fine(str(error), asked.window) from error
    return FleetSeries(
        as_of=found.as_of,
        bucket=asked.bucket.text,
        time_zone=asked.zone.key,
        time_range=TimeRange.of(asked.window),
        points=[
            FleetPoint(start=point.start, ac_consumed=point.ac_kwh, dc_delivered=point.dc_kwh) for point in found.points
        ],
        reason=found.reason,
    )


def _fleet(found: answers.FleetEnergy) -> FleetEnergy:
    mapped = found.mapped
    return FleetEnergy(
        as_of=found.as_of,
        time_range=TimeRange.of(found.window),
        energy=Energy.of(found),
        devices=Devices(meters=found.meters, vehicles=found.vehicles),
        mapped=Mapped(
            ac_consumed=mapped.all_ac,
            dc_delivered=mapped.all_dc,
            efficiency_ratio=found.mapped_ratio,
            loss_kwh=mapped.all_ac - mapped.all_dc,
            compared=Compared.of(mapped),
        ),
        vehicles={status: found.statuses.get(status, 0) for status in get_args(Status)},
        worst=[
            VehicleEfficiency(
                vehicle_id=vehicle.vehicle_id,
                efficiency_ratio=vehicle.efficiency_ratio,
                ac_consumed=vehicle.ac_kwh,
                dc_delivered=vehicle.dc_kwh,
            )
            for vehicle in found.worst
        ],
        reason=found.reason,
    )


OPERATIONS: Final[tuple[Operation, ...]] = (
    asking(
        hdrs.METH_GET,
        "/v1/analytics/fleet",
        get_fleet,
        summary="Energy and efficiency of the whole fleet",
        tag="Energy",
        asks=parameters.Window,
        answers=FleetEnergy,
        is_shared=True,
    ),
    asking(
        hdrs.METH_GET,
        "/v1/analytics/fleet/series",
        get_fleet_series,
        summary="Energy of the whole fleet over time, by buckets",
        tag="Energy",
        asks=buckets.SeriesWindow,
        answers=FleetSeries,
        is_shared=True,
    ),
)
