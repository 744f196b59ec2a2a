"""The reads behind the analytics routes: rows in, the dataclasses of `ingestd.analytics` out."""

from collections.abc import Mapping as Parameters
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from psycopg import sql

from ingestd.analytics import FleetEnergy, TimeRange, VehicleEfficiency
from ingestd.model.efficiency import EfficiencyPolicy
from ingestd.store import energy, queries
from ingestd.store.database import Reads
from ingestd.telemetry import METER, STREAMS, VEHICLE

_ANALYTICS: Final = queries.load("analytics.sql")
_REACHED: Final = queries.ready(
    sql.SQL("\nUNION ALL\n").join(queries.for_stream(_ANALYTICS["reached"], stream) for stream in STREAMS)
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


class Analytics:
    """What dashboards ask. Every method raises StoreError when the database does not answer."""

    def __init__(self, reads: Reads, *, policy: EfficiencyPolicy) -> None:
        self._reads = reads
        self._policy = policy

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
            "plausible_kw": 400,
            "threshold": self._policy.threshold,
            "min_kwh": self._policy.min_kwh,
            "min_coverage": 0.2,
            **energy.history_bounds(window, None if None in reliable else min(reliable)),
        }
        for stream in STREAMS:
            of_stream = reached[stream.name]
            parameters |= energy.edges(stream, window, of_stream.settled)
            parameters |= energy.parts_of_all(
                stream, window, of_stream.settled, of_stream.totals_from, of_stream.totals_until
            )
        return parameters
