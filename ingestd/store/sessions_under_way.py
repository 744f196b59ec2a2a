"""The charging sessions of all vehicles that are under way now."""

from datetime import timedelta
from typing import Final

from ingestd.model.answers import SessionsUnderWay, SessionUnderWay
from ingestd.model.periods import last_day
from ingestd.model.sessions import SessionRule
from ingestd.model.stream import VEHICLE
from ingestd.model.timestamps import to_datetime, to_microseconds
from ingestd.store import queries
from ingestd.store.ledger_snapshot import LedgerSnapshot, LedgerSnapshots
from ingestd.store.sessions import Sessions

_MAYBE_CHARGING: Final = queries.ready(queries.load("sessions.sql")["maybe_charging"])


class FleetSessions:
    """Raises StoreError if the database does not answer."""

    def __init__(self, snapshots: LedgerSnapshots, *, rule: SessionRule) -> None:
        self._snapshots = snapshots
        self._rule = rule

    async def under_way(self, *, limit: int, after: str | None) -> SessionsUnderWay:
        """The sessions of the last day that are open, of vehicles that have no gap now.

        At most `limit` vehicles are looked at, each as `Series.sessions` does, so the figures are the same.
        """
        async with self._snapshots.now() as snapshot:
            window = last_day(to_datetime(snapshot.now))
            vehicles = await self._maybe_charging(snapshot, limit=limit + 1, after=after or "")
            found = [
                one
                for vehicle in vehicles[:limit]
                if (one := await self._of_vehicle(snapshot, vehicle, to_microseconds(window.start))) is not None
            ]
        return SessionsUnderWay(
            as_of=window.end,
            window=window,
            items=found,
            next_after=vehicles[limit - 1] if len(vehicles) > limit else None,
        )

    async def _maybe_charging(self, snapshot: LedgerSnapshot, *, limit: int, after: str) -> list[str]:
        since = snapshot.now - snapshot.rule(VEHICLE).max_gap
        parameters = {
            "since": to_datetime(since),
            "oldest": to_datetime(since - self._rule.pause),
            "pause": timedelta(microseconds=self._rule.pause),
            "after": after,
            "limit": limit,
        }
        return [row.vehicle_id for row in await snapshot.fetch(_MAYBE_CHARGING, parameters)]

    async def _of_vehicle(self, snapshot: LedgerSnapshot, vehicle: str, start: int) -> SessionUnderWay | None:
        sessions = Sessions(snapshot, vehicle, rule=self._rule, max_gap=snapshot.rule(VEHICLE).max_gap)
        return await sessions.under_way(max(start, snapshot.kept_since), snapshot.now)
