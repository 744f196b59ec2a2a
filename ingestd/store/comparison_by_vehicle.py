"""Compares vehicles of a fleet one by one, where sums are not enough.

These are vehicles that share a meter, or whose mapping begins or ends within an hour. They are compared by the model of
a single vehicle, in steps of a bounded number of rows.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ingestd.model import performance as model
from ingestd.model.device_energy import CountedRange, DeviceEnergy, total
from ingestd.model.efficiency import Compared, EfficiencyPolicy
from ingestd.model.energy import HOUR, QUARTER
from ingestd.model.fleet import Window
from ingestd.model.mapping import MappingSegment
from ingestd.model.stream import CHARGING, METER, VEHICLE, Stream
from ingestd.store import queries
from ingestd.store.device_energy import ENDING
from ingestd.store.ledger import quarter_of_row, to_timestamp
from ingestd.store.ledger_snapshot import LedgerSnapshot
from ingestd.store.many_devices import ManyDevices
from ingestd.store.open_energy import QuartersByDevice

if TYPE_CHECKING:
    from ingestd.model.quarters import Quarter

MOST_ROWS: Final = 50_000
"""Quarters in one step, about."""

_SQL: Final = queries.of_streams(queries.load("fleet.sql"))


@dataclass(slots=True)
class _Wanted:
    """The range of time that is needed of one device, and the edges in it."""

    since: int = ENDING
    until: int = -ENDING
    edges: set[int] = field(default_factory=set)

    def add(self, start: int, end: int) -> None:
        self.since, self.until = min(self.since, start), max(self.until, end)
        self.edges |= {start, end}


class ComparisonByVehicle:
    """Compares vehicles in one snapshot and window. Errors are psycopg's."""

    def __init__(
        self,
        snapshot: LedgerSnapshot,
        window: Window,
        *,
        segments: Iterable[MappingSegment],
        additions: Mapping[Stream, QuartersByDevice],
        policy: EfficiencyPolicy,
    ) -> None:
        """`segments`: of all vehicles, in the hours around the window. `additions` have to be added to rows."""
        self._snapshot = snapshot
        self._window = window
        self._additions = additions
        self._policy = policy
        self._of_vehicle: defaultdict[str, list[MappingSegment]] = defaultdict(list)
        self._of_meter: defaultdict[str, list[MappingSegment]] = defaultdict(list)
        for segment in segments:
            self._of_vehicle[segment.vehicle].append(segment)
            self._of_meter[segment.meter].append(segment)
        self._many = {stream: ManyDevices(snapshot, stream) for stream in CHARGING}

    async def compared(self, vehicles: Iterable[str]) -> dict[str, Compared]:
        """The compared energy of these vehicles; `all_dc` is left 0."""
        for many in self._many.values():
            await many.look_up_rules()
        found: dict[str, Compared] = {}
        for some in self._steps(vehicles):
            energies = {stream: await self._energies(stream, self._wanted(stream, some)) for stream in CHARGING}
            found |= await asyncio.to_thread(self._compare, some, energies)
        return found

    def _steps(self, vehicles: Iterable[str]) -> Iterator[list[str]]:
        some: list[str] = []
        rows = 0
        for vehicle in vehicles:
            some.append(vehicle)
            segments = self._own(vehicle)
            segments = [*segments, *(other for own in segments for other in self._others(own))]
            rows += sum(2 * -(-(segment.end - segment.start) // QUARTER) for segment in segments)
            if rows > MOST_ROWS:
                yield some
                some, rows = [], 0
        if some:
            yield some

    def _own(self, vehicle: str) -> list[MappingSegment]:
        """The vehicle's segments that overlap the window."""
        start, end = self._window.start, self._window.asked_end
        return [segment for segment in self._of_vehicle[vehicle] if segment.overlaps(start, end)]

    def _others(self, own: MappingSegment) -> list[MappingSegment]:
        """The segments of other vehicles with the same meter, cut to this segment."""
        return [
            MappingSegment(
                vehicle=other.vehicle,
                meter=other.meter,
                start=max(own.start, other.start),
                end=min(own.end, other.end),
            )
            for other in self._of_meter[own.meter]
            if other.vehicle != own.vehicle and other.overlaps(own.start, own.end)
        ]

    def _wanted(self, stream: Stream, vehicles: Iterable[str]) -> dict[str, _Wanted]:
        """By device: the range of time and the edges that are needed to compare these vehicles."""
        window = self._window
        wanted: defaultdict[str, _Wanted] = defaultdict(_Wanted)
        for vehicle in vehicles:
            for own in self._own(vehicle):
                others = self._others(own)
                devices = [own.meter] if stream is METER else [vehicle, *(other.vehicle for other in others)]
                for device in devices:
                    for segment in (own, *others):
                        wanted[device].add(segment.start, segment.end)
                    wanted[device].edges |= {window.start, window.asked_end}
        return wanted

    async def _energies(self, stream: Stream, wanted: Mapping[str, _Wanted]) -> dict[str, DeviceEnergy]:
        counted_ranges = await self._counted_ranges(stream, wanted)
        parameters = {
            "ids": list(wanted),
            "since": [its.since // QUARTER * QUARTER for its in wanted.values()],
            "until": [min(its.until, self._window.made_until) for its in wanted.values()],
            "oldest": to_timestamp(min(its.since for its in wanted.values()) // QUARTER * QUARTER),
            "newest": to_timestamp(self._window.made_until),
        }
        rows: dict[str, dict[int, Quarter]] = {device: {} for device in wanted}
        async for row in self._snapshot.each(_SQL[stream]["quarters_between"], parameters):
            rows[row.id][row.start] = quarter_of_row(row)
        for device, its in rows.items():
            for start, more in self._additions[stream].get(device, {}).items():
                its[start] = total([its[start], more]) if start in its else more
            for counted_range in counted_ranges.get(device, ()):
                its.pop(counted_range.start, None)
        end = self._window.asked_end if self._is_open(self._window.asked_end) else ENDING
        return {
            device: DeviceEnergy(
                start=its.since, end=end, rows=rows[device], counted_ranges=counted_ranges.get(device, ())
            )
            for device, its in wanted.items()
        }

    async def _counted_ranges(self, stream: Stream, wanted: Mapping[str, _Wanted]) -> dict[str, list[CountedRange]]:
        """The quarters that an edge cuts, by device."""
        cut: defaultdict[int, list[str]] = defaultdict(list)
        for device, its in wanted.items():
            inside = (edge for edge in its.edges if edge % QUARTER and not self._is_last(edge))
            for quarter in {edge // QUARTER * QUARTER for edge in inside}:
                cut[quarter].append(device)
        found: defaultdict[str, list[CountedRange]] = defaultdict(list)
        for quarter, devices in cut.items():
            counted = await self._many[stream].counted(devices, quarter, quarter + QUARTER)
            for device in devices:
                found[device].append(
                    CountedRange(start=quarter, end=quarter + QUARTER, counted=counted.get(device, ()))
                )
        return found

    def _is_open(self, edge: int) -> bool:
        """Whether there are no rows at this time. Then the additions hold all energy up to the end of the window."""
        return edge >= self._window.made_until

    def _is_last(self, edge: int) -> bool:
        return edge == self._window.asked_end and self._is_open(edge)

    def _compare(
        self,
        vehicles: Sequence[str],
        energies: Mapping[Stream, Mapping[str, DeviceEnergy]],
    ) -> dict[str, Compared]:
        found: dict[str, Compared] = {}
        for vehicle in vehicles:
            feeds = [
                model.Feed(
                    meter=own.meter,
                    start=own.start,
                    end=own.end,
                    energy=energies[METER][own.meter],
                    others=[
                        model.OtherVehicle(
                            vehicle=other.vehicle,
                            start=other.start,
                            end=other.end,
                            energy=energies[VEHICLE][other.vehicle],
                        )
                        for other in self._others(own)
                    ],
                )
                for own in self._own(vehicle)
            ]
            compared = model.compared_of(
                self._window.start,
                self._window.asked_end,
                vehicle=energies[VEHICLE][vehicle],
                feeds=feeds,
                policy=self._policy,
            )
            if compared is not None:
                found[vehicle] = compared
        return found


def around(window: Window) -> tuple[int, int]:
    """The whole hours around a window: a spread meter is divided by the DC of whole hours."""
    return window.start // HOUR * HOUR, -(-window.asked_end // HOUR) * HOUR
