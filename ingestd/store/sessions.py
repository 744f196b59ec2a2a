"""Reads the charging sessions of one vehicle, and what its meters gave to each."""

import asyncio
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from ingestd.analytics import ChargingSession
from ingestd.model.energy import QUARTER, Counted
from ingestd.model.sessions import Feeding, Flow, Session, SessionRule, ac_of, sessions
from ingestd.store import queries
from ingestd.store.device_energy import ENDING
from ingestd.store.moments import Moment
from ingestd.telemetry import METER, VEHICLE, Stream, to_datetime

_SQL: Final = queries.all_ready(queries.load("sessions.sql"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mapped:
    """A segment of the mapping: of the vehicle to a meter, or of a meter to another vehicle."""

    device: str
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Figures:
    """What the readings of a session say."""

    ac: float
    dc: float
    max_temperature: float | None
    samples: int


class Sessions:
    """Those of one vehicle at one moment. Errors are psycopg's."""

    def __init__(self, moment: Moment, vehicle_id: str, *, rule: SessionRule, max_gap: int) -> None:
        self._moment = moment
        self._vehicle = vehicle_id
        self._rule = rule
        # Readings so far beyond the window tell what belongs to a session in it; and as long as its meters report,
        # whose their energy is.
        self._reach = rule.pause + max_gap + QUARTER

    async def within(self, start: int, end: int) -> list[ChargingSession]:
        """What of each session lies in (start, end]."""
        if start >= end:
            return []
        since, until = start - self._reach, end + self._reach
        readings = await self._readings(VEHICLE, self._vehicle, since, until)
        found = await asyncio.to_thread(_parts, readings, start, end, self._rule)
        if not found:
            return []
        feedings: list[Feeding] = []
        for segment in await self._segments("meters_of_vehicle", found[0].since - QUARTER, found[-1].end):
            feedings += await self._feedings(segment, found, readings, since, until)
        figures = await asyncio.to_thread(_figures, found, self._vehicle, readings, feedings)
        # Where a short reading is cut off by the window, there may be nothing left.
        told = [(one, of) for one, of in zip(found, figures, strict=True) if of.samples or of.dc or of.ac]
        return await self._answers(told)

    async def _feedings(
        self, segment: _Mapped, found: Sequence[Session], readings: Sequence[Counted], since: int, until: int
    ) -> list[Feeding]:
        """Of a meter while it feeds the vehicle, as far as the sessions have a part in its energy."""
        fed = [one for one in found if one.since - QUARTER < segment.end and segment.start < one.end]
        if not fed:
            return []
        start, end = max(fed[0].since - QUARTER, segment.start), min(fed[-1].end, segment.end)
        meter = Flow(await self._readings(METER, segment.device, start, end + QUARTER))
        if (span := meter.span(start, end)) is None:
            return []
        first, last = max(span[0], segment.start), min(span[1], segment.end)
        others = await self._segments("other_vehicles", first, last, meter_id=segment.device)
        own = readings
        if first < since or last + QUARTER > until:  # a meter that was silent for long, and tells of it at once
            own = await self._readings(VEHICLE, self._vehicle, first, last + QUARTER)
        flows = {self._vehicle: Flow(own)}
        for other in {other.device for other in others}:
            flows[other] = Flow(await self._readings(VEHICLE, other, first, last + QUARTER))
        edges = {first, last, *(edge for other in others for edge in (other.start, other.end) if first < edge < last)}
        return [
            Feeding(
                start=start,
                end=end,
                meter=meter,
                vehicles={self._vehicle: flows[self._vehicle]}
                | {other.device: flows[other.device] for other in others if other.start <= start and end <= other.end},
            )
            for start, end in pairwise(sorted(edges))
        ]

    async def _readings(self, stream: Stream, device: str, start: int, end: int) -> list[Counted]:
        """All that have a part in (start, end], as they count."""
        energy = await self._moment.device(stream, device).energy(start, end, each_reading=True)
        return energy.readings()

    async def _segments(self, name: str, start: int, end: int, **parameters: str) -> list[_Mapped]:
        """Those with a part in (start, end]."""
        within = {"start": to_datetime(start), "end": to_datetime(end)}
        rows = await self._moment.fetch(_SQL[name], {"vehicle_id": self._vehicle, **within, **parameters})
        return [_Mapped(device=row.device, start=row.start, end=ENDING if row.end is None else row.end) for row in rows]

    async def _answers(self, told: Sequence[tuple[Session, _Figures]]) -> list[ChargingSession]:
        starts, ends = [one.start for one, _ in told], [one.end for one, _ in told]
        socs = await self._moment.fetch(
            _SQL["session_socs"], {"vehicle_id": self._vehicle, "start": starts, "end": ends}
        )
        return [
            ChargingSession(
                start=to_datetime(one.start),
                end=to_datetime(one.end),
                open=soc.newest is not None and soc.newest <= one.end + self._rule.pause,
                ac_kwh=of.ac,
                dc_kwh=of.dc,
                soc_from=soc.soc_from,
                soc_to=soc.soc_to,
                max_temperature=of.max_temperature,
                samples=of.samples,
            )
            for (one, of), soc in zip(told, socs, strict=True)
        ]


def _parts(readings: Sequence[Counted], start: int, end: int, rule: SessionRule) -> list[Session]:
    """What of each session lies in (start, end]."""
    return [part for one in sessions(readings, rule=rule) if (part := one.within(start, end)) is not None]


def _figures(
    found: Sequence[Session], vehicle: str, readings: Sequence[Counted], feedings: Sequence[Feeding]
) -> list[_Figures]:
    flow, ends = Flow(readings), [one.at for one in readings]
    result = []
    for one in found:
        within = readings[bisect_right(ends, one.since) : bisect_right(ends, one.end)]
        result.append(
            _Figures(
                ac=ac_of(one, vehicle, feedings),
                dc=flow.energy(one.since, one.end),
                max_temperature=max((reading.averaged for reading in within), default=None),
                samples=len(within),
            )
        )
    return result
