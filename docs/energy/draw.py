"""Draws the pictures of docs/energy.md: `make docs`.

Every figure in them is worked out by ingestd.model, none is written by hand.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Final

from picture import BAD, FAINT, INK, LEFT, LIGHT, METER, OTHER, RIGHT, VEHICLE, Picture, Time, number

from ingestd.model.allocation import allocate
from ingestd.model.efficiency import Compared, EfficiencyPolicy, SegmentEnergy, compare
from ingestd.model.energy import HOUR, MINUTE, QUARTER, CountedReading, Reading, count
from ingestd.model.flow import Flow
from ingestd.model.quarters import Quarter, Quarters, hours, merged, quarters
from ingestd.model.register import Point, Rule, Verdict, verdicts
from ingestd.model.sessions import MeterFeed, ac_of, sessions

DAY: Final = 24 * HOUR
LATER: Final = 10 * DAY
"""When nothing waits any more for what follows."""
RULE: Final = Rule(max_kw=400.0)
POLICY: Final = EfficiencyPolicy(threshold=0.85, min_kwh=0.5, min_share=0.5, session_min_kw=0.3)

# Readings --------------------------------------------------------------------------------------------------------


def at(hour: int, minute: int = 0) -> int:
    return hour * HOUR + minute * MINUTE


def intervals(start: int, end: int, every: int, kwh: float) -> list[Reading]:
    """Interval readings after start, up to and with end."""
    return [Reading(time, kwh=kwh) for time in range(start + every, end + 1, every)]


def counted(readings: Iterable[Reading]) -> list[CountedReading]:
    return count(sorted(readings), rule=RULE, now=LATER)


def total(rows: Quarters) -> float:
    return sum(row.kwh for row in rows.values())


# Pictures --------------------------------------------------------------------------------------------------------


def windows() -> Picture:
    picture = Picture(
        title="Energy lies before its timestamp",
        description="Above: a meter sends 2.75 kWh each quarter of an hour until 10:00. Vehicle A, mapped from 08:00 to"
        " 10:00, gets the readings stamped 08:15 to 10:00; vehicle B, mapped from 10:00, gets none. Below: the reading"
        " stamped midnight belongs to the day that ends there.",
        height=330,
    )
    time = Time(start=at(7, 15), end=at(11))
    meter = counted(intervals(at(7), at(10), QUARTER, 2.75))
    picture.text(10, 22, "Two mappings that adjoin", anchor="start", bold=True)
    picture.label(66, "readings, kWh")
    picture.label(104, "mapped")
    for one in meter[1:]:
        colour = METER if at(8) < one.at <= at(10) else FAINT
        picture.readings(time, [one], 62, colour=colour)
        picture.text(time.x(one.at - one.length // 2), 50, number(one.kwh), colour=colour)
    for vehicle, start, end in (("A", at(8), at(10)), ("B", at(10), at(11))):
        words = f"{vehicle}: {number(total(quarters(meter, start, end)))} kWh"
        picture.band(time, start, end, 88, words, colour=METER)
        picture.line(time.x(start), 34, time.x(start), 126, dashed=True)
    picture.clock(time, 126, 30 * MINUTE)

    time = Time(start=0, end=2 * DAY)
    meter = counted([Reading(at(12), kwh=3.0), Reading(DAY, kwh=5.0)])
    picture.text(10, 196, "Two days that adjoin", anchor="start", bold=True)
    picture.label(236, "readings, kWh")
    picture.label(274, "day")
    picture.readings(time, meter, 232, colour=METER)
    for one in meter:
        picture.text(time.x(one.at), 222, number(one.kwh), colour=METER)
    for start in (0, DAY):
        words = f"{number(total(quarters(meter, start, start + DAY)))} kWh"
        picture.band(time, start, start + DAY, 258, words, colour=METER)
    picture.clock(time, 296, 12 * HOUR)
    return picture


def interval() -> Picture:
    picture = Picture(
        title="The interval of a reading, and the quarter-hours that it counts in",
        description="Above: interval readings. The first, and one that follows 80 minutes later, have an unknown"
        " interval and count at their time. Readings 45 minutes apart are spread over three quarter-hours; one of 10"
        " minutes counts whole. Below: a register that rests, then rises by 5.5 kWh at 08:30 and at 09:00. Until the"
        " second rise is known, the first could have begun at 07:30; then it is cut to 30 minutes.",
        height=560,
    )
    time = Time(start=at(7, 45), end=at(11))
    told = [(at(8), 2.0), (at(8, 45), 3.0), (at(9, 30), 3.0), (at(10, 50), 4.0), (at(11), 0.5)]
    meter = counted(Reading(moment, kwh=kwh) for moment, kwh in told)
    picture.text(10, 22, "Interval readings: unknown, long and short intervals", anchor="start", bold=True)
    picture.label(66, "readings, kWh")
    picture.readings(time, meter, 62, colour=METER)
    for one in meter:
        words = number(one.kwh) if one.since is not None else f"{number(one.kwh)} (unknown)"
        picture.text(time.x(one.at), 50, words, colour=METER, anchor="middle" if one.at < at(10) else "end")
    picture.label(150, "counted in each", "quarter-hour, kWh")
    picture.bars(time, quarters(meter, time.start, time.end), 190, 20, fill=lambda _: METER)
    picture.clock(time, 190, 30 * MINUTE)

    time = Time(start=at(6, 45), end=at(9, 15))
    readings = [Reading(at(6) + 30 * number * MINUTE, register=100.0) for number in range(5)]
    readings += [Reading(at(8, 30), register=105.5), Reading(at(9), register=111.0)]
    picture.text(10, 268, "A register that rested: the cut", anchor="start", bold=True)
    picture.label(310, "register, kWh")
    for reading in readings[2:]:
        picture.dot(time.x(reading.at), 306)
        picture.text(time.x(reading.at), 296, number(reading.register or 0))
    picture.label(346, "interval, while", "08:30 is the last")
    for one in counted(readings[:-1]):
        if one.since is not None:
            picture.line(time.x(one.since), 350, time.x(one.at), 350, colour=BAD, dashed=True)
            picture.line(time.x(one.since), 345, time.x(one.since), 355, colour=BAD)
            picture.dot(time.x(one.at), 350, colour=BAD)
    picture.label(400, "interval, as soon", "as 09:00 is there")
    register = counted(readings)
    picture.readings(time, [one for one in register if one.kwh > 0], 404, colour=METER)
    picture.label(466, "counted in each", "quarter-hour, kWh")
    picture.bars(time, quarters(register, time.start, time.end), 520, 20, fill=lambda _: METER)
    picture.clock(time, 520, 30 * MINUTE)
    return picture


REGISTERS: Final[Mapping[str, Sequence[tuple[int, float]]]] = {
    "rise": [(n, value) for n, value in enumerate([12.0, 12.1, 12.1, 12.3, 12.4])],
    "glitch down": [(n, value) for n, value in enumerate([12.0, 12.1, 0, 0, 12.2, 12.3])],
    "spike up": [(n, value) for n, value in enumerate([12.0, 12.1, 36, 12.2, 12.3])],
    "reset": [(0, 5.1), (1, 5.3), (2, 5.5), (1440, 0.1), (1441, 0.2), (1442, 0.3)],
    "step down": [(n, value) for n, value in enumerate([540, 541, 536, 536.05, 536.1])],
    "level": [(n, value) for n, value in enumerate([100, 100.1, 110.1, 110.2, 110.3])],
}
"""Minutes and values. A day lies before the value 0.1 of the counter that begins anew."""

COLOURS: Final = {Verdict.RISE: METER, Verdict.RESET: METER, Verdict.FIRST: INK, Verdict.UNCHANGED: INK}


def register() -> Picture:
    picture = Picture(
        title="What a register can do",
        description="Six registers, each dot a reading. Rise: the difference is energy. Glitch down and spike up: the"
        " register comes back, the bad values count nothing. Reset: a counter begins again near 0, and its first value"
        " is energy. Step down and level: the register stays at another value, and that change is no energy.",
        height=524,
    )
    for place, (name, values) in enumerate(REGISTERS.items()):
        left, top = 14 + place % 3 * 262, 24 + place // 3 * 272
        ones = counted(Reading(n * MINUTE, register=value) for n, value in values)
        words = f"counts {number(sum(one.kwh for one in ones))} kWh"
        for what, times in (
            ("excluded", sum(one.is_excluded for one in ones)),
            ("resets", sum(one.is_reset for one in ones)),
        ):
            words += f", {what} {times}" if times else ""
        picture.text(left, top, name, anchor="start", bold=True)
        _values(picture, left, top, values)
        picture.line(left, top + 194, left + 240, top + 194, colour=LIGHT)
        picture.text(left, top + 214, words, anchor="start")
    return picture


def _values(picture: Picture, left: float, top: float, values: Sequence[tuple[int, float]]) -> None:
    """The values of a register, evenly side by side, in the colours of their verdicts."""
    judged = verdicts([Point(n * MINUTE, value) for n, value in values], None, rule=RULE, now=LATER)
    low, high = min(value for _, value in values), max(value for _, value in values)
    across, up = 210 / (len(values) - 1), 120 / (high - low)
    points = [(left + 14 + across * n, top + 170 - up * (value - low)) for n, (_, value) in enumerate(values)]
    for (x1, y1), (x2, y2) in pairwise(points):
        picture.line(x1, y1, x2, y2, colour="#aaaaaa")
    for n, ((x, y), one, (_, value)) in enumerate(zip(points, judged, values, strict=True)):
        picture.dot(x, y, colour=COLOURS.get(one.verdict, BAD))
        is_below_a_line = any(y - other > up * (high - low) / 3 for _, other in points[max(n - 1, 0) : n + 2])
        picture.text(x, y + 18 if is_below_a_line else y - 10, number(value))


def known() -> Picture:
    picture = Picture(
        title="Known time and coverage",
        description="Five devices between 08:00 and 14:00, with the time of which their readings tell all that flowed."
        " A hole in a flow is not known; a rest is; a register that stands still may only be slow, so that the last"
        " hour of it is not known; the interval of an excluded reading is not known.",
        height=412,
    )
    time = Time(start=at(8), end=at(14))
    slow = [Reading(at(7) + n * HOUR // 2, register=50.0 + 5 * min(n // 2, 3)) for n in range(15)]
    bad = [Reading(at(7, 30) + n * HOUR // 2, kwh=8590.0 if n == 7 else 1.0) for n in range(14)]
    silent = intervals(at(7), at(9, 30), 5 * MINUTE, 0.5) + intervals(at(11), at(14), 5 * MINUTE, 0.5)
    charge = [Reading(at(7, 30), kwh=0.0), Reading(at(8), kwh=0.0), *intervals(at(12), at(13), 5 * MINUTE, 0.5)]
    devices: dict[tuple[str, ...], list[Reading]] = {
        ("every 5 min, silent", "from 9:30 to 11:00"): silent,
        ("parked: a 0", "every two hours"): intervals(at(6), at(14), 2 * HOUR, 0.0),
        ("parked, then a", "charge, then silent"): charge,
        ("register, the last", "rise at 10:00"): slow,
        ("half-hourly, 11:00", "is implausible"): bad,
    }
    for row, (name, readings) in enumerate(devices.items()):
        y = 40 + 66 * row
        ones = counted(readings)
        ranges = merged([(max(a, time.start), min(b, time.end)) for a, b in (one.known or (0, 0) for one in ones)])
        picture.label(y, *name)
        picture.box(LEFT, RIGHT, y - 2, 20, fill=LIGHT)
        for start, end in ranges:
            picture.box(time.x(start), time.x(end), y - 2, 20, fill="#9fd3c0")
        for one in ones:
            if time.start <= one.at <= time.end:
                picture.dot(time.x(one.at), y + 8, colour=BAD if one.is_excluded else INK)
        coverage = sum(end - start for start, end in ranges) / (time.end - time.start)
        picture.text(RIGHT, y - 8, f"coverage {coverage:.0%}", anchor="end")
    picture.clock(time, 352, HOUR)
    picture.text(LEFT, 400, "green: known · grey: not known · a dot: a reading", anchor="start", colour=FAINT)
    return picture


def is_compared(segment: SegmentEnergy, start: int, length: int) -> bool:
    """Whether the unit that begins at start is compared: asked of the rule, with the DC of that unit alone."""
    alone = {
        moment: replace(row, kwh=row.kwh if start <= moment < start + length else 0.0)
        for moment, row in segment.vehicle.items()
    }
    compared = compare([replace(segment, vehicle=alone)], all_dc=0.0, policy=POLICY)
    return compared is not None and compared.dc > 0


def _compared(picture: Picture, top: float, segment: SegmentEnergy, *, length: int, scale: float) -> None:
    """Both sides in units; what is compared is coloured."""
    time = Time(start=segment.start, end=-(-segment.end // length) * length)
    for y, rows, side, colour in (
        (top + 80, segment.meter, "AC of the meter,", METER),
        (top + 170, segment.vehicle, "DC of the vehicle,", VEHICLE),
    ):
        shown: Mapping[int, Quarter] = rows if length == QUARTER else hours(rows)
        fill = {start: colour if is_compared(segment, start, length) else "#bbbbbb" for start in shown}
        picture.label(y - 20, side, "kWh")
        picture.bars(time, shown, y, scale, fill=fill.__getitem__, length=length)
        picture.line(LEFT, y, RIGHT, y)
    picture.clock(time, top + 170, length if length == HOUR else 30 * MINUTE)
    compared = compare([segment], all_dc=total(segment.vehicle), policy=POLICY) or Compared()
    judgement = POLICY.judge(compared)
    ratio = "none" if judgement.ratio is None else number(judgement.ratio)
    words = (
        f"AC {number(compared.all_ac)}, DC {number(compared.all_dc)} · compared {number(compared.ac)} and"
        f" {number(compared.dc)}, share {number(compared.share)} · ratio {ratio}, {judgement.status}"
    )
    picture.text(LEFT, top + 232, "grey: not compared", anchor="start", colour=FAINT)
    picture.text(LEFT, top + 214, words, anchor="start")


def compared() -> Picture:
    picture = Picture(
        title="What is compared",
        description="Above: an hourly meter and a vehicle that reports each minute, asked at 10:50. The hours 08 to 09"
        " and 09 to 10 are compared; the hour under way is not. Below: a charge during which the vehicle is silent from"
        " 10:07 to 10:47. The quarter-hours without the vehicle, and the two at the edges of the hole, are left out.",
        height=546,
    )
    picture.text(10, 22, "An hourly meter, a vehicle by the minute, asked at 10:50", anchor="start", bold=True)
    start, end = at(8), at(10, 50)
    meter = counted(Reading(at(hour), kwh=11.0) for hour in (7, 8, 9, 10))
    vehicle = count(intervals(start, end, MINUTE, 0.165), rule=RULE, now=end)
    segment = SegmentEnergy(
        start=start, end=end, meter=quarters(meter, start, end), vehicle=quarters(vehicle, start, end)
    )
    _compared(picture, 30, segment, length=HOUR, scale=5)

    picture.text(10, 292, "Both by the minute, the vehicle silent from 10:07 to 10:47", anchor="start", bold=True)
    start, end = at(9), at(12)
    meter = counted(intervals(at(8), end, MINUTE, 0.1))
    vehicle = counted(intervals(at(8), at(10, 7), MINUTE, 0.09) + intervals(at(10, 47), end, MINUTE, 0.09))
    segment = SegmentEnergy(
        start=start, end=end, meter=quarters(meter, start, end), vehicle=quarters(vehicle, start, end)
    )
    _compared(picture, 300, segment, length=QUARTER, scale=32)
    return picture


def allocation() -> Picture:
    picture = Picture(
        title="A meter that feeds two vehicles",
        description="In each quarter-hour the meter's energy is divided in proportion to the DC of vehicles A and B."
        " Where neither charges, each gets one half.",
        height=432,
    )
    time = Time(start=at(14), end=at(15, 15))
    a, b = intervals(at(14), at(14, 30), MINUTE, 0.2), intervals(at(14, 20), at(15), MINUTE, 0.1)
    flow = {(at(14), at(14, 20)): 0.22, (at(14, 20), at(14, 30)): 0.33, (at(14, 30), at(15)): 0.11}
    flow[at(15), time.end] = 0.02
    meter = counted(one for (start, end), kwh in flow.items() for one in intervals(start, end, MINUTE, kwh))
    rows = {name: quarters(counted(readings), time.start, time.end) for name, readings in (("A", a), ("B", b))}
    parts = allocate(quarters(meter, time.start, time.end), rows)
    for bottom, name, colour in ((90, "A", VEHICLE), (170, "B", OTHER)):
        picture.label(bottom - 24, f"DC of {name}, kWh")
        picture.bars(time, rows[name], bottom, 16, fill=dict.fromkeys(rows[name], colour).__getitem__)
        picture.line(LEFT, bottom, RIGHT, bottom)
    picture.label(290, "AC of the meter,", "kWh, divided")
    for start, row in sorted(quarters(meter, time.start, time.end).items()):
        top, x1, x2 = 350.0, time.x(start) + 1, time.x(start + QUARTER) - 1
        for name, colour in (("A", VEHICLE), ("B", OTHER)):
            kwh = parts[name][start].kwh
            if kwh > 0:
                top -= 30 * kwh
                picture.box(x1, x2, top, 30 * kwh, fill=colour)
        picture.text((x1 + x2) / 2, top - 6, number(row.kwh))
    picture.clock(time, 350, QUARTER)
    for row_at, name, colour in ((394, "A", VEHICLE), (416, "B", OTHER)):
        picture.label(row_at, f"AC of {name}: {number(total(parts[name]))}")
        for start, row in parts[name].items():
            picture.text(time.x(start + QUARTER // 2), row_at, number(row.kwh), colour=colour)
    return picture


def charging() -> Picture:
    picture = Picture(
        title="Charging sessions",
        description="A vehicle charges from 09:10 to 09:40 and from 09:50 to 10:20: one session, as the pause is short."
        " Afterwards it takes 0.12 kW, which is no charge. From 11:30 it charges again. Each session gets the part of"
        " the hourly meter readings that its DC is of all DC in the same hours.",
        height=372,
    )
    time = Time(start=at(8, 30), end=at(13))
    ranges = {(at(8), at(9, 10)): 0.0, (at(9, 10), at(9, 40)): 1.0, (at(9, 40), at(9, 50)): 0.0}
    ranges |= {(at(9, 50), at(10, 20)): 1.0, (at(10, 20), at(11, 30)): 0.01, (at(11, 30), at(12, 20)): 0.5}
    ranges[at(12, 20), at(13)] = 0.0
    vehicle = counted(one for span, kwh in ranges.items() for one in intervals(*span, 5 * MINUTE, kwh))
    hourly = {8: 0.0, 9: 0.0, 10: 8.8, 11: 4.6, 12: 3.4, 13: 2.2}
    meter = counted(Reading(at(hour), kwh=kwh) for hour, kwh in hourly.items())
    flow = Flow.of(vehicle)
    feed = MeterFeed(start=at(8), end=at(13), meter=Flow.of(meter), vehicles={"EV": flow})
    picture.label(84, "power of the", "vehicle")
    before = 0.0
    for one in vehicle[1:]:
        kw = one.kwh * HOUR / one.length
        if kw not in (before, 0):
            picture.text(time.x(one.at - one.length) + 4, 112 - 6 * kw, f"{number(kw)} kW", anchor="start")
        before = kw
        if one.since is not None and kw > 0:
            picture.box(time.x(one.since) + 0.5, time.x(one.at) - 0.5, 120 - 6 * kw, 6 * kw, fill=VEHICLE)
    picture.line(LEFT, 120, RIGHT, 120)
    for session in sessions(flow):
        for x in (time.x(session.start), time.x(session.end)):
            picture.line(x, 30, x, 140, dashed=True)
        picture.band(time, session.start, session.end, 140, "session", colour=VEHICLE)
        middle = (time.x(session.start) + time.x(session.end)) / 2
        dc = flow.energy(session.since, session.end)
        picture.text(middle, 182, f"DC {number(dc)} kWh")
        picture.text(middle, 200, f"AC {number(ac_of(session, 'EV', [feed]))} kWh")
    picture.label(284, "AC of the hourly", "meter, kWh")
    picture.bars(time, hours(quarters(meter, at(9), at(13))), 316, 8, fill=lambda _: METER, length=HOUR)
    picture.clock(time, 316, 30 * MINUTE)
    return picture


PICTURES: Final[Mapping[str, Callable[[], Picture]]] = {
    "windows": windows,
    "intervals": interval,
    "register": register,
    "known": known,
    "compared": compared,
    "allocation": allocation,
    "sessions": charging,
}


def files() -> dict[str, str]:
    """What is to be written, by name."""
    return {f"{name}.svg": draw().svg() for name, draw in PICTURES.items()}


if __name__ == "__main__":
    for name, svg in files().items():
        Path(__file__).with_name(name).write_text(svg, encoding="utf-8")
