"""The performance of a vehicle: its energy, and that of the meters that feed it."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

from ingestd.model import performance as model
from ingestd.model.answers import MappedMeter, Performance
from ingestd.model.device_energy import DeviceEnergy
from ingestd.model.efficiency import EfficiencyPolicy, Judgement
from ingestd.model.energy import HOUR
from ingestd.model.gaps import Gaps, gaps, silent_ranges
from ingestd.model.mapping import MappingSegment
from ingestd.model.periods import TimeRange
from ingestd.model.stream import METER, STREAMS, VEHICLE
from ingestd.model.timestamps import to_datetime, to_microseconds
from ingestd.store import queries
from ingestd.store.device_energy import ENDING, DeviceReader
from ingestd.store.known import is_known
from ingestd.store.ledger import BEGINNING
from ingestd.store.ledger_snapshot import LedgerSnapshot, LedgerSnapshots

LONGEST_ON_EVENT_LOOP: Final = 7 * 24 * HOUR
"""A longer window takes more than a few milliseconds and is calculated in a thread."""
_Result = TypeVar("_Result")

_SQL: Final = queries.of_streams(queries.load("performance.sql"), STREAMS)


class Performances:
    """Reads the performance of vehicles."""

    def __init__(self, snapshots: LedgerSnapshots, *, policy: EfficiencyPolicy) -> None:
        self._snapshots = snapshots
        self._policy = policy

    async def of_vehicle(self, vehicle_id: str, window: TimeRange) -> Performance | None:
        """The performance in a window; None if the vehicle is unknown. Raises StoreError."""
        start, end = (min(max(to_microseconds(at), BEGINNING), ENDING) for at in (window.start, window.end))
        async with self._snapshots.now() as snapshot:
            own, others, threshold = await _segments(snapshot, vehicle_id, start, end)
            if not own and not await is_known(snapshot, VEHICLE, vehicle_id):
                return None
            policy = self._policy if threshold is None else replace(self._policy, threshold=threshold)
            edges = {start, end, *(edge for segment in (*own, *others) for edge in (segment.start, segment.end))}
            as_of = snapshot.as_of
            if gone := snapshot.gone(VEHICLE, edges):
                without = _without_figures(vehicle_id, window, own, others, policy, snapshot.why_gone(min(gone)))
                return replace(without, as_of=as_of)
            reader = snapshot.device(VEHICLE, vehicle_id)
            vehicle = await reader.energy(*_whole_hours(start, end), edges=edges)
            feeds = [await _feed(snapshot, segment, others, edges) for segment in own]
            work = partial(model.performance, start, end, snapshot.now, vehicle=vehicle, feeds=feeds, policy=policy)
            found = await _run(work, start, end)
            silence = None
            if start >= snapshot.kept_since:
                silence = await _gaps(reader, vehicle, window, snapshot)
        return replace(_answer(vehicle_id, window, found, silence, policy), as_of=as_of)


async def _gaps(reader: DeviceReader, vehicle: DeviceEnergy, window: TimeRange, snapshot: LedgerSnapshot) -> Gaps:
    """The gaps of the window up to now."""
    max_gap = snapshot.rule(VEHICLE).max_gap
    start, end = to_microseconds(window.start), min(to_microseconds(window.end), snapshot.now)
    work = partial(silent_ranges, vehicle, start, end, longer_than=max_gap)
    silent = await _run(work, start, end)
    return gaps(await reader.readings_around(silent), start, end, longer_than=max_gap)


async def _run(work: Callable[[], _Result], start: int, end: int) -> _Result:
    """Call `work`; for a long window, in a thread."""
    return work() if end - start <= LONGEST_ON_EVENT_LOOP else await asyncio.to_thread(work)


async def _segments(
    snapshot: LedgerSnapshot, vehicle_id: str, start: int, end: int
) -> tuple[list[MappingSegment], list[MappingSegment], float | None]:
    """The vehicle's segments that overlap (start, end], those of others that share their meters, its own threshold.

    Segments are cut to the whole hours around the window. The threshold is None if it is not set.
    """
    since, until = _whole_hours(start, end)
    rows = await snapshot.fetch(
        _SQL[VEHICLE]["segments_of_vehicle"],
        {"vehicle_id": vehicle_id, "start": to_datetime(since), "end": to_datetime(until)},
    )
    segments = [
        MappingSegment(vehicle=row.vehicle_id, meter=row.meter_id, start=row.start, end=row.end)
        for row in rows
        if row.meter_id is not None
    ]
    own = [one for one in segments if one.vehicle == vehicle_id and one.overlaps(start, end)]
    others = [
        one
        for one in segments
        if one.vehicle != vehicle_id
        and any(one.meter == mine.meter and one.overlaps(mine.start, mine.end) for mine in own)
    ]
    return own, others, rows[0].threshold


def _whole_hours(start: int, end: int) -> tuple[int, int]:
    return start // HOUR * HOUR, -(-end // HOUR) * HOUR


async def _feed(
    snapshot: LedgerSnapshot, segment: MappingSegment, others: Iterable[MappingSegment], edges: set[int]
) -> model.Feed:
    """The energy of a segment's meter, and the other vehicles that it feeds in this time."""
    start, end = segment.start, segment.end
    return model.Feed(
        meter=segment.meter,
        start=start,
        end=end,
        energy=await snapshot.device(METER, segment.meter).energy(start, end, edges=edges),
        others=[
            await _mapped(snapshot, other, max(start, other.start), min(end, other.end), edges)
            for other in others
            if other.meter == segment.meter and other.overlaps(start, end)
        ],
    )


async def _mapped(
    snapshot: LedgerSnapshot, other: MappingSegment, start: int, end: int, edges: set[int]
) -> model.OtherVehicle:
    energy = await snapshot.device(VEHICLE, other.vehicle).energy(start, end, edges=edges)
    return model.OtherVehicle(vehicle=other.vehicle, start=start, end=end, energy=energy)


def _answer(
    vehicle_id: str, window: TimeRange, found: model.Performance, silence: Gaps | None, policy: EfficiencyPolicy
) -> Performance:
    whole = found.vehicle
    judgement = found.judgement
    if silence is None:
        reason = f"{judgement.reason}; gaps cannot be told: the window begins before the retention of readings"
        judgement = replace(judgement, reason=reason)
    return Performance(
        vehicle_id=vehicle_id,
        window=window,
        dc_kwh=whole.kwh,
        average_temperature=whole.averaged / whole.samples if whole.samples else None,
        samples=whole.samples,
        meters=tuple(
            MappedMeter(
                meter_id=part.meter,
                valid=TimeRange(start=to_datetime(part.start), end=to_datetime(part.end)),
                ac_kwh=part.whole.kwh,
                samples=part.whole.samples,
                shared=part.is_shared,
            )
            for part in found.meters
        ),
        compared=found.compared,
        coverage=found.coverage,
        gaps=None if silence is None else silence.count,
        longest_gap=None if silence is None else silence.longest / 1e6,
        resets=whole.resets + sum(part.whole.resets for part in found.meters),
        excluded=whole.excluded + sum(part.whole.excluded for part in found.meters),
        judgement=judgement,
        threshold=policy.threshold,
    )


def _without_figures(
    vehicle_id: str,
    window: TimeRange,
    own: Sequence[MappingSegment],
    others: Sequence[MappingSegment],
    policy: EfficiencyPolicy,
    reason: str,
) -> Performance:
    """The performance in a window whose readings are deleted."""
    start, end = to_microseconds(window.start), to_microseconds(window.end)
    return Performance(
        vehicle_id=vehicle_id,
        window=window,
        meters=tuple(
            MappedMeter(
                meter_id=one.meter,
                valid=TimeRange(start=to_datetime(max(start, one.start)), end=to_datetime(min(end, one.end))),
                shared=any(other.meter == one.meter and other.overlaps(one.start, one.end) for other in others),
            )
            for one in own
        ),
        judgement=Judgement(status="insufficient-data", ratio=None, reason=reason),
        threshold=policy.threshold,
    )
