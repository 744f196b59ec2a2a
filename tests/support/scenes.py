"""Cases for the ledger: what devices sent, and the right answers; asked at several stages of closing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from ingestd.model.stream import VEHICLE
from tests.support.energy import Sample
from tests.support.harness import opened

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from ingestd.model.answers import Performance
    from tests.support.harness import Harness

T = TypeVar("T")
Figures: TypeAlias = dict[str, Any]

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
QUARTER = timedelta(minutes=15)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
BEGIN = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - 4 * DAY
"""A day in the past."""
LATER = BEGIN + 2 * DAY + 3 * HOUR
"""A time when all scenes have ended and can be closed."""
WAYS: Final = ("open", "half closed", "closed", "late", "made anew")
"""Nothing is closed; a part of it; all; some readings came when all was closed; and these were worked off."""


def at(hour: float, minute: float = 0) -> datetime:
    return BEGIN + hour * HOUR + minute * MINUTE


def intervals(device: str, start: datetime, end: datetime, every: timedelta, kwh: float) -> list[Sample]:
    """Interval readings after start, up to and with end."""
    numbers = range(1, (end - start) // every + 1)
    return [Sample(device=device, at=start + number * every, interval=kwh) for number in numbers]


def register(device: str, *values: float, start: datetime, every: timedelta = MINUTE) -> list[Sample]:
    """A register's readings from start on."""
    return [Sample(device=device, at=start + number * every, register=value) for number, value in enumerate(values)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """A segment of the mapping."""

    vehicle: str = "v"
    meter: str = "m"
    since: datetime = BEGIN
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What devices sent. Their names are the scene's own."""

    vehicles: Sequence[Sample] = ()
    meters: Sequence[Sample] = ()
    mapped: Sequence[Mapped] = (Mapped(),)
    vehicle_max_kw: Mapping[str, float] = field(default_factory=dict)

    def of(self, name: str) -> Scene:
        """The same under a name."""
        return Scene(
            vehicles=[replace(one, device=f"{name}.{one.device}") for one in self.vehicles],
            meters=[replace(one, device=f"{name}.{one.device}") for one in self.meters],
            mapped=[replace(one, vehicle=f"{name}.{one.vehicle}", meter=f"{name}.{one.meter}") for one in self.mapped],
            vehicle_max_kw={f"{name}.{vehicle}": max_kw for vehicle, max_kw in self.vehicle_max_kw.items()},
        )

    def some(self, *, late: bool) -> Scene:
        """Every third reading, or all others."""
        return replace(
            self,
            vehicles=[one for number, one in enumerate(self.vehicles) if (number % 3 == 1) is late],
            meters=[one for number, one in enumerate(self.meters) if (number % 3 == 1) is late],
        )

    async def play(self, harness: Harness) -> None:
        await harness.write(vehicles=self.vehicles, meters=self.meters)
        for one in self.mapped:
            await harness.map(one.vehicle, one.meter, one.since, one.until)
        for vehicle, max_kw in self.vehicle_max_kw.items():
            await harness.set(VEHICLE, vehicle, max_kw=max_kw)


async def told(
    harness: Harness, scenes: Mapping[str, Scene], ask: Callable[[str, str], Awaitable[T]]
) -> dict[tuple[str, str], T]:
    """What `ask` says of each scene in each of the ways; it is told the scene and how its devices are named."""
    found: dict[tuple[str, str], T] = {}

    async def ask_all(way: str, suffix: str = "") -> None:
        for name in scenes:
            found[name, way] = await ask(name, f"{name}{suffix}")

    late = {name: scene.of(f"{name}.late") for name, scene in scenes.items()}
    for name, scene in scenes.items():
        await scene.of(name).play(harness)
        await late[name].some(late=False).play(harness)
    await ask_all("open")
    await harness.close(at(12))
    await ask_all("half closed")
    await harness.close(LATER)
    await ask_all("closed")
    for scene in late.values():
        some = scene.some(late=True)
        for number in (1, 0):  # in no order
            await harness.write(vehicles=some.vehicles[number::2], meters=some.meters[number::2])
        await harness.write(vehicles=some.vehicles, meters=some.meters)
    assert harness.stale_devices(LATER)
    await ask_all("late", ".late")
    await harness.close(LATER)
    await ask_all("made anew", ".late")
    return found


def figures(found: Performance) -> Figures:
    """All that a performance says, without the last digits of sums."""
    compared = found.compared
    return {
        "ac": _rounded(found.ac_kwh),
        "dc": _rounded(found.dc_kwh),
        "ratio": _rounded(found.efficiency_ratio),
        "status": found.judgement.status,
        "compared": compared and (_rounded(compared.ac), _rounded(compared.dc)),
        "share": compared and _rounded(compared.share),
        "coverage": _rounded(found.coverage),
        "gaps": (found.gaps, found.longest_gap),
        "samples": (found.samples, found.meter_samples),
        "resets": found.resets,
        "excluded": found.excluded,
        "temperature": _rounded(found.average_temperature),
        "meters": [
            (meter.valid.start, meter.valid.end, _rounded(meter.ac_kwh), meter.samples, meter.shared)
            for meter in found.meters
        ],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question, and what is right of its answer."""

    start: datetime
    end: datetime
    vehicle: str
    right: Figures


def asked(start: float = 0, end: float = 24, *, of: str = "v", **right: Any) -> Asked:  # noqa: ANN401 - figures of all kinds
    """Of hours of the day; the whole day where it does not say."""
    return Asked(start=at(start), end=at(end), vehicle=of, right=right)


Cases: TypeAlias = "Mapping[str, tuple[Scene, Sequence[Asked]]]"
"""By name: what devices sent, and what is asked of it."""
Answers: TypeAlias = dict[tuple[str, str], list[Figures]]
"""By case and way."""


def answered(url: str, cases: Cases) -> Answers:
    """All that is asked, in each of the ways; of all cases at once, as closing takes its time."""

    async def run() -> Answers:
        async with opened(url) as harness:
            names = {str(number): name for number, name in enumerate(cases)}

            async def ask(number: str, prefix: str) -> list[Figures]:
                return [
                    figures(await harness.performance(f"{prefix}.{one.vehicle}", one.start, one.end))
                    for one in cases[names[number]][1]
                ]

            found = await told(harness, {number: cases[name][0] for number, name in names.items()}, ask)
        return {(names[number], way): answers for (number, way), answers in found.items()}

    return asyncio.run(run())
