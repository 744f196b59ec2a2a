"""Divides the energy of a meter that feeds several vehicles at once.

Pure. Times are microseconds, energy is kWh.
"""

from collections.abc import Mapping
from dataclasses import replace

from ingestd.model.energy import HOUR, QUARTER
from ingestd.model.quarters import Quarter, Quarters


def allocate(
    meter: Quarters, vehicles: Mapping[str, Quarters], *, part: Quarters | None = None
) -> dict[str, dict[int, Quarter]]:
    """By vehicle: its part of the meter's quarters, in a time in which all of the vehicles are mapped to the meter.

    A quarter is divided in proportion to the vehicles' DC of this quarter, or of its whole hour if the meter is spread
    in this hour; in equal parts if no vehicle has any DC. `part` are the quarters to divide, if they are fewer than
    `meter`: a window may cut an hour, but its energy is divided by the DC of the whole hour.
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
