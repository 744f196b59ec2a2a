"""Reads the charging sessions of one vehicle, and the energy of its meters for each."""

import asyncio
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from ingestd.model.answers import ChargingSession, SessionUnderWay
from ingestd.model.energy import QUARTER
from ingestd.model.flow import Flow
from ingestd.model.ledger import Readings
from ingestd.model.sessions import MeterFeed, Session, SessionRule, ac_of, sessions
from ingestd.model.stream import METER, VEHICLE, Stream
from ingestd.model.timestamps import to_datetime
from ingestd.store import queries
from ingestd.store.device_energy import ENDING
from ingestd.store.ledger_snapshot import LedgerSnapshot

_SQL: Final = queries.all_ready(queries.load("sessions.sql"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mapped:
    """A segment of the mapping: from the vehicle to a meter, or from a meter to another vehicle."""

    device: str
    start: int
    end: int


class Sessions:
    """The sessions of one vehicle in one snapshot. Errors are psycopg's."""

    def __init__(self, snapshot: LedgerSnapshot, vehicle_id: str, *, rule: SessionRule, max_gap: int) -> None:
        self._snapshot = snapshot
        self._vehicle = vehicle_id
        self._rule = rule
        # Readings this far outside the window decide which energy belongs to a session in it, and to which vehicle
        # the energy of a meter belongs.
        self._reach = rule.pause + max_gap + QUARTER

    async def within(self, start: int, end: int) -> list[ChargingSession]:
        """The sessions that overlap (start, end], cut to it."""
        if start >= end:
            return []
        readings, flow, found = await self._found(start, end)
        charged = await self._charged(found, readings, flow, start, end) if found else []
        # If the window cuts off a short reading, nothing may be left of a session.
        return [one for one in charged if not one.is_empty]

    async def under_way(self, start: int, end: int) -> SessionUnderWay | None:
        """The session that is under way at `end`, as far as it lies in (start, end]; None if there is none."""
        readings, flow, found = await self._found(start, end)
        if not found:
            return None
        (session,) = await self._charged(found[-1:], readings, flow, start, end)
        if not session.open or session.is_empty:
            return None
        at, kw = flow.power(end)
        is_paused = readings.at[bisect_right(readings.at, end) - 1] > at
        return SessionUnderWay(vehicle_id=self._vehicle, session=session, kw=0.0 if is_paused else kw)

    async def _found(self, start: int, end: int) -> tuple[Readings, Flow, list[Session]]:
        """The parts of sessions in (start, end], and the readings and the flow around it."""
        readings, flow = await self._flow(VEHICLE, self._vehicle, start - self._reach, end + self._reach)
        found = [part for one in sessions(flow, rule=self._rule) if (part := one.within(start, end)) is not None]
        return readings, flow, found

    async def _charged(
        self, found: Sequence[Session], readings: Readings, flow: Flow, start: int, end: int
    ) -> list[ChargingSession]:
        """These sessions with their figures."""
        since, until = start - self._reach, end + self._reach
        feeds: list[MeterFeed] = []
        for segment in await self._segments("meters_of_vehicle", found[0].since - QUARTER, found[-1].end):
            feeds += await self._feeds(segment, found, flow, since, until)
        starts, ends = [one.start for one in found], [one.end for one in found]
        parameters = {"vehicle_id": self._vehicle, "start": starts, "end": ends}
        socs = await self._snapshot.fetch(_SQL["session_socs"], parameters)
        return await asyncio.to_thread(
            lambda: [self._charging_session(*one, readings, flow, feeds) for one in zip(found, socs, strict=True)]
        )

    async def _feeds(
        self, segment: _Mapped, found: Sequence[Session], own: Flow, since: int, until: int
    ) -> list[MeterFeed]:
        """The feeds of a meter in a segment of the vehicle, as far as the sessions have a part in its energy."""
        fed = [one for one in found if one.since - QUARTER < segment.end and segment.start < one.end]
        if not fed:
            return []
        start, end = max(fed[0].since - QUARTER, segment.start), min(fed[-1].end, segment.end)
        _, meter = await self._flow(METER, segment.device, start, end + QUARTER)
        if (span := meter.span(start, end)) is None:
            return []
        first, last = max(span[0], segment.start), min(span[1], segment.end)
        others = await self._segments("other_vehicles", first, last, meter_id=segment.device)
        if first < since or last + QUARTER > until:  # a reading of the meter with a long interval
            _, own = await self._flow(VEHICLE, self._vehicle, first, last + QUARTER)
        flows = {
            other: (await self._flow(VEHICLE, other, first, last + QUARTER))[1]
            for other in {other.device for other in others}
        }
        edges = {first, last, *(edge for other in others for edge in (other.start, other.end) if first < edge < last)}
        return [
            MeterFeed(
                start=start,
                end=end,
                meter=meter,
                vehicles={self._vehicle: own}
                | {other.device: flows[other.device] for other in others if other.start <= start and end <= other.end},
            )
            for start, end in pairwise(sorted(edges))
        ]

    async def _flow(self, stream: Stream, device: str, start: int, end: int) -> tuple[Readings, Flow]:
        return await self._snapshot.device(stream, device).flow(start, end)

    async def _segments(self, name: str, start: int, end: int, **parameters: str) -> list[_Mapped]:
        """The segments that overlap (start, end]."""
        within = {"start": to_datetime(start), "end": to_datetime(end)}
        rows = await self._snapshot.fetch(_SQL[name], {"vehicle_id": self._vehicle, **within, **parameters})
        return [_Mapped(device=row.device, start=row.start, end=ENDING if row.end is None else row.end) for row in rows]

    def _charging_session(
        self,
        one: Session,
        soc: Any,  # noqa: ANN401 - psycopg makes the namedtuple's class at run time
        readings: Readings,
        flow: Flow,
        feeds: Sequence[MeterFeed],
    ) -> ChargingSession:
        """The session with the figures of its readings."""
        within = readings.averaged[bisect_right(readings.at, one.since) : bisect_right(readings.at, one.end)]
        return ChargingSession(
            start=to_datetime(one.start),
            end=to_datetime(one.end),
            open=soc.newest is not None and soc.newest <= one.end + self._rule.pause,
            ac_kwh=ac_of(one, self._vehicle, feeds),
            dc_kwh=flow.energy(one.since, one.end),
            soc_from=soc.soc_from,
            soc_to=soc.soc_to,
            max_temperature=max(within, default=None),
            samples=len(within),
        )
