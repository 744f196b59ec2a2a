"""Reads what one device did, exact at every moment: rows of the ledger where they are final, readings elsewhere."""

import asyncio
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from typing import Any, Final

from ingestd.model.device_energy import DeviceEnergy, Fold
from ingestd.model.energy import QUARTER, Counted, count
from ingestd.model.ledger import LOOK_AHEAD, Base
from ingestd.model.quarters import Quarter
from ingestd.model.register import Rule
from ingestd.store import queries
from ingestd.store.database import Snapshot
from ingestd.store.ledger import BEGINNING, base_of, moment, quarter_of_row, readings_of
from ingestd.telemetry import Stream

ENDING: Final = 1 << 57
"""Later than any reading, in microseconds."""
MOST_EDGES: Final = 8
"""Where more edges than these lie inside of quarters, all that is between them is read from history."""
FEW: Final = 500
"""So many readings take a millisecond or two; more are left to a thread."""

_SOURCES: Final = queries.load("device.sql") | {"base": queries.load("closing.sql")["base"]}
_SQL: Final = queries.of_streams(_SOURCES)


class DeviceReader:
    """One device as one snapshot sees it. Errors are psycopg's."""

    def __init__(
        self,
        snapshot: Snapshot,
        stream: Stream,
        device: str,
        *,
        rule: Rule,
        made_until: int | None,
        kept_since: int,
        now: int,
    ) -> None:
        """`made_until`: up to where the rows of all devices of the stream are made; None: there are none.

        `kept_since`: from when on all readings are there.
        """
        self._snapshot = snapshot
        self._sql = _SQL[stream]
        self._device = device
        self._rule = rule
        self._made_until = made_until
        self._kept_since = kept_since
        self._now = now

    async def energy(
        self, start: int, end: int, *, edges: Collection[int] = (), each_reading: bool = False
    ) -> DeviceEnergy:
        """Of (start, end], to be divided at quarters and at these edges, or anywhere where `each_reading` is wanted."""
        trusted_until = await self._look_up_exceptions()
        first, last = start // QUARTER * QUARTER, -(-end // QUARTER) * QUARTER
        if each_reading:
            folds = [await self._fold(first, last, trusted_until)] if first < last else []
            return DeviceEnergy(start=start, end=end, rows={}, folds=folds)
        base = await self._base(trusted_until)
        final = max(first, min(last, max(base.at, self._told_by_rows_alone())))  # what lies behind it may change
        inside = sorted({edge // QUARTER * QUARTER for edge in (start, end, *edges) if edge % QUARTER})
        inside = [quarter for quarter in inside if first <= quarter < final]
        stretches = [(quarter, quarter + QUARTER) for quarter in inside]
        if len(stretches) > MOST_EDGES:
            stretches = [(inside[0], inside[-1] + QUARTER)]
        rows = await self._rows(first, final) if first < final else {}
        folds = [await self._fold(*stretch, trusted_until) for stretch in stretches]
        if final < end:
            folds.append(Fold(start=final, end=last, counted=await self._counted(base, ENDING)))
        for fold in folds:
            for quarter in range(fold.start, fold.end, QUARTER):
                rows.pop(quarter, None)
        return DeviceEnergy(start=start, end=end, rows=rows, folds=folds)

    async def _look_up_exceptions(self) -> int:
        """The device's own most power is its rule's from now on; returns up to where rows say what is so."""
        (own,) = await self._fetch("exceptions", now=moment(self._now))
        if own.max_kw is not None:
            self._rule = replace(self._rule, max_kw=own.max_kw)
        if self._made_until is None or (own.is_stale and own.stale_from is None):
            return BEGINNING
        return min(self._made_until, own.stale_from - QUARTER) if own.is_stale else self._made_until

    def _told_by_rows_alone(self) -> int:
        """Up to where no readings are left that could tell more than the rows."""
        made_until = BEGINNING if self._made_until is None else self._made_until
        return min(self._kept_since // QUARTER * QUARTER, made_until)

    async def _base(self, until: int) -> Base:
        """Behind which readings have to be looked at, to know more than the rows that start before `until` do."""
        rows = await self._fetch("base", until=moment(until))
        return base_of(rows[0]) if rows else Base(at=BEGINNING, state=None)

    async def _fold(self, start: int, end: int, trusted_until: int) -> Fold:
        """What readings of a stretch count for; of a final one, those with a part in it are all before a known row."""
        base = await self._base(min(start, trusted_until))
        rows = await self._fetch("final_row", quarter=moment(end - QUARTER), until=moment(trusted_until))
        until = rows[0].start + QUARTER + LOOK_AHEAD if rows else ENDING
        return Fold(start=start, end=end, counted=await self._counted(base, until))

    async def _counted(self, base: Base, until: int) -> list[Counted]:
        since = base.state.previous_at if base.state else BEGINNING
        rows = await self._fetch("readings_within", since=moment(since), until=moment(until))
        if not rows:
            return []
        readings = readings_of(rows[0])
        work = partial(count, readings.one_by_one(), base.state, rule=self._rule, now=self._now)
        return work() if len(readings) <= FEW else await asyncio.to_thread(work)

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
