"""Compares the vehicles of a fleet with their meters: by sums where all time is known, else quarter by quarter."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from ingestd.model.device_energy import total
from ingestd.model.efficiency import Compared, EfficiencyPolicy, SegmentEnergy, compare, is_whole
from ingestd.model.energy import HOUR, QUARTER
from ingestd.model.fleet import Window, hour_of
from ingestd.model.mapping import MappingSegment
from ingestd.model.quarters import Quarter
from ingestd.model.stream import METER, VEHICLE, Stream
from ingestd.store import queries
from ingestd.store.ledger import quarter_of_row, to_timestamp
from ingestd.store.ledger_snapshot import LedgerSnapshot
from ingestd.store.open_energy import QuartersByDevice

_SQL: Final = queries.of_streams(queries.load("fleet.sql"))
_NONE: Final[frozenset[int]] = frozenset()
YIELD_EVERY: Final = 500
"""After this many segments, other tasks of the event loop run."""


class Comparison:
    """The compared energy of segments: sums of the units that are complete on both sides; other units one by one."""

    def __init__(
        self,
        snapshot: LedgerSnapshot,
        window: Window,
        *,
        segments: Sequence[MappingSegment],
        rows: Mapping[Stream, Mapping[str, Any]],
        additions: Mapping[Stream, QuartersByDevice],
        policy: EfficiencyPolicy,
    ) -> None:
        """`rows` are the sums of each device's rows; `additions` have to be added to the rows."""
        self._snapshot = snapshot
        self._window = window
        self._segments = segments
        self._rows = rows
        self._units = window.units
        self._since, self._until = window.since, window.until
        self._additions = additions
        self._policy = policy
        self._found = {segment.vehicle: Compared() for segment in segments}
        self._closer: defaultdict[int, set[int]] = defaultdict(set)
        """By number of the segment: the quarters that are compared one by one."""

    async def result(self) -> dict[str, Compared]:
        """The compared energy by vehicle; `all_dc` is left 0."""
        left: dict[int, set[int]] = {}
        for number, segment in enumerate(self._segments):
            touched = self._touched(segment)
            if touched or not self._is_summed(segment):
                left[number] = touched
            if number % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        if left and self._units:
            await self._sum_rows(left)
        await self._look_closer()
        return self._found

    def _touched(self, segment: MappingSegment) -> set[int]:
        """The quarters that have additions; all quarters of an hour in which the meter is spread."""
        since, until = self._since, self._until
        return {
            quarter
            for rows in self._additions_of(segment)
            for start, row in rows.items()
            if start // HOUR * HOUR < until
            for quarter in (hour_of(start) if row.parts else (start,))
            if since <= quarter < until
        }

    def _is_summed(self, segment: MappingSegment) -> bool:
        """Add the sums of the devices' rows, if all of them lie in the segment and are complete. Returns whether so."""
        meter, vehicle = self._rows[METER].get(segment.meter), self._rows[VEHICLE].get(segment.vehicle)
        if meter is None or vehicle is None or segment.start > self._since or segment.end < self._until:
            return False
        if meter.known < self._units or vehicle.known < self._units or meter.parts:
            return False
        self._found[segment.vehicle].add(Compared(ac=meter.kwh, dc=vehicle.kwh, all_ac=meter.kwh))
        return True

    async def _sum_rows(self, left: Mapping[int, set[int]]) -> None:
        """Sum up the complete units of segments; note the other units for `_look_closer`."""
        window = self._window
        segments = [self._segments[number] for number in left]
        units = [(number, unit) for number, starts in left.items() for unit in {window.unit(at) for at in starts}]
        parameters = {
            "numbers": list(left),
            "vehicles": [segment.vehicle for segment in segments],
            "meters": [segment.meter for segment in segments],
            "starts": [segment.start for segment in segments],
            "ends": [segment.end for segment in segments],
            "touched": [number for number, _ in units],
            "touched_starts": [unit.start for _, unit in units],
            **edges_of(window),
        }
        for number, unit in units:
            self._closer[number].update(unit)
        async for row in self._snapshot.each(_SQL[VEHICLE]["compared"], parameters):
            vehicle = self._segments[row.number].vehicle
            self._found[vehicle].add(Compared(ac=row.ac, dc=row.dc, all_ac=row.all_ac))
            closer = self._closer[row.number]
            closer.update(quarter for start in row.incomplete or () for quarter in window.unit(start))
            without_dc = [window.unit(start) for start in row.without_dc or ()]
            holes = [unit for unit in without_dc if unit.start - QUARTER in closer or unit.stop in closer]
            closer.update(*holes)

    def _additions_of(self, segment: MappingSegment) -> tuple[Mapping[int, Quarter], Mapping[int, Quarter]]:
        """The additions of the segment's meter and of its vehicle."""
        return self._additions[METER].get(segment.meter, {}), self._additions[VEHICLE].get(segment.vehicle, {})

    async def _look_closer(self) -> None:
        """Compare the noted quarters by the rule for a single vehicle."""
        segments = self._segments
        meters = await self._quarters(METER, ((segments[number].meter, its) for number, its in self._closer.items()))
        vehicles = await self._quarters(
            VEHICLE, ((segments[number].vehicle, its) for number, its in self._closer.items())
        )
        for number, segment in enumerate(segments):
            meter_additions, vehicle_additions = self._additions_of(segment)
            starts = self._closer.get(number, _NONE)
            if starts or not self._is_all_whole(segment, meter_additions, vehicle_additions):
                meter = _within(segment, starts, meters.get(segment.meter, {}), meter_additions)
                vehicle = _within(segment, starts, vehicles.get(segment.vehicle, {}), vehicle_additions)
                self._compare(segment, meter, vehicle, _within(segment, (), {}, meter_additions) if starts else meter)
            if number % YIELD_EVERY == 0:
                await asyncio.sleep(0)

    def _is_all_whole(
        self, segment: MappingSegment, meter: Mapping[int, Quarter], vehicle: Mapping[int, Quarter]
    ) -> bool:
        """Add the additions of a segment, if all of them are complete. Returns whether they are."""
        ac = dc = 0.0
        for start, row in meter.items():
            within = min(start + QUARTER, segment.end) - max(start, segment.start)
            other = vehicle.get(start)
            if other is None or within <= 0 or not is_whole(row, other, within):
                return False
            ac += row.kwh
            dc += other.kwh
        self._found[segment.vehicle].add(Compared(ac=ac, dc=dc, all_ac=ac))
        return True

    def _compare(
        self,
        segment: MappingSegment,
        meter: Mapping[int, Quarter],
        vehicle: Mapping[int, Quarter],
        additions: Mapping[int, Quarter],
    ) -> None:
        segments = [SegmentEnergy(start=segment.start, end=segment.end, meter=meter, vehicle=vehicle)]
        part = compare(segments, all_dc=0.0, policy=self._policy)
        if part is not None:
            all_ac = sum(row.kwh for row in additions.values())
            self._found[segment.vehicle].add(Compared(ac=part.ac, dc=part.dc, all_ac=all_ac))

    async def _quarters(self, stream: Stream, wanted: Iterable[tuple[str, Iterable[int]]]) -> QuartersByDevice:
        pairs = {(device, start) for device, starts in wanted for start in starts}
        found: QuartersByDevice = {}
        if pairs:
            parameters = {"ids": [device for device, _ in pairs], "starts": [start for _, start in pairs]}
            async for row in self._snapshot.each(_SQL[stream]["quarters_of_many"], parameters):
                found.setdefault(row.id, {})[row.start] = quarter_of_row(row)
        return found


def _within(
    segment: MappingSegment, starts: Iterable[int], rows: Mapping[int, Quarter], additions: Mapping[int, Quarter]
) -> dict[int, Quarter]:
    """The rows with these starts, plus the additions that lie in the segment."""
    found = {start: rows[start] for start in starts if start in rows}
    for start, more in additions.items():
        if segment.start < start + QUARTER and start < segment.end:
            found[start] = total([found[start], more]) if start in found else more
    return found


def edges_of(window: Window) -> dict[str, datetime]:
    """The window's edges as parameters: quarters in [since, until), hours in [hours_from, hours_until)."""
    edges = ("since", "hours_from", "hours_until", "until")
    return {name: to_timestamp(getattr(window, name)) for name in edges}
