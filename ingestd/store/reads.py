"""The reads behind the analytics routes: rows in, the dataclasses of `ingestd.analytics` out."""

from collections.abc import Mapping as Parameters
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from psycopg import sql

from ingestd.analytics import (
    FleetEnergy,
    Judgement,
    LiveReading,
    MeterShare,
    Performance,
    TimeRange,
    VehicleEfficiency,
)
from ingestd.store import energy, queries
from ingestd.store.database import Reads
from ingestd.telemetry import METER, STREAMS, VEHICLE, Stream

_ANALYTICS: Final = queries.load("analytics.sql")
_LIVE: Final = {stream: queries.ready(queries.for_stream(_ANALYTICS["live"], stream)) for stream in STREAMS}
_REACHED: Final = queries.ready(
    sql.SQL("\nUNION ALL\n").join(queries.for_stream(_ANALYTICS["reached"], stream) for stream in STREAMS)
)
_PERFORMANCE: Final = queries.ready(
    _ANALYTICS["performance"].format(
        vehicle_readings=energy.readings(VEHICLE, "vehicle_span"),
        vehicle_cadence=energy.cadences(VEHICLE, "vehicle_span"),
        meter_cadences=energy.cadences(METER, "meter_span"),
        shares=energy.SHARES,
    )
)


def vehicles(answer: sql.Composable) -> queries.Statement:
    """What the statement `answer` makes of the relation `judged`: every vehicle with a reading or a mapping."""
    return queries.ready(
        _ANALYTICS["vehicles"].format(
            energy_of_all_meters=energy.energy_of_all(METER),
            energy_of_all_vehicles=energy.energy_of_all(VEHICLE),
            pair_cadences=energy.cadences(METER, "pair_span"),
            shares=energy.SHARES,
            answer=answer,
        )
    )


_FLEET: Final = vehicles(_ANALYTICS["fleet_answer"].format())
_EFFICIENCIES: Final = vehicles(_ANALYTICS["efficiencies_answer"].format())


def live_reading(stream: Stream, row: Any) -> LiveReading:  # noqa: ANN401 - psycopg makes the namedtuple's class at run time
    """A row of a live table."""
    figures = {key: getattr(row, column) for key, column in stream.columns.items()}
    return LiveReading(
        device_id=getattr(row, stream.id_column),
        timestamp=row.ts,
        received_at=row.received_at,
        figures={key: value for key, value in figures.items() if value is not None},
    )


class Analytics:
    """What dashboards ask. Every method raises StoreError when the database does not answer."""

    def __init__(self, reads: Reads, *, judgement: Judgement) -> None:
        self._reads = reads
        self._judgement = judgement

    async def live(self, stream: Stream, device_id: str) -> LiveReading | None:
        """The newest reading of a device, or None where it is unknown."""
        rows = await self._reads.fetch(_LIVE[stream], {"device_id": device_id})
        if not rows:
            return None
        return live_reading(stream, rows[0])

    async def performance(self, vehicle_id: str, window: TimeRange) -> Performance | None:
        """A vehicle's charging in the window, or None where the vehicle is unknown."""
        parameters = await self.parameters(window)
        rows = await self._reads.fetch(_PERFORMANCE, {"vehicle_id": vehicle_id, **parameters})
        vehicle = rows[0]
        if not vehicle.known:
            return None
        return Performance(
            vehicle_id=vehicle_id,
            window=window,
            dc_kwh=vehicle.dc_kwh,
            average_temperature=vehicle.average_temperature,
            samples=vehicle.samples,
            meters=tuple(
                MeterShare(
                    meter_id=row.meter_id,
                    valid=TimeRange(start=row.start_at, end=row.end_at),
                    ac_kwh=row.ac_kwh,
                    samples=row.meter_samples,
                    shared=row.shared,
                )
                for row in rows
                if row.meter_id is not None
            ),
            coverage=vehicle.coverage,
            gaps=vehicle.gaps,
            longest_gap=vehicle.longest_gap,
            resets=vehicle.resets,
            excluded=vehicle.excluded,
            status=vehicle.status,
            threshold=vehicle.threshold,
        )

    async def fleet(self, window: TimeRange) -> FleetEnergy:
        """Energy of the whole fleet in the window, and the state of its vehicles."""
        (row,) = await self._reads.fetch(_FLEET, await self.parameters(window))
        figures = row._asdict()
        worst = tuple(
            VehicleEfficiency(**{"efficiency_ratio" if key == "ratio" else key: vehicle[key] for key in vehicle})
            for vehicle in figures.pop("worst")
        )
        return FleetEnergy(window=window, worst=worst, **figures)

    async def closed_hours(self) -> TimeRange | None:
        """The last 24 whole hours (UTC) that are over."""
        end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        return TimeRange(start=end - timedelta(hours=24), end=end)

    async def efficiencies(self, window: TimeRange) -> list[VehicleEfficiency]:
        """Every vehicle that is mapped to a meter in the window."""
        rows = await self._reads.fetch(_EFFICIENCIES, await self.parameters(window))
        return [VehicleEfficiency(**row._asdict()) for row in rows]

    async def parameters(self, window: TimeRange) -> Parameters[str, Any]:
        """What every statement that reads energy in the window has to be told."""
        bounds = {"start": window.start, "end": window.end}
        reached = {
            row.stream: row for row in await self._reads.fetch(_REACHED, {**bounds, "reach": energy.TOTALS_REACH})
        }
        reliable = [row.reliable_until for row in reached.values()]
        parameters: dict[str, Any] = {
            **bounds,
            # What lies in the future cannot be covered.
            "elapsed": max(0.0, (min(window.end, datetime.now(UTC)) - window.start).total_seconds()),
            "rolled": True,
            "plausible_kw": self._judgement.plausible_kw,
            "threshold": self._judgement.threshold,
            "min_kwh": self._judgement.min_kwh,
            "min_coverage": self._judgement.min_coverage,
            **energy.history_bounds(window, None if None in reliable else min(reliable)),
        }
        for stream in STREAMS:
            of_stream = reached[stream.name]
            parameters |= energy.edges(stream, window, of_stream.settled)
            parameters |= energy.parts_of_all(
                stream, window, of_stream.settled, of_stream.totals_from, of_stream.totals_until
            )
        return parameters
