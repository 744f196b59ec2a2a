"""The parts of the daemon that write, roll up and read, around one database; without broker and HTTP."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg

from ingestd.analytics import Judgement, TimeRange
from ingestd.pipeline.delivery import Batch
from ingestd.store.database import Reads
from ingestd.store.energy import quarter_before
from ingestd.store.mappings import Mappings
from ingestd.store.reads import Analytics
from ingestd.store.rollups import Rollups
from ingestd.store.writer import Writer
from ingestd.telemetry import METER, STREAMS, VEHICLE
from tests.fakes import FakeOrigin
from tests.support.deliveries import delivery_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime

    from ingestd.analytics import FleetEnergy, Performance
    from tests.support.energy import Sample

PLAUSIBLE_KW = 400.0
JUDGEMENT = Judgement(threshold=0.85, min_kwh=0.5, min_coverage=0.2, plausible_kw=PLAUSIBLE_KW)


class House:
    """What a test writes into and reads from."""

    def __init__(self, url: str, *, plausible_kw: float = PLAUSIBLE_KW) -> None:
        self.url = url
        self.writer = Writer(url)
        self.plausible_kw = plausible_kw
        self.rollups = Rollups(url, plausible_kw=plausible_kw)
        self.reads = Reads(url)
        self.analytics = Analytics(self.reads, judgement=replace(JUDGEMENT, plausible_kw=plausible_kw))
        self.mappings = Mappings(self.reads)

    async def write(self, *, meters: Sequence[Sample] = (), vehicles: Sequence[Sample] = ()) -> None:
        delivery = delivery_of(
            FakeOrigin(),
            meters=[sample.row(METER) for sample in meters],
            vehicles=[sample.row(VEHICLE) for sample in vehicles],
        )
        await self.writer.write(Batch.of([delivery]))

    async def map(self, vehicle: str, meter: str, since: datetime, until: datetime | None = None) -> None:
        await self.mappings.set(vehicle_id=vehicle, meter_id=meter, valid_from=since, valid_to=until, replace=False)

    async def performance(self, vehicle: str, start: datetime, end: datetime) -> Performance:
        found = await self.analytics.performance(vehicle, TimeRange(start=start, end=end))
        assert found is not None
        return found

    async def fleet(self, start: datetime, end: datetime) -> FleetEnergy:
        return await self.analytics.fleet(TimeRange(start=start, end=end))

    def clear(self) -> None:
        """As if nothing had ever been written."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            tables = [
                f"{stream.name}_{kind}" for stream in STREAMS for kind in ("history", "live", "day", "late", "belated")
            ]
            connection.execute(
                f"TRUNCATE vehicle_meter_mapping, device_setting, running_total, {', '.join(tables)}".encode()
            )
            connection.execute("UPDATE rollup SET settled = '-infinity', announced = '-infinity'")
            connection.execute("UPDATE roster SET ids = '{}'")

    def quiet_until(self, moment: datetime) -> None:
        """As if all up to this quarter of an hour was rolled up, and nothing had been sent."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(
                "UPDATE rollup SET settled = %(quarter)s, announced = %(quarter)s, plausible_kw = %(plausible_kw)s",
                {"quarter": quarter_before(moment), "plausible_kw": self.plausible_kw},
            )


@asynccontextmanager
async def opened(url: str, *, plausible_kw: float = PLAUSIBLE_KW) -> AsyncIterator[House]:
    house = House(url, plausible_kw=plausible_kw)
    await house.writer.open()
    try:
        await house.reads.open()
        yield house
    finally:
        await house.rollups.close()
        await house.reads.close()
        await house.writer.close()
