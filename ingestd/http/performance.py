"""The route of a vehicle's charging performance."""

from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web
from pydantic import Field

from ingestd.http import parameters
from ingestd.http.operations import Operation, asking
from ingestd.http.problems import unknown
from ingestd.http.services import SERVICES
from ingestd.http.shapes import Answer, AsOf, Compared, Energy, KilowattHours, TimeRange, UtcTime
from ingestd.model import answers
from ingestd.model.efficiency import Status
from ingestd.model.stream import VEHICLE


class Battery(Answer):
    avg_temperature: float | None = Field(description="°C")


class MappedMeter(Answer):
    """A meter that fed the vehicle, and when. `shared`: it fed other vehicles at the same time."""

    meter_id: str
    start: UtcTime = Field(alias="from")
    end: UtcTime = Field(alias="to")
    ac_consumed: KilowattHours | None
    shared: bool


class Samples(Answer):
    """The number of readings."""

    vehicle: int | None
    meter: int | None


class Gaps(Answer):
    count: int | None
    longest_seconds: float | None


class Performance(Answer):
    """A vehicle's charging in a window, and how reliable its figures are."""

    vehicle_id: str
    time_range: TimeRange
    as_of: AsOf = None
    energy: Energy
    compared: Compared | None
    battery: Battery
    meters: list[MappedMeter]
    samples: Samples
    coverage: float | None = Field(description="the share of the time for which it is known what flowed")
    gaps: Gaps
    resets: int | None = Field(description="registers that began again")
    excluded: int | None = Field(description="readings that count nothing because they cannot be right")
    status: Status
    reason: str
    threshold: float = Field(description="the ratio below which the status is below-threshold")


async def get_performance(request: web.Request, asked: parameters.Window) -> Performance:
    vehicle_id = parameters.identity(request, "vehicleId")
    found = await request.app[SERVICES].performance(vehicle_id, asked.window())
    if found is None:
        raise unknown(VEHICLE, vehicle_id)
    return shape(found)


def shape(found: answers.Performance) -> Performance:
    return Performance(
        vehicle_id=found.vehicle_id,
        time_range=TimeRange.of(found.window),
        as_of=found.as_of,
        energy=Energy.of(found),
        compared=found.compared and Compared.of(found.compared),
        battery=Battery(avg_temperature=found.average_temperature),
        meters=[
            MappedMeter(
                meter_id=meter.meter_id,
                start=meter.valid.start,
                end=meter.valid.end,
                ac_consumed=meter.ac_kwh,
                shared=meter.shared,
            )
            for meter in found.meters
        ],
        samples=Samples(vehicle=found.samples, meter=found.meter_samples),
        coverage=found.coverage,
        gaps=Gaps(count=found.gaps, longest_seconds=found.longest_gap),
        resets=found.resets,
        excluded=found.excluded,
        status=found.judgement.status,
        reason=found.judgement.reason,
        threshold=found.threshold,
    )


OPERATIONS: Final[tuple[Operation, ...]] = (
    asking(
        hdrs.METH_GET,
        "/v1/analytics/performance/{vehicleId}",
        get_performance,
        summary="A vehicle's charging in a window, and how reliable its figures are",
        tag="Energy",
        asks=parameters.Window,
        answers=Performance,
        problems=[HTTPStatus.NOT_FOUND],
    ),
)
