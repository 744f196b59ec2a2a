"""A meter that feeds several vehicles at once: which part of its energy is whose.

Pure. Times are microseconds, energy is kWh.
"""

from collections.abc import Mapping
from dataclasses import replace

from ingestd.model.energy import HOUR, QUARTER
from ingestd.model.quarters import Quarter, Quarters


def allocate(
    meter: Quarters, vehicles: Mapping[str, Quarters], *, part: Quarters | None = None
) -> dict[str, dict[int, Quarter]]:
    """The meter's quarters for each of the vehicles that it feeds at once, in time in which all of them are mapped.

    By their DC of each quarter-hour, of each hour where the meter has a part of a longer reading in it; in equal parts
    where none has any. `part` is what is asked for of the meter, where that is not all of it: a window may cut an hour,
    and is told by the DC of the whole hour nevertheless.
    """
    spread = {start // HOUR * HOUR for start, row in meter.items() if row.is_spread}
    result: dict[str, dict[int, Quarter]] = {vehicle: {} for vehicle in vehicles}
    for start, row in (meter if part is None else part).items():
        hour = start // HOUR * HOUR
        unit = range(hour, hour + HOUR, QUARTER) if hour in spread else (start,)
        dc = {vehicle: sum(rows[at].kwh for at in unit if at in rows) for vehicle, rows in vehicles.items()}
        total = sum(dc.values())
        for vehicle in vehicles:
            share = dc[vehicle] / total if total > 0 else 1 / len(vehicles)
            result[vehicle][start] = replace(row, kwh=row.kwh * share)
    return result
