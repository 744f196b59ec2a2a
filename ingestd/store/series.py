"""Energy of one device over time: by buckets, by days to years, by charging sessions. Calculated at each request."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from ingestd.model.answers import Answer, ChargingSession, Point, Total
from ingestd.model.device_energy import DeviceEnergy
from ingestd.model.energy import QUARTER
from ingestd.model.periods import Bucket, Period, TimeRange
from ingestd.model.quarters import Quarter
from ingestd.model.sessions import SessionRule
from ingestd.model.stream import VEHICLE, Stream
from ingestd.model.timestamps import to_datetime, to_microseconds
from ingestd.store import queries
from ingestd.store.device_energy import ENDING
from ingestd.store.known import is_known
from ingestd.store.ledger import BEGINNING
from ingestd.store.ledger_snapshot import LedgerSnapshot, LedgerSnapshots
from ingestd.store.sessions import Sessions

MAX_ON_EVENT_LOOP: Final = 2_000
"""Rows and readings. This many are summed up in a few milliseconds; more are in a thread."""
_LAST_SOCS: Final = queries.ready(queries.load("series.sql")["last_socs"])
_HOUR: Final = timedelta(hours=1)
_FIRST: Final = -(-BEGINNING // QUARTER) * QUARTER
_LAST: Final = ENDING // QUARTER * QUARTER
"""Edges of windows are limited to these. No reading lies outside."""


class Series:
    """Answers for charts. Every method raises StoreError if the database does not answer.

    The answer is None if the device is unknown. Figures whose readings are deleted are None in the answer.
    """

    def __init__(self, snapshots: LedgerSnapshots, *, session: SessionRule) -> None:
        self._snapshots = snapshots
        self._session = session

    async def of_device(
        self, stream: Stream, device_id: str, window: TimeRange, buckets: Sequence[Bucket]
    ) -> Answer[Point] | None:
        """The figures of each bucket. The buckets make up the window."""
        edges = _edges(window, [bucket.within.end for bucket in buckets])
        async with self._snapshots.now() as snapshot:
            found = await self._between(snapshot, stream, device_id, edges)
            if found is None:
                return None
            socs = await _last_socs(snapshot, device_id, edges, found) if stream is VEHICLE else {}
            points = [
                _point(bucket, quarter, socs.get(number))
                for number, (bucket, quarter) in enumerate(zip(buckets, found, strict=True))
            ]
            is_whole = None not in found and None not in socs.values()
            return Answer(as_of=snapshot.as_of, items=points, reason=None if is_whole else snapshot.why_gone(edges[0]))

    async def totals(
        self, stream: Stream, device_id: str, window: TimeRange, periods: Sequence[Period]
    ) -> Answer[Total] | None:
        """The figures of each period. The periods make up the window."""
        edges = _edges(window, [period.within.end for period in periods])
        async with self._snapshots.now() as snapshot:
            found = await self._between(snapshot, stream, device_id, edges)
            if found is None:
                return None
            totals = [_total(period, quarter) for period, quarter in zip(periods, found, strict=True)]
            return Answer(
                as_of=snapshot.as_of, items=totals, reason=snapshot.why_gone(edges[0]) if None in found else None
            )

    async def sessions(self, vehicle_id: str, window: TimeRange) -> Answer[ChargingSession] | None:
        """The sessions that overlap the window, cut to it, in order of time."""
        start, end = _edges(window, [window.end])
        async with self._snapshots.now() as snapshot:
            sessions = Sessions(snapshot, vehicle_id, rule=self._session, max_gap=snapshot.rule(VEHICLE).max_gap)
            found = await sessions.within(max(start, snapshot.kept_since), end)
            if not found and not await is_known(snapshot, VEHICLE, vehicle_id):
                return None
            return Answer(
                as_of=snapshot.as_of,
                items=found,
                reason=snapshot.why_gone(start) if start < snapshot.kept_since else None,
            )

    async def _between(
        self, snapshot: LedgerSnapshot, stream: Stream, device: str, edges: Sequence[int]
    ) -> list[Quarter | None] | None:
        """The figures of the device between each two edges; None if their readings are deleted.

        None instead of a list: the device is unknown.
        """
        gone = snapshot.gone(stream, edges)
        known = [number for number in range(len(edges) - 1) if not gone.intersection(edges[number : number + 2])]
        found: list[Quarter | None] = [None] * (len(edges) - 1)
        if known:
            first, last = known[0], known[-1] + 1
            wanted = edges[first : last + 1]
            energy = await snapshot.device(stream, device).energy(
                edges[first], edges[last], edges=[edge for edge in wanted if edge not in gone]
            )
            sums = await _sums(energy, wanted)
            for number in known:
                found[number] = sums[number - first]
        if all(quarter is None or quarter.is_empty for quarter in found) and not await is_known(
            snapshot, stream, device
        ):
            return None
        return found


def _edges(window: TimeRange, ends: Iterable[datetime]) -> list[int]:
    """The start of the window, and the end of each of its buckets or periods."""
    return [min(max(to_microseconds(at), _FIRST), _LAST) for at in (window.start, *ends)]


async def _sums(energy: DeviceEnergy, edges: Sequence[int]) -> list[Quarter]:
    """The sums between each two edges; if there is much to sum up, from a thread."""
    size = len(energy.rows) + sum(len(counted_range.counted) for counted_range in energy.counted_ranges)
    return energy.between(edges) if size <= MAX_ON_EVENT_LOOP else await asyncio.to_thread(energy.between, edges)


async def _last_socs(
    snapshot: LedgerSnapshot, vehicle_id: str, edges: Sequence[int], found: Sequence[Quarter | None]
) -> dict[int, float | None]:
    """The last state of charge by number of the bucket, if it has a reading; None if the reading is deleted."""
    numbers = [number for number, quarter in enumerate(found) if quarter is not None and quarter.samples]
    if not numbers:
        return {}
    since, until = [edges[number] for number in numbers], [edges[number + 1] for number in numbers]
    within = {"start": to_datetime(since[0]), "end": to_datetime(until[-1])}
    rows = await snapshot.fetch(_LAST_SOCS, {"id": vehicle_id, "since": since, "until": until, **within})
    return {number: row.soc for number, row in zip(numbers, rows, strict=True)}


def _point(bucket: Bucket, quarter: Quarter | None, soc: float | None) -> Point:
    if quarter is None:
        return Point(start=bucket.start, kwh=None, kw=None, spread=None, soc=None, averaged=None, samples=None)
    hours = (bucket.within.end - bucket.within.start) / _HOUR
    return Point(
        start=bucket.start,
        kwh=None if quarter.is_empty else quarter.kwh,
        kw=None if quarter.is_empty else quarter.kwh / hours,
        spread=quarter.is_spread,
        soc=soc,
        averaged=quarter.averaged / quarter.samples if quarter.samples else None,
        samples=quarter.samples,
    )


def _total(period: Period, quarter: Quarter | None) -> Total:
    return Total(
        label=period.label,
        within=period.within,
        kwh=None if quarter is None or quarter.is_empty else quarter.kwh,
        samples=None if quarter is None else quarter.samples,
    )
