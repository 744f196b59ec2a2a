"""Compares the vehicles of a fleet with their meters: by sums where both know all, else by the rule of a single one."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ingestd.model.device_energy import total
from ingestd.model.efficiency import Compared, EfficiencyPolicy, Segment, compare
from ingestd.model.energy import HOUR, QUARTER
from ingestd.model.fleet import Fed, Window
from ingestd.model.quarters import Quarter
from ingestd.store import queries
from ingestd.store.ledger import moment, quarter_of_row
from ingestd.store.moments import Moment
from ingestd.store.open_stretch import OfDevices
from ingestd.telemetry import METER, STREAMS, VEHICLE, Stream

_SOURCES: Final = queries.load("fleet.sql")
_SQL: Final = {
    stream: {name: queries.ready(queries.for_stream(source, stream)) for name, source in _SOURCES.items()}
    for stream in STREAMS
}
_NOTHING: Final = Quarter()


class Comparison:
    """What of mapped segments can be compared: sums of units that both know whole, and others one by one."""

    def __init__(
        self,
        at: Moment,
        window: Window,
        segments: Sequence[Fed],
        beside: Mapping[Stream, OfDevices],
        policy: EfficiencyPolicy,
    ) -> None:
        self._at = at
        self._window = window
        self._segments = segments
        self._beside = beside
        self._policy = policy
        self._closer: defaultdict[int, set[int]] = defaultdict(set)
        """By number of the segment: quarters that are looked at closer."""

    async def result(self) -> dict[str, Compared]:
        """By vehicle; its DC in all is not told."""
        found = {segment.vehicle: Compared() for segment in self._segments}
        window = self._window
        touched = self._touched()
        for name, first, last in (
            ("compared_quarters", window.since, window.hours_from),
            ("compared_hours", window.hours_from, window.hours_until),
            ("compared_quarters", window.hours_until, window.until),
        ):
            if first < last and self._segments:
                unit = HOUR if name == "compared_hours" else QUARTER
                for row in await self._sums(name, first, last, unit, touched):
                    found[self._segments[row.number].vehicle].add(Compared(ac=row.ac, dc=row.dc, all_ac=row.all_ac))
                    for start in row.starts or ():
                        self._closer[row.number].update(range(start, start + unit, QUARTER))
        await self._look_closer(found)
        return found

    async def _sums(self, name: str, first: int, last: int, unit: int, touched: Iterable[tuple[int, int]]) -> list[Any]:
        units = {(number, start // unit * unit) for number, start in touched if first <= start < last}
        for number, start in units:
            self._closer[number].update(range(start, start + unit, QUARTER))
        parameters = {
            "numbers": list(range(len(self._segments))),
            "vehicles": [segment.vehicle for segment in self._segments],
            "meters": [segment.meter for segment in self._segments],
            "since": [segment.start for segment in self._segments],
            "until": [segment.end for segment in self._segments],
            "first": moment(first),
            "last": moment(last),
            "touched": [number for number, _ in units],
            "touched_starts": [start for _, start in units],
        }
        return await self._at.fetch(_SQL[VEHICLE][name], parameters)

    def _touched(self) -> set[tuple[int, int]]:
        """Segments and quarters with a row, of which more is known than is in the row."""
        return {
            (number, start)
            for number, segment in enumerate(self._segments)
            for rows in self._beside_of(segment)
            for start in rows
            if self._window.since <= start < self._window.until
        }

    def _beside_of(self, segment: Fed) -> tuple[Mapping[int, Quarter], Mapping[int, Quarter]]:
        """Of its meter and of its vehicle."""
        return self._beside[METER].get(segment.meter, {}), self._beside[VEHICLE].get(segment.vehicle, {})

    async def _look_closer(self, found: Mapping[str, Compared]) -> None:
        """By the rule that a single vehicle is compared by."""
        rows = {
            METER: await self._rows(METER, ((one.meter, self._closer[n]) for n, one in enumerate(self._segments))),
            VEHICLE: await self._rows(
                VEHICLE, ((one.vehicle, self._closer[n]) for n, one in enumerate(self._segments))
            ),
        }
        for number, segment in enumerate(self._segments):
            beside_meter, beside_vehicle = self._beside_of(segment)
            if not self._closer[number] and not beside_meter:
                continue
            starts = self._closer[number]
            meter = _within(segment, starts, rows[METER].get(segment.meter, {}), beside_meter)
            vehicle = _within(segment, starts, rows[VEHICLE].get(segment.vehicle, {}), beside_vehicle)
            part = compare(
                [Segment(start=segment.start, end=segment.end, meter=meter, vehicle=vehicle)],
                all_dc=0.0,
                policy=self._policy,
            )
            if part is not None:
                all_ac = sum(row.kwh for row in _within(segment, (), {}, beside_meter).values())
                found[segment.vehicle].add(Compared(ac=part.ac, dc=part.dc, all_ac=all_ac))

    async def _rows(self, stream: Stream, wanted: Iterable[tuple[str, Iterable[int]]]) -> OfDevices:
        pairs = {(device, start) for device, starts in wanted for start in starts}
        found: OfDevices = {}
        if pairs:
            parameters = {"ids": [device for device, _ in pairs], "starts": [start for _, start in pairs]}
            async for row in self._at.each(_SQL[stream]["quarters_of_many"], parameters):
                found.setdefault(row.id, {})[row.start] = quarter_of_row(row)
        return found


def _within(
    segment: Fed, starts: Iterable[int], rows: Mapping[int, Quarter], beside: Mapping[int, Quarter]
) -> dict[int, Quarter]:
    """Some of the rows, and what is beside them, as far as it lies in the segment."""
    found = {start: rows[start] for start in starts if start in rows}
    for start, more in beside.items():
        if segment.start < start + QUARTER and start < segment.end:
            found[start] = total([found.get(start, _NOTHING), more])
    return found
