"""The parts of the daemon that write, close quarters of the ledger and read, around one database."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import psycopg

from ingestd.model.device import DeviceSettings
from ingestd.model.efficiency import EfficiencyPolicy
from ingestd.model.periods import TimeRange
from ingestd.model.register import Rule
from ingestd.model.stream import METER, STREAMS, VEHICLE
from ingestd.pipeline.delivery import Batch
from ingestd.store.closing import Closing
from ingestd.store.device_settings import DeviceSettingsTable
from ingestd.store.fleet import Fleet
from ingestd.store.ledger_snapshot import LedgerSnapshots
from ingestd.store.mappings import Mappings
from ingestd.store.performance import Performances
from ingestd.store.pool import Pool
from ingestd.store.writer import Writer
from tests.fakes import FakeOrigin
from tests.support.deliveries import delivery_of
from tests.support.polling import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime

    from ingestd.model.answers import Performance
    from ingestd.model.stream import Stream
    from tests.support.energy import Sample

HOUR = timedelta(hours=1)
POLICY = EfficiencyPolicy(threshold=0.85, min_kwh=0.5, min_share=0.5, session_min_kw=0.3)


class Harness:
    """A test writes readings into it, and reads figures from it."""

    def __init__(
        self,
        url: str,
        *,
        max_kw: float = 400,
        max_gap: timedelta = HOUR,
        policy: EfficiencyPolicy = POLICY,
        history: timedelta | None = None,
    ) -> None:
        self.url = url
        self.rules = dict.fromkeys(STREAMS, Rule(max_kw=max_kw, max_gap=max_gap // timedelta(microseconds=1)))
        self.writer = Writer(url)
        self.closing = Closing(url, rules=self.rules)
        self.pool = Pool(url)
        self.snapshots = self.kept(history)
        self.performances = Performances(self.snapshots, policy=policy)
        self.fleet = Fleet(self.snapshots, policy=policy)
        self.mappings = Mappings(self.pool)
        self.settings = DeviceSettingsTable(self.pool)

    def kept(self, history: timedelta | None, *, ledger: timedelta | None = None) -> LedgerSnapshots:
        """Where readings and rows are kept for so long."""
        return LedgerSnapshots(self.pool, rules=self.rules, history=history, ledger=ledger)

    async def write(self, *, meters: Sequence[Sample] = (), vehicles: Sequence[Sample] = ()) -> None:
        delivery = delivery_of(
            FakeOrigin(),
            meters=[sample.row(METER) for sample in meters],
            vehicles=[sample.row(VEHICLE) for sample in vehicles],
        )
        await self.writer.write(Batch.of([delivery]))

    async def map(self, vehicle: str, meter: str, since: datetime, until: datetime | None = None) -> None:
        await self.mappings.set(
            vehicle_id=vehicle, meter_id=meter, valid_from=since, valid_to=until, replace=False, who="test"
        )

    async def set(
        self,
        stream: Stream,
        device: str,
        *,
        threshold: float | None = None,
        offline_after: timedelta | None = None,
        max_kw: float | None = None,
    ) -> None:
        """A device's own settings, in place of those that it had."""
        await self.settings.set(
            stream, device, DeviceSettings(threshold=threshold, offline_after=offline_after, max_kw=max_kw), who="test"
        )

    async def performance(self, vehicle: str, start: datetime, end: datetime) -> Performance:
        found = await self.performances.of_vehicle(vehicle, TimeRange(start=start, end=end))
        assert found is not None
        return found

    async def close(self, now: datetime) -> None:
        """Every quarter that is over at `now`; what is stale by then is made anew."""
        await eventually(partial(self._is_closed, now))

    async def _is_closed(self, now: datetime) -> bool:
        await self.closing.catch_up(now)
        return not self.stale_devices(now)

    def stale_devices(self, now: datetime) -> frozenset[str]:
        """Those with quarters that are due."""
        with psycopg.connect(self.url) as connection:
            found = [
                connection.execute(
                    f"SELECT {stream.id_column} FROM {stream.name}_stale WHERE due <= %(now)s AND start <"  # noqa: S608
                    " (SELECT min(made_until) FROM ledger_share WHERE stream = %(stream)s)".encode(),
                    {"now": now, "stream": stream.name},
                ).fetchall()
                for stream in STREAMS
            ]
        return frozenset(device for rows in found for (device,) in rows)

    def clear(self) -> None:
        """Delete all readings and rows."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            tables = [
                f"{stream.name}_{kind}"
                for stream in STREAMS
                for kind in ("history", "live", "quarter", "hour", "stale")
            ]
            connection.execute(f"TRUNCATE vehicle_meter_mapping, device_setting, {', '.join(tables)}".encode())
            connection.execute("UPDATE ledger SET closed_until = '-infinity'")
            connection.execute("UPDATE ledger_share SET made_until = '-infinity'")


@asynccontextmanager
async def opened(
    url: str,
    *,
    max_kw: float = 400,
    max_gap: timedelta = HOUR,
    policy: EfficiencyPolicy = POLICY,
    history: timedelta | None = None,
) -> AsyncIterator[Harness]:
    harness = Harness(url, max_kw=max_kw, max_gap=max_gap, policy=policy, history=history)
    await harness.writer.open()
    try:
        await harness.pool.open()
        yield harness
    finally:
        await harness.closing.close()
        await harness.pool.close()
        await harness.writer.close()
