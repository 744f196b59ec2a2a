"""Vehicles that are judged by an efficiency threshold of their own: at a 2.3 kW socket, 80 % is healthy."""

from typing import Any, Final

from ingestd.store import queries
from ingestd.store.database import Reads

_SOURCES: Final = queries.load("thresholds.sql")
_SQL: Final = queries.all_ready(_SOURCES)


class Thresholds:
    """The vehicle_threshold table. Every method raises StoreError."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    async def get(self, vehicle_id: str) -> float | None:
        """None where the vehicle has none of its own."""
        return await self._one(_SQL["threshold"], vehicle_id=vehicle_id)

    async def set(self, vehicle_id: str, threshold: float) -> None:
        """The vehicle need not have reported."""
        await self._one(_SQL["set_threshold"], vehicle_id=vehicle_id, threshold=threshold)

    async def remove(self, vehicle_id: str) -> float | None:
        """What it was, or None where there was none."""
        return await self._one(_SQL["remove_threshold"], vehicle_id=vehicle_id)

    async def _one(self, statement: queries.Statement, **parameters: Any) -> float | None:  # noqa: ANN401 - whatever psycopg binds
        rows = await self._reads.fetch(statement, parameters)
        return rows[0].threshold if rows else None
