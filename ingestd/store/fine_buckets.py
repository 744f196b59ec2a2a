"""Energy of a fleet in buckets that cut quarters: counted reading by reading, up to a limit of readings."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from ingestd.errors import TooManyReadingsError
from ingestd.model.device_energy import CountedRange, DeviceEnergy
from ingestd.model.energy import QUARTER, CountedReading
from ingestd.model.fleet import Window
from ingestd.model.quarters import Quarter
from ingestd.model.stream import CHARGING, Stream
from ingestd.store import queries
from ingestd.store.device_energy import ENDING
from ingestd.store.ledger import to_timestamp
from ingestd.store.ledger_snapshot import LedgerSnapshot
from ingestd.store.many_devices import ManyDevices

AT_ONCE: Final = 50_000
"""Readings in one step."""

_SOURCES: Final = {
    "samples_of_all": queries.load("fleet.sql")["samples_of_all"],
    "active": queries.load("closing.sql")["active"],
}
_SQL: Final = queries.of_streams(_SOURCES)


async def fine_buckets(
    snapshot: LedgerSnapshot, window: Window, edges: Sequence[int], *, most: int
) -> dict[Stream, dict[int, float]]:
    """kWh of each range (edges[n], edges[n + 1]] of the window, by number. A range without readings is left out.

    Raises TooManyReadingsError, psycopg's errors.
    """
    readings = {stream: await _readings(snapshot, stream, window) for stream in CHARGING}
    if (found := sum(of_stream.total() for of_stream in readings.values())) > most:
        raise TooManyReadingsError(f"{found:,} readings are in this window, at most {most:,} are looked at one by one")
    return {stream: await _energy(snapshot, stream, readings[stream], edges) for stream in CHARGING}


async def _readings(snapshot: LedgerSnapshot, stream: Stream, window: Window) -> Counter[str]:
    """The number of readings of each device that may have energy in the window."""
    first, last = window.start // QUARTER * QUARTER, min(-(-window.end // QUARTER) * QUARTER, window.made_until)
    rows = await snapshot.fetch(
        _SQL[stream]["samples_of_all"], {"since": to_timestamp(first), "until": to_timestamp(last)}
    )
    since = to_timestamp(max(first, window.made_until))
    rows += await snapshot.fetch(_SQL[stream]["active"], {"since": since, "until": to_timestamp(ENDING)})
    found: Counter[str] = Counter()
    for row in rows:
        found[row.id] += row.readings
    return found


async def _energy(
    snapshot: LedgerSnapshot, stream: Stream, readings: Counter[str], edges: Sequence[int]
) -> dict[int, float]:
    many = ManyDevices(snapshot, stream)
    await many.look_up_rules()
    first, last = edges[0] // QUARTER * QUARTER, -(-edges[-1] // QUARTER) * QUARTER
    sums = [Quarter() for _ in edges[1:]]
    for devices in _steps(readings):
        counted = await many.counted(devices, first, last)
        await asyncio.to_thread(_add, sums, edges, counted)
    return {number: its.kwh for number, its in enumerate(sums) if not its.is_empty}


def _steps(readings: Counter[str]) -> Iterator[list[str]]:
    devices: list[str] = []
    number = 0
    for device, its in readings.items():
        devices.append(device)
        number += its
        if number > AT_ONCE:
            yield devices
            devices, number = [], 0
    if devices:
        yield devices


def _add(sums: Sequence[Quarter], edges: Sequence[int], counted: Mapping[str, Sequence[CountedReading]]) -> None:
    start, end = edges[0], edges[-1]
    for its in counted.values():
        energy = DeviceEnergy(
            start=start, end=end, rows={}, counted_ranges=[CountedRange(start=start, end=end, counted=its)]
        )
        for into, part in zip(sums, energy.between(edges), strict=True):
            into.add(part)
