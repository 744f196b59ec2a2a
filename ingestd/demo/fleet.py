"""A simulated fleet: vehicles that drive, come home and charge, each at a meter of its own."""

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Final

from pydantic_core import to_json

from ingestd.model.stream import METER, VEHICLE
from ingestd.mqtt.publisher import Message

GOOD_EFFICIENCY: Final = (0.88, 0.95)
BAD_EFFICIENCY: Final = 0.78
CHARGING_POWER_KW: Final = (3.7, 7.4, 11.0)
BATTERY_KWH: Final = (40.0, 60.0, 80.0)
DRIVING_POWER_KW: Final = 9.0
FULL_PERCENT: Final = 95.0
LOW_PERCENT: Final = 25.0


class Charger:
    """A meter of the fleet: what it draws is decided by the vehicle at it."""

    def __init__(self, number: int, source: random.Random) -> None:
        self.meter_id = f"meter-{number:04}"
        self._source = source

    def reading(self, at: datetime, ac_kwh: float) -> Message:
        voltage = 230 + self._source.gauss(0, 1.5)
        return METER.topic(self.meter_id), to_json(
            {
                "meterId": self.meter_id,
                "kwhConsumedAc": round(ac_kwh, 5),
                "voltage": round(voltage, 1),
                "timestamp": _moment(at),
            }
        )


class Vehicle:
    """Charges until it is full, drives until its battery is low, and so on."""

    def __init__(self, number: int, source: random.Random, *, efficiency: float) -> None:
        self.vehicle_id = f"EV-{number:04}"
        self._source = source
        self._efficiency = efficiency
        self._power_kw = source.choice(CHARGING_POWER_KW)
        self._battery_kwh = source.choice(BATTERY_KWH)
        self._soc = source.uniform(LOW_PERCENT, FULL_PERCENT)
        self._temperature = source.uniform(15, 25)
        self._charging = True  # from the start, so that every vehicle has something to show

    def step(self, interval: timedelta) -> tuple[float, float]:
        """Simulate one interval; returns (AC drawn from the meter, DC into the battery), both in kWh."""
        hours = interval.total_seconds() / 3600
        if self._charging:
            ac = self._power_kw * hours * self._source.uniform(0.98, 1.0)
            dc = ac * self._efficiency
            self._soc = min(self._soc + 100 * dc / self._battery_kwh, 100.0)
            self._temperature = min(self._temperature + 4 * hours, 38.0)
            self._charging = self._soc < FULL_PERCENT
            return ac, dc
        self._soc = max(self._soc - 100 * DRIVING_POWER_KW * hours / self._battery_kwh, 0.0)
        self._temperature = max(self._temperature - 2 * hours, 12.0)
        self._charging = self._soc <= LOW_PERCENT
        return 0.0, 0.0

    def reading(self, at: datetime, dc_kwh: float) -> Message:
        return VEHICLE.topic(self.vehicle_id), to_json(
            {
                "vehicleId": self.vehicle_id,
                "soc": round(self._soc, 2),
                "kwhDeliveredDc": round(dc_kwh, 5),
                "batteryTemp": round(self._temperature, 1),
                "timestamp": _moment(at),
            }
        )


class Fleet:
    """Meters and vehicles; vehicle n charges at meter n. The first vehicle charges badly, on request."""

    def __init__(self, *, meters: int, vehicles: int, seed: int | None = None, one_is_bad: bool = False) -> None:
        source = random.Random(seed)  # noqa: S311 - a simulation
        self.chargers = [Charger(number, source) for number in range(1, meters + 1)]
        self.vehicles = [
            Vehicle(
                number,
                source,
                efficiency=BAD_EFFICIENCY if one_is_bad and number == 1 else source.uniform(*GOOD_EFFICIENCY),
            )
            for number in range(1, vehicles + 1)
        ]

    def readings(self, at: datetime, interval: timedelta) -> Iterator[Message]:
        """One reading of every device for the interval that ends at `at`. Run once for each interval."""
        for charger, vehicle in zip_longest(self.chargers, self.vehicles):
            ac, dc = vehicle.step(interval) if vehicle else (0.0, 0.0)
            if charger:
                yield charger.reading(at, ac)
            if vehicle:
                yield vehicle.reading(at, dc)

    def past(self, *, until: datetime, span: timedelta, interval: timedelta) -> Iterator[Message]:
        """All readings of the `span` before `until`, oldest first."""
        for number in range(span // interval):
            yield from self.readings(until - span + (number + 1) * interval, interval)


def faults(at: datetime, *, number: int) -> Iterator[Message]:
    """What goes wrong around a fleet: a further meter reports once and never again, and a message is no reading."""
    silent = Charger(number, random.Random())  # noqa: S311 - a simulation
    yield silent.reading(at, 0.0)
    topic, payload = Charger(1, random.Random()).reading(at, 0.0)  # noqa: S311 - a simulation
    yield topic, payload.replace(b'"voltage":', b'"volts":')


def _moment(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
