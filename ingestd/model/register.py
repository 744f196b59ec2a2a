"""What the readings of a cumulative register tell: rises, glitches, resets, steps and levels (docs/energy.md).

Pure. Times are whole microseconds since 2000-01-01T00:00Z, values are kWh.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

HOUR: Final = 3_600_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What can be set: the most power of the device, and how long a gap its readings may have."""

    max_kw: float
    max_gap: int = HOUR

    def max_kwh(self, since: int, until: int) -> float:
        """kWh that can flow between two times."""
        return self.max_kw * (until - since) / HOUR


class Verdict(Enum):
    """What one reading of a register turned out to be."""

    FIRST = "the first of all"
    UNCHANGED = "as before"
    RISE = "energy"
    GLITCH = "one of a few bad values, behind which the register came back"
    RESET = "a new epoch, whose value is energy"
    UNCOUNTED_RESET = "a new epoch with more than can have flowed"
    STEP = "a fall to a lower value, at which it stays"
    LEVEL = "a jump to a higher value, at which it stays"
    UNDECIDED = "out of line; what follows will tell"


class Point(NamedTuple):
    """A reading."""

    at: int
    value: float


class Register(NamedTuple):
    """The state of a register. A tuple, as there is one for each reading."""

    high_water: float
    """The highest accepted value of this epoch."""
    changed_at: int
    """When it last changed."""
    read_at: int
    """When it was last read in line. A glitch tells nothing."""

    def is_in_line(self, point: Point, rule: Rule) -> bool:
        """Measured by the time since the register changed, not since it was read: it may be slow."""
        return self.high_water <= point.value <= self.high_water + rule.max_kwh(self.changed_at, point.at)

    def interval_start(self, at: int, rule: Rule) -> int:
        """Where the interval of a rise begins that is read at `at`."""
        if at - self.read_at > rule.max_gap:
            return self.read_at  # a register tells the energy of a gap
        return max(self.changed_at, at - rule.max_gap)


class JudgedPoint(NamedTuple):
    """A reading with its verdict, and the register before and after it."""

    at: int
    verdict: Verdict
    kwh: float
    since: int | None
    """Start of the interval that it tells, or hides, the energy of."""
    before: Register | None
    after: Register | None
    is_final: bool = True
    """Whether nothing that follows can change it."""


def verdicts(points: Sequence[Point], register: Register | None, *, rule: Rule, now: int) -> list[JudgedPoint]:
    """Every reading, in order of time, from a state on (None: there was none before).

    From the first undecided reading on all are undecided.
    """
    judged: list[JudgedPoint] = []
    for number, point in enumerate(points):
        if number < len(judged):
            continue  # a glitch, judged with the first of its kind
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
            # Where it is the last, the next may still come back.
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
    """The register stays where it is: only what begins again near 0 can be energy."""
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
    """Which reading is back at the high water in one step, behind bad ones that begin with the first.

    It is one within MAX_GAP of the first, or the very next one: who is read every two hours may have a glitch, too.
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
