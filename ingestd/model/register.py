"""Finds rises, glitches, resets, steps and levels in the readings of a cumulative register (docs/energy.md).

Pure. Times are whole microseconds since 2000-01-01T00:00Z, values are kWh.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

HOUR: Final = 3_600_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The settings of the rule: the maximum power of the device, and MAX_GAP in microseconds."""

    max_kw: float
    max_gap: int = HOUR

    def max_kwh(self, since: int, until: int) -> float:
        """The most energy that can flow between two times, in kWh."""
        return self.max_kw * (until - since) / HOUR


class Verdict(Enum):
    """What one reading of a register is."""

    FIRST = "the first reading"
    UNCHANGED = "as before"
    RISE = "energy"
    GLITCH = "one of a few bad values, after which the register came back"
    RESET = "a new epoch, whose value is energy"
    UNCOUNTED_RESET = "a new epoch with more than can have flowed"
    STEP = "a fall to a lower value, at which it stays"
    LEVEL = "a jump to a higher value, at which it stays"
    UNDECIDED = "out of line; later readings will decide"


class Point(NamedTuple):
    """A reading: its time and the value of the register, kWh."""

    at: int
    value: float


class Register(NamedTuple):
    """The state of a register. A tuple, because there is one for each reading."""

    high_water: float
    """The highest accepted value of this epoch."""
    changed_at: int
    """When it last changed."""
    read_at: int
    """The time of its last reading that was in line. Glitches do not count."""

    def is_in_line(self, point: Point, rule: Rule) -> bool:
        """Whether a reading is a plausible rise since the register last changed. It may have been read since."""
        return self.high_water <= point.value <= self.high_water + rule.max_kwh(self.changed_at, point.at)

    def interval_start(self, at: int, rule: Rule) -> int:
        """The start of the interval of a rise that is read at `at`."""
        if at - self.read_at > rule.max_gap:
            return self.read_at  # the rise has the energy of the gap
        return max(self.changed_at, at - rule.max_gap)


class JudgedPoint(NamedTuple):
    """A reading with its verdict, and the register before and after it."""

    at: int
    verdict: Verdict
    kwh: float
    since: int | None
    """The start of its interval. Its energy is `kwh`, or is not known."""
    before: Register | None
    after: Register | None
    is_final: bool = True
    """Whether no later reading can change it."""


def verdicts(points: Sequence[Point], register: Register | None, *, rule: Rule, now: int) -> list[JudgedPoint]:
    """The verdict of each reading, in order of time, after a state (None: there were no earlier readings).

    All readings after the first undecided one are undecided, too.
    """
    judged: list[JudgedPoint] = []
    for number, point in enumerate(points):
        if number < len(judged):
            continue  # a glitch that has its verdict already
        if register is None:
            after = Register(high_water=point.value, changed_at=point.at, read_at=point.at)
            judged.append(JudgedPoint(point.at, Verdict.FIRST, 0.0, None, None, after))
        elif register.is_in_line(point, rule):
            judged.append(_in_line(point, register, rule))
        elif (back := _comes_back(points, number, register, rule)) is not None:
            judged += [
                JudgedPoint(glitch.at, Verdict.GLITCH, 0.0, None, register, register) for glitch in points[number:back]
            ]
        elif now - point.at < rule.max_gap:
            judged += [
                JudgedPoint(left.at, Verdict.UNDECIDED, 0.0, None, register, register, is_final=False)
                for left in points[number:]
            ]
        else:
            # If this is the last reading, the next one may still come back.
            epoch = _new_epoch(point, register, rule)
            judged.append(epoch._replace(is_final=number + 1 < len(points)))
        register = judged[-1].after
    return judged


def _in_line(point: Point, register: Register, rule: Rule) -> JudgedPoint:
    if point.value == register.high_water:
        after = Register(high_water=point.value, changed_at=register.changed_at, read_at=point.at)
        return JudgedPoint(point.at, Verdict.UNCHANGED, 0.0, None, register, after)
    since = register.interval_start(point.at, rule)
    after = Register(high_water=point.value, changed_at=point.at, read_at=point.at)
    return JudgedPoint(point.at, Verdict.RISE, point.value - register.high_water, since, register, after)


def _new_epoch(point: Point, register: Register, rule: Rule) -> JudgedPoint:
    """The register stays at the new value. The value is energy only after a reset to near 0."""
    after = Register(high_water=point.value, changed_at=point.at, read_at=point.at)
    since = register.interval_start(point.at, rule)
    if point.value >= register.high_water / 2:
        verdict = Verdict.STEP if point.value < register.high_water else Verdict.LEVEL
        return JudgedPoint(point.at, verdict, 0.0, since, register, after)
    began_at = max(register.read_at, point.at - rule.max_gap)
    if point.value <= rule.max_kwh(began_at, point.at):
        return JudgedPoint(point.at, Verdict.RESET, point.value, began_at, register, after)
    return JudgedPoint(point.at, Verdict.UNCOUNTED_RESET, 0.0, since, register, after)


def _comes_back(points: Sequence[Point], first: int, register: Register, rule: Rule) -> int | None:
    """The number of the reading that is back at the high water in one step, after bad ones from `first` on; or None.

    It has to be within MAX_GAP of the first bad one, or be the next one: a device that is read every two hours may have
    a glitch, too.
    """
    high = register.high_water
    bad = points[first]
    below = bad.value < high
    deepest = abs(high - bad.value)
    for number in range(first + 1, len(points)):
        before, point = points[number - 1], points[number]
        if point.at - bad.at > rule.max_gap and number > first + 1:
            return None
        towards = point.value > before.value if before.value < high else point.value < before.value
        large = abs(point.value - before.value) >= deepest / 2
        not_above = point.value - high <= rule.max_kwh(register.changed_at, point.at)
        not_below = high - point.value <= abs(high - bad.value) / 2
        if towards and large and not_above and not_below:
            return number
        if (point.value < high) is below:
            deepest = max(deepest, abs(high - point.value))
    return None
