"""Reads the energy of one device: rows of the ledger where they are final, else readings. So it is always exact."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, TypeVar

from ingestd.model.device_energy import CountedRange, DeviceEnergy
from ingestd.model.energy import QUARTER, CountedReading, count
from ingestd.model.flow import Flow
from ingestd.model.ledger import Base, Readings, flow_of
from ingestd.model.quarters import Quarter
from ingestd.model.register import Rule
from ingestd.model.stream import Stream
from ingestd.store import queries
from ingestd.store.ledger import BEGINNING, base_of, quarter_of_row, readings_of, to_timestamp
from ingestd.store.pool import Snapshot

ENDING: Final = 1 << 57
"""Later than any reading, in microseconds."""
MOST_EDGES: Final = 8
"""If more edges than this lie inside quarters, all time between the first and the last is read from history."""
MAX_ON_EVENT_LOOP: Final = 2_000
"""Readings. This many take a few milliseconds, too short to gain from a thread; more are counted in one."""

_Result = TypeVar("_Result")

_SQL: Final = queries.of_streams(queries.load("device.sql"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _ReadingRange:
    """The readings after `base` up to `until` decide all energy of a range of time; they count by `rule`."""

    base: Base
    until: int
    rule: Rule


class DeviceReader:
    """One device as one snapshot sees it. Errors are psycopg's."""

    def __init__(
        self,
        snapshot: Snapshot,
        stream: Stream,
        device: str,
        *,
        rule: Rule,
        made_until: int,
        kept_since: int,
        now: int,
    ) -> None:
        """`made_until`: the rows of all devices of the stream are made up to here.

        `kept_since`: no reading after this was deleted by retention.
        """
        self._snapshot = snapshot
        self._sql = _SQL[stream]
        self._device = device
        self._rule = rule
        self._made_until = made_until
        self._kept_since = kept_since
        self._now = now

    async def flow(self, start: int, end: int) -> tuple[Readings, Flow]:
        """All readings with energy in (start, end], and a few around them."""
        (reading_range,) = await self._reading_ranges([(start // QUARTER * QUARTER, -(-end // QUARTER) * QUARTER)])
        readings = await self._readings(reading_range)
        work = partial(flow_of, readings, reading_range.base.state, rule=reading_range.rule, now=self._now)
        return readings, await _run(work, readings)

    async def energy(self, start: int, end: int, *, edges: Collection[int] = ()) -> DeviceEnergy:
        """The energy of (start, end], which can be divided at quarters and at these edges."""
        first, last = start // QUARTER * QUARTER, -(-end // QUARTER) * QUARTER
        inside = sorted({edge // QUARTER * QUARTER for edge in (start, end, *edges) if edge % QUARTER})
        wanted = [(quarter, quarter + QUARTER) for quarter in inside if first <= quarter < last]
        if len(wanted) > MOST_EDGES:
            wanted = [(wanted[0][0], wanted[-1][1])]
        tail, *around = await self._reading_ranges([(ENDING, ENDING), *wanted])
        final = max(first, min(last, max(tail.base.at, self._without_readings_until())))  # rows after that may change
        rows = await self._rows(first, final) if first < final else {}
        counted_ranges = [
            CountedRange(start=since, end=min(until, final), counted=await self._counted(reading_range))
            for (since, until), reading_range in zip(wanted, around, strict=True)
            if since < final
        ]
        if final < end:
            counted_ranges.append(CountedRange(start=final, end=last, counted=await self._counted(tail)))
        for counted_range in counted_ranges:
            for quarter in range(counted_range.start, counted_range.end, QUARTER):
                rows.pop(quarter, None)
        return DeviceEnergy(start=start, end=end, rows=rows, counted_ranges=counted_ranges)

    def _without_readings_until(self) -> int:
        """Up to here retention has deleted the readings, so only rows are left."""
        return min(self._kept_since // QUARTER * QUARTER, self._made_until)

    async def _reading_ranges(self, ranges: Sequence[tuple[int, int]]) -> list["_ReadingRange"]:
        """For each range of time the readings that decide its energy."""
        starts, ends = map(list, zip(*ranges, strict=True))
        since = {
            name: to_timestamp(at) for name, at in (("made_until", self._made_until), ("kept_since", self._kept_since))
        }
        rows = await self._fetch("reading_ranges", starts=starts, ends=ends, now=to_timestamp(self._now), **since)
        return [
            _ReadingRange(
                base=Base(at=BEGINNING, state=None) if row.start is None else base_of(row),
                until=ENDING if row.until is None else row.until,
                rule=self._rule if row.max_kw is None else replace(self._rule, max_kw=row.max_kw),
            )
            for row in rows
        ]

    async def _readings(self, reading_range: "_ReadingRange") -> Readings:
        since = reading_range.base.state.previous_at if reading_range.base.state else BEGINNING
        rows = await self._fetch("readings_within", since=to_timestamp(since), until=to_timestamp(reading_range.until))
        return readings_of(rows[0]) if rows else Readings(at=(), kwh=(), register=(), averaged=())

    async def _counted(self, reading_range: "_ReadingRange") -> list[CountedReading]:
        readings = await self._readings(reading_range)
        work = partial(count, readings.one_by_one(), reading_range.base.state, rule=reading_range.rule, now=self._now)
        return await _run(work, readings)

    async def _rows(self, since: int, until: int) -> dict[int, Quarter]:
        parameters = {"id": self._device, "since": to_timestamp(since), "until": to_timestamp(until)}
        rows = self._snapshot.each(self._sql["quarters"], parameters)
        return {row.start: quarter_of_row(row) async for row in rows}

    async def readings_around(self, ranges: Collection[tuple[int, int]]) -> list[tuple[int | None, int | None]]:
        """The times of the last reading before and of the first reading after each range; None if there is none."""
        if not ranges:
            return []
        since, until = map(list, zip(*ranges, strict=True))
        return [(row.before, row.after) for row in await self._fetch("readings_around", since=since, until=until)]

    async def _fetch(self, name: str, **parameters: object) -> list[Any]:
        return await self._snapshot.fetch(self._sql[name], {"id": self._device, **parameters})


async def _run(work: Callable[[], _Result], readings: Readings) -> _Result:
    """Call `work`; if there are many readings, in a thread."""
    return work() if len(readings) <= MAX_ON_EVENT_LOOP else await asyncio.to_thread(work)
