"""Reads the energy of one device: rows of the ledger where they are final, else readings. So it is always exact."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, TypeVar

from ingestd.model.device_energy import DeviceEnergy, Fold
from ingestd.model.energy import QUARTER, Counted, count
from ingestd.model.flow import Flow
from ingestd.model.ledger import Base, Readings, flow_of
from ingestd.model.quarters import Quarter
from ingestd.model.register import Rule
from ingestd.model.stream import Stream
from ingestd.store import queries
from ingestd.store.ledger import BEGINNING, base_of, moment, quarter_of_row, readings_of
from ingestd.store.pool import Snapshot

ENDING: Final = 1 << 57
"""Later than any reading, in microseconds."""
MOST_EDGES: Final = 8
"""Where more edges than these lie inside of quarters, all that is between them is read from history."""
FEW: Final = 2_000
"""So many readings take a few milliseconds; a thread, to which more are left, would keep the interpreter as long."""

_Result = TypeVar("_Result")

_SQL: Final = queries.of_streams(queries.load("device.sql"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stretch:
    """Where readings begin and end that tell all of it, and by which rule."""

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
        """`made_until`: up to where the rows of all devices of the stream are made.

        `kept_since`: from when on all readings are there.
        """
        self._snapshot = snapshot
        self._sql = _SQL[stream]
        self._device = device
        self._rule = rule
        self._made_until = made_until
        self._kept_since = kept_since
        self._now = now

    async def flow(self, start: int, end: int) -> tuple[Readings, Flow]:
        """All readings that have a part in (start, end], and a few around them."""
        (stretch,) = await self._stretches([(start // QUARTER * QUARTER, -(-end // QUARTER) * QUARTER)])
        readings = await self._readings(stretch)
        work = partial(flow_of, readings, stretch.base.state, rule=stretch.rule, now=self._now)
        return readings, await _done(work, readings)

    async def energy(self, start: int, end: int, *, edges: Collection[int] = ()) -> DeviceEnergy:
        """Of (start, end], to be divided at quarters and at these edges."""
        first, last = start // QUARTER * QUARTER, -(-end // QUARTER) * QUARTER
        inside = sorted({edge // QUARTER * QUARTER for edge in (start, end, *edges) if edge % QUARTER})
        wanted = [(quarter, quarter + QUARTER) for quarter in inside if first <= quarter < last]
        if len(wanted) > MOST_EDGES:
            wanted = [(wanted[0][0], wanted[-1][1])]
        behind, *around = await self._stretches([(ENDING, ENDING), *wanted])
        final = max(first, min(last, max(behind.base.at, self._told_by_rows_alone())))  # what lies behind may change
        rows = await self._rows(first, final) if first < final else {}
        folds = [
            Fold(start=since, end=min(until, final), counted=await self._counted(stretch))
            for (since, until), stretch in zip(wanted, around, strict=True)
            if since < final
        ]
        if final < end:
            folds.append(Fold(start=final, end=last, counted=await self._counted(behind)))
        for fold in folds:
            for quarter in range(fold.start, fold.end, QUARTER):
                rows.pop(quarter, None)
        return DeviceEnergy(start=start, end=end, rows=rows, folds=folds)

    def _told_by_rows_alone(self) -> int:
        """Up to where no readings are left that could tell more than the rows."""
        return min(self._kept_since // QUARTER * QUARTER, self._made_until)

    async def _stretches(self, stretches: Sequence[tuple[int, int]]) -> list["_Stretch"]:
        """Where the readings are that have a part in each of these."""
        starts, ends = map(list, zip(*stretches, strict=True))
        since = {name: moment(at) for name, at in (("made_until", self._made_until), ("kept_since", self._kept_since))}
        rows = await self._fetch("stretches", starts=starts, ends=ends, now=moment(self._now), **since)
        return [
            _Stretch(
                base=Base(at=BEGINNING, state=None) if row.start is None else base_of(row),
                until=ENDING if row.until is None else row.until,
                rule=self._rule if row.max_kw is None else replace(self._rule, max_kw=row.max_kw),
            )
            for row in rows
        ]

    async def _readings(self, stretch: "_Stretch") -> Readings:
        since = stretch.base.state.previous_at if stretch.base.state else BEGINNING
        rows = await self._fetch("readings_within", since=moment(since), until=moment(stretch.until))
        return readings_of(rows[0]) if rows else Readings(at=(), kwh=(), register=(), averaged=())

    async def _counted(self, stretch: "_Stretch") -> list[Counted]:
        readings = await self._readings(stretch)
        work = partial(count, readings.one_by_one(), stretch.base.state, rule=stretch.rule, now=self._now)
        return await _done(work, readings)

    async def _rows(self, since: int, until: int) -> dict[int, Quarter]:
        parameters = {"id": self._device, "since": moment(since), "until": moment(until)}
        rows = self._snapshot.each(self._sql["quarters"], parameters)
        return {row.start: quarter_of_row(row) async for row in rows}

    async def neighbours(self, stretches: Collection[tuple[int, int]]) -> list[tuple[int | None, int | None]]:
        """Of each stretch without a reading the last one before it, and the first one behind."""
        if not stretches:
            return []
        since, until = map(list, zip(*stretches, strict=True))
        return [(row.before, row.after) for row in await self._fetch("neighbours", since=since, until=until)]

    async def _fetch(self, name: str, **parameters: object) -> list[Any]:
        return await self._snapshot.fetch(self._sql[name], {"id": self._device, **parameters})


async def _done(work: Callable[[], _Result], readings: Readings) -> _Result:
    """What is to be done with so many."""
    return work() if len(readings) <= FEW else await asyncio.to_thread(work)
