"""Answers about the whole fleet: sums of rows, plus readings that are in no row yet."""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from ingestd.model.answers import FleetEnergy, FleetPoint, FleetSeries, VehicleEfficiency
from ingestd.model.efficiency import Compared, EfficiencyPolicy
from ingestd.model.energy import HOUR, QUARTER
from ingestd.model.fleet import Window, divided_segments
from ingestd.model.mapping import MappingSegment
from ingestd.model.periods import Bucket, TimeRange
from ingestd.model.quarters import Quarter, quarters
from ingestd.model.stream import CHARGING, METER, VEHICLE, Stream
from ingestd.model.timestamps import to_datetime, to_microseconds
from ingestd.store import queries
from ingestd.store.comparison import Comparison, edges_of
from ingestd.store.comparison_by_vehicle import ComparisonByVehicle, around
from ingestd.store.device_energy import ENDING
from ingestd.store.fine_buckets import fine_buckets
from ingestd.store.ledger import BEGINNING, to_timestamp
from ingestd.store.ledger_snapshot import LedgerSnapshot, LedgerSnapshots
from ingestd.store.many_devices import ManyDevices
from ingestd.store.open_energy import LONGEST_OPEN, OpenEnergy, QuartersByDevice

MOST_READINGS: Final = 2_000_000
WORST: Final = 10
CLOSED_HOURS: Final = 24

_SQL: Final = queries.of_streams(queries.load("fleet.sql"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """The figures of a window."""

    window: Window
    totals: Mapping[Stream, Mapping[str, float]]
    compared: Mapping[str, Compared]
    thresholds: Mapping[str, float]
    as_of: datetime
    reason: str | None


class Fleet:
    """Answers about all devices, for dashboards, lists and alerts. Every method raises StoreError."""

    def __init__(
        self, snapshots: LedgerSnapshots, *, policy: EfficiencyPolicy, most_readings: int = MOST_READINGS
    ) -> None:
        """At most `most_readings` readings are counted one by one for an answer."""
        self._snapshots = snapshots
        self._policy = policy
        self._most_readings = most_readings

    async def energy(self, window: TimeRange) -> FleetEnergy:
        """The energy of all devices, and of all vehicles with their meters."""
        found = await self._find(window)
        vehicles = self._judged(found)
        mapped = Compared()
        for one in vehicles.values():
            if one[1] is not None:
                mapped.add(one[1])
        judged = [efficiency for efficiency, _ in vehicles.values()]
        with_ratio = [one for one in judged if one.efficiency_ratio is not None]
        meters, reporting = found.totals[METER], found.totals[VEHICLE]
        return FleetEnergy(
            window=window,
            as_of=found.as_of,
            ac_kwh=sum(meters.values()),
            dc_kwh=sum(reporting.values()),
            meters=len(meters),
            vehicles=len(reporting),
            mapped=mapped,
            mapped_ratio=self._policy.judge(mapped).ratio,
            statuses=dict(Counter(one.status for one in judged)),
            worst=tuple(sorted(with_ratio, key=lambda one: (one.efficiency_ratio, one.vehicle_id))[:WORST]),
            reason=found.reason,
        )

    async def efficiencies(self, window: TimeRange) -> list[VehicleEfficiency]:
        """The efficiency of every vehicle that is mapped to a meter in the window."""
        vehicles = self._judged(await self._find(window))
        return [efficiency for efficiency, compared in vehicles.values() if compared is not None]

    async def series(self, asked: TimeRange, buckets: Sequence[Bucket]) -> FleetSeries:
        """Energy in each of the buckets, which make up the window.

        Raises TooManyReadingsError if buckets cut quarters and the window has too many readings to count one by one.
        """
        edges = [to_microseconds(bucket.within.start) for bucket in buckets]
        async with self._snapshots.now() as snapshot:
            window, as_of = await _window(snapshot, asked)
            if any(edge % QUARTER for edge in edges[1:]):
                within = [max(window.start, min(edge, window.end)) for edge in edges]
                energies = await fine_buckets(snapshot, window, [*within, window.end], most=self._most_readings)
            else:
                energies = {stream: await _by_bucket(snapshot, stream, window, edges) for stream in CHARGING}
        points = [
            FleetPoint(start=bucket.start, ac_kwh=energies[METER].get(number), dc_kwh=energies[VEHICLE].get(number))
            for number, bucket in enumerate(buckets)
        ]
        return FleetSeries(as_of=as_of, points=points, reason=_reason(snapshot, window))

    async def closed_hours(self) -> TimeRange | None:
        """The last 24 whole hours whose rows are made; None if there are no rows."""
        async with self._snapshots.now() as snapshot:
            made = [snapshot.made_until(stream) for stream in CHARGING]
        until = [at for at in made if at is not None]
        if len(until) < len(CHARGING):
            return None
        end = min(until) // HOUR * HOUR
        return TimeRange(start=to_datetime(end - CLOSED_HOURS * HOUR), end=to_datetime(end))

    def _judged(self, found: _Found) -> dict[str, tuple[VehicleEfficiency, Compared | None]]:
        """Every vehicle with a reading or a mapping in the window: its efficiency and its compared energy."""
        compared: dict[str, Compared | None] = {**dict.fromkeys(found.totals[VEHICLE]), **found.compared}
        judged: dict[str, tuple[VehicleEfficiency, Compared | None]] = {}
        for vehicle, its in compared.items():
            policy = self._policy
            if vehicle in found.thresholds:
                policy = replace(policy, threshold=found.thresholds[vehicle])
            judgement = policy.judge(its)
            efficiency = VehicleEfficiency(
                vehicle_id=vehicle,
                efficiency_ratio=judgement.ratio,
                ac_kwh=its.all_ac if its else 0.0,
                dc_kwh=found.totals[VEHICLE].get(vehicle, 0.0),
                status=judgement.status,
                threshold=policy.threshold,
            )
            judged[vehicle] = efficiency, its
        return judged

    async def _find(self, asked: TimeRange) -> _Found:
        async with self._snapshots.now() as snapshot:
            window, as_of = await _window(snapshot, asked)
            additions = {stream: await _additions(snapshot, stream, window) for stream in CHARGING}
            rows = {stream: await _rows(snapshot, stream, window) for stream in CHARGING}
            totals = {stream: _totals(rows[stream], additions[stream]) for stream in CHARGING}
            segments = await _segments(snapshot, window.start, window.asked_end)
            by_sums, by_vehicle = divided_segments(segments, start=window.start, end=window.asked_end)
            comparison = Comparison(
                snapshot, window, segments=by_sums, rows=rows, additions=additions, policy=self._policy
            )
            compared = await comparison.result()
            if by_vehicle:
                all_segments = await _segments(snapshot, *around(window))
                left = ComparisonByVehicle(
                    snapshot, window, segments=all_segments, additions=additions, policy=self._policy
                )
                compared |= await left.compared(by_vehicle)
            thresholds = {row.id: row.threshold for row in await snapshot.fetch(_SQL[VEHICLE]["own_thresholds"], {})}
        for vehicle, its in compared.items():
            its.all_dc = totals[VEHICLE].get(vehicle, 0.0)
        return _Found(
            window=window,
            totals=totals,
            compared=compared,
            thresholds=thresholds,
            as_of=as_of,
            reason=_reason(snapshot, window),
        )


_NOTHING: Final = Quarter()


async def _window(snapshot: LedgerSnapshot, asked: TimeRange) -> tuple[Window, datetime]:
    """The window for which there is an answer, and `as_of`."""
    made = [snapshot.made_until(stream) for stream in CHARGING]
    made_until = min((until for until in made if until is not None), default=BEGINNING)
    start = max(to_microseconds(asked.start), BEGINNING)
    end = asked_end = min(to_microseconds(asked.end), ENDING)
    as_of = snapshot.now
    if snapshot.has_other_rows or (
        None not in made and end > made_until + LONGEST_OPEN and snapshot.now > made_until + LONGEST_OPEN
    ):
        as_of = start if snapshot.has_other_rows else made_until
        end = asked_end = max(start, min(end, as_of))
    for stream in CHARGING:
        for mark in await snapshot.fetch(_SQL[stream]["oldest_mark"], {"now": to_datetime(snapshot.now)}):
            as_of = as_of if mark.since is None else min(as_of, mark.since)
    return Window(start=start, end=end, asked_end=asked_end, made_until=made_until), to_datetime(as_of)


def _reason(snapshot: LedgerSnapshot, window: Window) -> str | None:
    """Why some of the window is not known; None if all is."""
    return snapshot.why_gone(window.start) if window.start < snapshot.ledger_since else None


async def _segments(snapshot: LedgerSnapshot, start: int, end: int) -> list[MappingSegment]:
    """The segments of all vehicles that overlap (start, end], cut to it."""
    rows = await snapshot.fetch(_SQL[VEHICLE]["segments"], {"start": to_timestamp(start), "end": to_timestamp(end)})
    return [MappingSegment(vehicle=row.vehicle_id, meter=row.meter_id, start=row.since, end=row.until) for row in rows]


async def _additions(snapshot: LedgerSnapshot, stream: Stream, window: Window) -> QuartersByDevice:
    """Energy to add to the rows of whole quarters: parts of quarters at the window's edges, and open readings."""
    found: QuartersByDevice = {}
    if window.start >= window.end:
        return found
    for since, until in window.parts:
        quarter = since // QUARTER * QUARTER
        part = await OpenEnergy(snapshot, stream, since=quarter, until=until, start=since, end=until).additions()
        its = {device: rows[quarter] for device, rows in part.items() if quarter in rows}
        its |= await _parts_of_slow(snapshot, stream, quarter, since, until)
        for device, row in its.items():
            found.setdefault(device, {})[quarter] = row
    # Open readings may have energy in quarters that have rows, also in old ones.
    until = ENDING if snapshot.now <= window.made_until + LONGEST_OPEN else window.made_until + LONGEST_OPEN
    open_energy = OpenEnergy(
        snapshot, stream, since=window.made_until, until=until, start=window.since_of_open, end=window.end
    )
    whole_until = ENDING if window.end > window.made_until else window.end
    for device, rows in (await open_energy.additions()).items():
        more = {start: row for start, row in rows.items() if start + QUARTER <= whole_until}
        found.setdefault(device, {}).update(more)
    return found


async def _parts_of_slow(
    snapshot: LedgerSnapshot, stream: Stream, quarter: int, since: int, until: int
) -> dict[str, Quarter]:
    """By device that is spread in a quarter: its figures in the part (since, until] of this quarter."""
    rows = await snapshot.fetch(_SQL[stream]["quarters_of_all"], {"start": to_timestamp(quarter)})
    many = ManyDevices(snapshot, stream)
    await many.look_up_rules()
    counted = await many.counted([row.id for row in rows], quarter, quarter + QUARTER)
    return {device: quarters(its, since, until).get(quarter, _NOTHING) for device, its in counted.items()}


async def _by_bucket(
    snapshot: LedgerSnapshot, stream: Stream, window: Window, edges: Sequence[int]
) -> dict[int, float]:
    """kWh by number of the bucket; none where nothing was sent."""
    sums: defaultdict[int, Quarter] = defaultdict(Quarter)
    by_hour = all(edge % HOUR == 0 for edge in edges[1:])
    middle = "hourly_series_of_all" if by_hour else "series_of_all"
    for name, since, until in (
        ("series_of_all", window.since, window.hours_from),
        (middle, window.hours_from, window.hours_until),
        ("series_of_all", window.hours_until, window.until),
    ):
        parameters = {
            "edges": list(map(to_timestamp, edges)),
            "since": to_timestamp(since),
            "until": to_timestamp(until),
        }
        for row in await snapshot.fetch(_SQL[stream][name], parameters) if since < until else ():
            sums[row.number - 1].add(Quarter(kwh=row.kwh, samples=row.samples, parts=row.parts))
    for parts in (await _additions(snapshot, stream, window)).values():
        for start, part in parts.items():
            sums[max(0, bisect_right(edges, start) - 1)].add(part)
    return {number: its.kwh for number, its in sums.items() if not its.is_empty}


async def _rows(snapshot: LedgerSnapshot, stream: Stream, window: Window) -> dict[str, Any]:
    """The sums of the rows of each device in the window, and the number of its rows of which all time is known."""
    return {row.id: row async for row in snapshot.each(_SQL[stream]["energy_of_all"], edges_of(window))}


def _totals(rows: Mapping[str, Any], additions: QuartersByDevice) -> dict[str, float]:
    """kWh of every device with a reading, or a part of one, in the window."""
    kwh = {device: its.kwh for device, its in rows.items()}
    sent = {device: its.samples + its.parts for device, its in rows.items()}
    for device, parts in additions.items():
        for part in parts.values():
            kwh[device] = kwh.get(device, 0.0) + part.kwh
            sent[device] = sent.get(device, 0) + part.samples + part.parts
    return {device: its for device, its in kwh.items() if sent[device]}
