"""The reads behind the analytics routes: rows in, the dataclasses of `ingestd.analytics` out."""

from datetime import UTC, datetime
from typing import Any, Final

from ingestd.analytics import FleetEnergy, LiveReading, Mapping, MeterShare, Performance, TimeRange
from ingestd.errors import ConflictError
from ingestd.store import queries
from ingestd.store.database import Connection, Reads, rows_of
from ingestd.telemetry import STREAMS, Stream

_ANALYTICS: Final = queries.load("analytics.sql")
_MAPPINGS: Final = queries.load("mappings.sql")
_LIVE: Final = {stream: queries.for_stream(_ANALYTICS["live"], stream) for stream in STREAMS}

PING_SECONDS: Final = 2.0


class Analytics:
    """What dashboards ask. Every method raises StoreError when the database does not answer."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    async def ping(self) -> None:
        """Raises StoreError unless the database answers within two seconds."""
        await self._reads.fetch(_ANALYTICS["ping"], {}, within=PING_SECONDS)

    async def live(self, stream: Stream, device_id: str) -> LiveReading | None:
        """The newest reading of a device, or None where it is unknown."""
        rows = await self._reads.fetch(_LIVE[stream], {"device_id": device_id})
        if not rows:
            return None
        row = rows[0]._asdict()
        return LiveReading(
            device_id=device_id,
            timestamp=row["ts"],
            received_at=row["received_at"],
            figures={key: row[column] for key, column in stream.columns.items()},
        )

    async def performance(self, vehicle_id: str, window: TimeRange) -> Performance | None:
        """A vehicle's charging in the window, or None where the vehicle is unknown."""
        parameters = {"vehicle_id": vehicle_id, "start": window.start, "end": window.end}
        (vehicle,) = await self._reads.fetch(_ANALYTICS["vehicle_energy"], parameters)
        if not vehicle.known and not vehicle.samples:
            return None
        meters = await self._reads.fetch(_ANALYTICS["mapped_energy"], parameters)
        return Performance(
            vehicle_id=vehicle_id,
            window=window,
            dc_kwh=vehicle.dc_kwh,
            average_temperature=vehicle.average_temperature,
            samples=vehicle.samples,
            meters=tuple(
                MeterShare(
                    meter_id=meter.meter_id,
                    valid=TimeRange(start=meter.valid_from, end=meter.valid_to),
                    ac_kwh=meter.ac_kwh,
                    samples=meter.samples,
                )
                for meter in meters
            ),
        )

    async def fleet(self, window: TimeRange) -> FleetEnergy:
        """Energy of the whole fleet in the window."""
        (row,) = await self._reads.fetch(_ANALYTICS["fleet_energy"], {"start": window.start, "end": window.end})
        return FleetEnergy(window=window, **row._asdict())


class Mappings:
    """Which meter feeds which vehicle. Every method raises StoreError when the database does not answer."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    async def of_vehicle(self, vehicle_id: str) -> list[Mapping]:
        """Every segment, the newest first; empty where there never was one."""
        rows = await self._reads.fetch(_MAPPINGS["mappings_of_vehicle"], {"vehicle_id": vehicle_id})
        return [_mapping(row) for row in rows]

    async def set(self, *, vehicle_id: str, meter_id: str, valid_from: datetime | None) -> Mapping:
        """Map the vehicle to the meter from `valid_from` (None: now) on; an earlier open segment ends there.

        Asking again for what holds already changes nothing. Raises ConflictError where a segment that starts
        later, or has ended later, is in the way.
        """
        async with self._reads.transaction() as connection:
            await rows_of(connection, _MAPPINGS["lock_vehicle"], {"vehicle_id": vehicle_id})
            # Now is when it is our turn: a change that was asked for later may have been made first.
            start = valid_from or datetime.now(UTC)
            parameters = {"vehicle_id": vehicle_id, "meter_id": meter_id, "valid_from": start, "valid_to": start}
            current = await _one(connection, "open_segment", parameters)
            if (
                current
                and current.meter_id == meter_id
                and (current.valid_from == start or (valid_from is None and current.valid_from < start))
            ):
                return current
            in_the_way = [
                _mapping(row) for row in await rows_of(connection, _MAPPINGS["segments_in_the_way"], parameters)
            ]
            if in_the_way:
                raise ConflictError(f"the vehicle is mapped already: {'; '.join(map(_describe, in_the_way))}")
            await rows_of(connection, _MAPPINGS["close_segment"], parameters)
            added = await _one(connection, "add_segment", parameters)
        assert added is not None  # noqa: S101 - RETURNING of the INSERT above
        return added

    async def close(self, vehicle_id: str) -> Mapping | None:
        """End the open segment now; None where there is none."""
        async with self._reads.transaction() as connection:
            await rows_of(connection, _MAPPINGS["lock_vehicle"], {"vehicle_id": vehicle_id})
            return await _one(connection, "close_segment", {"vehicle_id": vehicle_id, "valid_to": datetime.now(UTC)})


async def _one(connection: Connection, name: str, parameters: dict[str, Any]) -> Mapping | None:
    rows = await rows_of(connection, _MAPPINGS[name], parameters)
    return _mapping(rows[0]) if rows else None


def _mapping(row: Any) -> Mapping:  # noqa: ANN401 - psycopg makes the namedtuple's class at run time
    return Mapping(**row._asdict())


def _describe(mapping: Mapping) -> str:
    end = f"to {mapping.valid_to.isoformat()}" if mapping.valid_to else "until further notice"
    return f"{mapping.meter_id} from {mapping.valid_from.isoformat()} {end}"
