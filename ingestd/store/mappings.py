"""Which meter feeds which vehicle, and when: the segments of the table vehicle_meter_mapping."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

from ingestd.errors import EmptySegmentError
from ingestd.model.audit import Action, AuditEntry
from ingestd.model.mapping import Mapping, MappingConflictError
from ingestd.store import queries
from ingestd.store.audit import record
from ingestd.store.connection import Connection, rows_of
from ingestd.store.pool import Pool

_SQL: Final = queries.load("mappings.sql")
_OF_VEHICLE: Final = queries.ready(_SQL["mappings_of_vehicle"])


class Mappings:
    """Half-open segments [valid_from, valid_to), open where valid_to is None; those of a vehicle never overlap.

    Neither vehicle nor meter need have reported. Every method raises StoreError if the database does not answer, and
    then has changed nothing.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def of_vehicle(self, vehicle_id: str) -> list[Mapping]:
        """All segments of a vehicle, the newest first."""
        rows = await self._pool.fetch(_OF_VEHICLE, {"vehicle_id": vehicle_id})
        return [_mapping(row) for row in rows]

    async def set(
        self,
        *,
        vehicle_id: str,
        meter_id: str,
        valid_from: datetime | None,
        valid_to: datetime | None,
        replace: bool,
        who: str,
    ) -> Mapping:
        """Map the vehicle to the meter from `valid_from` (None: now) to `valid_to` (None: until further notice).

        - An open segment that began earlier ends at `valid_from`. It does not go on after `valid_to`.
        - If the new segment overlaps any other one, MappingConflictError is raised and nothing changes.
        - With `replace`, overlapped segments keep their parts before and after the new one, also an open one. A segment
          without such parts is deleted.
        - If the segment exists already, nothing changes. It is the same if meter and times are equal; with `valid_from`
          None, if meter and end are equal.

        Raises EmptySegmentError unless `valid_to` is later than `valid_from`.
        """
        async with self._changing("mapping-set", vehicle_id, who) as connection:
            # "Now" is taken after the lock: another change may have been made while this one waited.
            start = valid_from or datetime.now(UTC)
            if valid_to is not None and valid_to <= start:
                raise EmptySegmentError(f"from {start.isoformat()} to {valid_to.isoformat()}")
            asked = {
                "vehicle_id": vehicle_id,
                "meter_id": meter_id,
                "valid_from": start,
                "from_now": valid_from is None,
                "valid_to": valid_to,
                "replace": replace,
            }
            if held := await _segments(connection, "segment_as_asked", asked):
                return held[0]
            if replace:
                await connection.execute(_SQL["add_part_after"], asked)
            elif in_the_way := await _segments(connection, "segments_in_the_way", asked):
                raise MappingConflictError(in_the_way)
            await connection.execute(_SQL["remove_begun_within"], asked)
            await connection.execute(_SQL["end_before"], asked)
            (added,) = await _segments(connection, "add_segment", asked)
            return added

    async def close(self, vehicle_id: str, *, who: str) -> Mapping | None:
        """End the open segment now, or delete it if it begins later; None if there is none."""
        async with self._changing("mapping-closed", vehicle_id, who) as connection:
            now = {"vehicle_id": vehicle_id, "valid_to": datetime.now(UTC)}
            closed = await _segments(connection, "close_segment", now)
            return closed[0] if closed else None

    @asynccontextmanager
    async def _changing(self, action: Action, vehicle_id: str, who: str) -> AsyncIterator[Connection]:
        """A transaction in which nobody else changes the segments of the vehicle. A change goes into the audit."""
        of_vehicle = {"vehicle_id": vehicle_id}
        async with self._pool.transaction() as connection:
            await rows_of(connection, _SQL["lock_vehicle"], of_vehicle)
            before = await _segments(connection, "mappings_of_vehicle", of_vehicle)
            yield connection
            after = await _segments(connection, "mappings_of_vehicle", of_vehicle)
            if before != after:
                await record(
                    connection,
                    AuditEntry(
                        who=who,
                        action=action,
                        subject=f"vehicle {vehicle_id}",
                        before=[segment.described() for segment in before if segment not in after] or None,
                        after=[segment.described() for segment in after if segment not in before] or None,
                    ),
                )


async def _segments(connection: Connection, name: str, parameters: dict[str, Any]) -> list[Mapping]:
    return [_mapping(row) for row in await rows_of(connection, _SQL[name], parameters)]


def _mapping(row: Any) -> Mapping:  # noqa: ANN401 - psycopg makes the namedtuple's class at run time
    return Mapping(**row._asdict())
