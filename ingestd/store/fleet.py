"""Reads over the whole fleet: sums of rows, and in Python what is in no row yet or has to be looked at closer."""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from ingestd.model.answers import FleetEnergy, FleetPoint, FleetSeries, VehicleEfficiency
from ingestd.model.efficiency import Compared, EfficiencyPolicy
from ingestd.model.energy import HOUR, QUARTER
from ingestd.model.fleet import Fed, Window, divided
from ingestd.model.periods import Stretch, TimeRange
from ingestd.model.quarters import Quarter, quarters
from ingestd.model.stream import CHARGING, METER, VEHICLE, Stream
from ingestd.model.timestamps import to_datetime, to_microseconds
from ingestd.store import queries
from ingestd.store.apart import Apart, around
from ingestd.store.comparison import Comparison, edges_of
from ingestd.store.device_energy import ENDING
from ingestd.store.fine_buckets import fine_buckets
from ingestd.store.ledger import BEGINNING, moment
from ingestd.store.many import ManyDevices
from ingestd.store.moments import Moment, Moments
from ingestd.store.open_stretch import OPEN, OfDevices, OpenStretch

MOST_READINGS: Final = 2_000_000
WORST: Final = 10
CLOSED_HOURS: Final = 24

_SQL: Final = queries.of_streams(queries.load("fleet.sql"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What was read of a window."""

    window: Window
    totals: Mapping[Stream, Mapping[str, float]]
    compared: Mapping[str, Compared]
    thresholds: Mapping[str, float]
    as_of: datetime
    reason: str | None


class Fleet:
    """What dashboards, lists and alerts ask of all devices. Every method raises StoreError."""

    def __init__(self, moments: Moments, *, policy: EfficiencyPolicy, most_readings: int = MOST_READINGS) -> None:
        """No more than `most_readings` are looked at one by one for an answer."""
        self._moments = moments
        self._policy = policy
        self._most_readings = most_readings

    async def energy(self, window: TimeRange) -> FleetEnergy:
        """Of all devices and of all vehicles with their meters."""
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
        """Of every vehicle that is mapped to a meter in the window."""
        vehicles = self._judged(await self._find(window))
        return [efficiency for efficiency, compared in vehicles.values() if compared is not None]

    async def series(self, asked: TimeRange, buckets: Sequence[Stretch]) -> FleetSeries:
        """Energy in each of the buckets, which make up the window.

        Raises TooManyReadingsError where they cut quarters of an hour, and there are too many readings to look at.
        """
        edges = [to_microseconds(bucket.within.start) for bucket in buckets]
        async with self._moments.now() as at:
            window, as_of = await _window(at, asked)
            if any(edge % QUARTER for edge in edges[1:]):
                within = [max(window.start, min(edge, window.end)) for edge in edges]
                energies = await fine_buckets(at, window, [*within, window.end], most=self._most_readings)
            else:
                energies = {stream: await _by_bucket(at, stream, window, edges) for stream in CHARGING}
        points = [
            FleetPoint(start=bucket.start, ac_kwh=energies[METER].get(number), dc_kwh=energies[VEHICLE].get(number))
            for number, bucket in enumerate(buckets)
        ]
        return FleetSeries(as_of=as_of, points=points, reason=_reason(at, window))

    async def closed_hours(self) -> TimeRange | None:
        """The last 24 whole hours of which all rows are made; None where there are none."""
        async with self._moments.now() as at:
            made = [at.made_until(stream) for stream in CHARGING]
        until = [at for at in made if at is not None]
        if len(until) < len(CHARGING):
            return None
        end = min(until) // HOUR * HOUR
        return TimeRange(start=to_datetime(end - CLOSED_HOURS * HOUR), end=to_datetime(end))

    def _judged(self, found: _Found) -> dict[str, tuple[VehicleEfficiency, Compared | None]]:
        """Every vehicle with a reading or a mapping in the window: its efficiency, and what of it is compared."""
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
        async with self._moments.now() as at:
            window, as_of = await _window(at, asked)
            beside = {stream: await _beside(at, stream, window) for stream in CHARGING}
            rows = {stream: await _rows(at, stream, window) for stream in CHARGING}
            totals = {stream: _totals(rows[stream], beside[stream]) for stream in CHARGING}
            segments = await _segments(at, window.start, window.asked_end)
            alike, apart = divided(segments, start=window.start, end=window.asked_end)
            comparison = Comparison(at, window, segments=alike, rows=rows, beside=beside, policy=self._policy)
            compared = await comparison.result()
            if apart:
                all_segments = await _segments(at, *around(window))
                left = Apart(at, window, segments=all_segments, beside=beside, policy=self._policy)
                compared |= await left.compared(apart)
            thresholds = {row.id: row.threshold for row in await at.fetch(_SQL[VEHICLE]["own_thresholds"], {})}
        for vehicle, its in compared.items():
            its.all_dc = totals[VEHICLE].get(vehicle, 0.0)
        return _Found(
            window=window,
            totals=totals,
            compared=compared,
            thresholds=thresholds,
            as_of=as_of,
            reason=_reason(at, window),
        )


_NOTHING: Final = Quarter()


async def _window(at: Moment, asked: TimeRange) -> tuple[Window, datetime]:
    """The window as it can be answered, and up to when that is."""
    made = [at.made_until(stream) for stream in CHARGING]
    made_until = min((until for until in made if until is not None), default=BEGINNING)
    start = max(to_microseconds(asked.start), BEGINNING)
    end = asked_end = min(to_microseconds(asked.end), ENDING)
    as_of = at.now
    if at.has_other_rows or (None not in made and end > made_until + OPEN and at.now > made_until + OPEN):
        as_of = start if at.has_other_rows else made_until
        end = asked_end = max(start, min(end, as_of))
    for stream in CHARGING:
        for mark in await at.fetch(_SQL[stream]["oldest_mark"], {"now": to_datetime(at.now)}):
            as_of = as_of if mark.since is None else min(as_of, mark.since)
    return Window(start=start, end=end, asked_end=asked_end, made_until=made_until), to_datetime(as_of)


def _reason(at: Moment, window: Window) -> str | None:
    """Why some of the window cannot be told."""
    return at.why_gone(window.start) if window.start < at.ledger_since else None


async def _segments(at: Moment, start: int, end: int) -> list[Fed]:
    """Those with a part in (start, end], cut to it."""
    rows = await at.fetch(_SQL[VEHICLE]["segments"], {"start": moment(start), "end": moment(end)})
    return [Fed(vehicle=row.vehicle_id, meter=row.meter_id, start=row.since, end=row.until) for row in rows]


async def _beside(at: Moment, stream: Stream, window: Window) -> OfDevices:
    """What is not in rows of whole quarters: parts of quarters at the window's edges, and what is not made yet."""
    found: OfDevices = {}
    if window.start >= window.end:
        return found
    for since, until in window.parts:
        quarter = since // QUARTER * QUARTER
        part = await OpenStretch(at, stream, since=quarter, until=until, start=since, end=until).changes()
        its = {device: rows[quarter] for device, rows in part.items() if quarter in rows}
        its |= await _parts_of_slow(at, stream, quarter, since, until)
        for device, row in its.items():
            found.setdefault(device, {})[quarter] = row
    # What is open may tell of quarters that have rows, also of long ago.
    until = ENDING if at.now <= window.made_until + OPEN else window.made_until + OPEN
    stretch = OpenStretch(at, stream, since=window.made_until, until=until, start=window.since_of_open, end=window.end)
    whole_until = ENDING if window.end > window.made_until else window.end
    for device, rows in (await stretch.changes()).items():
        more = {start: row for start, row in rows.items() if start + QUARTER <= whole_until}
        found.setdefault(device, {}).update(more)
    return found


async def _parts_of_slow(at: Moment, stream: Stream, quarter: int, since: int, until: int) -> dict[str, Quarter]:
    """Of devices of which a longer reading has a part in a quarter: what lies in (since, until] of it."""
    rows = await at.fetch(_SQL[stream]["quarters_of_all"], {"start": moment(quarter)})
    many = ManyDevices(at, stream)
    await many.look_up_rules()
    counted = await many.counted([row.id for row in rows], quarter, quarter + QUARTER)
    return {device: quarters(its, since, until).get(quarter, _NOTHING) for device, its in counted.items()}


async def _by_bucket(at: Moment, stream: Stream, window: Window, edges: Sequence[int]) -> dict[int, float]:
    """kWh by number of the bucket; none where nothing was sent."""
    sums: defaultdict[int, Quarter] = defaultdict(Quarter)
    by_hour = all(edge % HOUR == 0 for edge in edges[1:])
    middle = "hourly_series_of_all" if by_hour else "series_of_all"
    for name, since, until in (
        ("series_of_all", window.since, window.hours_from),
        (middle, window.hours_from, window.hours_until),
        ("series_of_all", window.hours_until, window.until),
    ):
        parameters = {"edges": list(map(moment, edges)), "since": moment(since), "until": moment(until)}
        for row in await at.fetch(_SQL[stream][name], parameters) if since < until else ():
            sums[row.number - 1].add(Quarter(kwh=row.kwh, samples=row.samples, parts=row.parts))
    for parts in (await _beside(at, stream, window)).values():
        for start, part in parts.items():
            sums[max(0, bisect_right(edges, start) - 1)].add(part)
    return {number: its.kwh for number, its in sums.items() if not its.is_empty}


async def _rows(at: Moment, stream: Stream, window: Window) -> dict[str, Any]:
    """Of every device with rows in the window their sums, and how many of them are known whole."""
    return {row.id: row async for row in at.each(_SQL[stream]["energy_of_all"], edges_of(window))}


def _totals(rows: Mapping[str, Any], beside: OfDevices) -> dict[str, float]:
    """kWh of every device with a reading, or a part of one."""
    kwh = {device: its.kwh for device, its in rows.items()}
    sent = {device: its.samples + its.parts for device, its in rows.items()}
    for device, parts in beside.items():
        for part in parts.values():
            kwh[device] = kwh.get(device, 0.0) + part.kwh
            sent[device] = sent.get(device, 0) + part.samples + part.parts
    return {device: its for device, its in kwh.items() if sent[device]}
