"""All of the daemon that connects to a database: made from the settings, opened and closed together."""

import asyncio
from contextlib import AsyncExitStack, nullcontext
from typing import Final

from ingestd.archive.archive import Archive
from ingestd.config import Settings
from ingestd.meanings import energy_rules
from ingestd.store.archiving import Archiving
from ingestd.store.clocks import Clocks
from ingestd.store.closing import Closing
from ingestd.store.dead_letters import DeadLetters
from ingestd.store.exports import Exports
from ingestd.store.ledger_snapshot import LedgerSnapshots
from ingestd.store.partitions import Partitions
from ingestd.store.pool import Pool
from ingestd.store.replica import Replica, ReplicaPool, of_replica
from ingestd.store.retention import Retention
from ingestd.store.session_locks import SessionLocks
from ingestd.store.writer import Writer

HEALTH_SECONDS: Final = 2.0
"""A database that takes longer to answer is not healthy."""


class Databases:
    """The database that is written to, the replica for reading if there is one, and the archive."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.dsn = settings.database_url.get_secret_value()
        self.writer = Writer(self.dsn)
        self.archive = Archive(settings.archive_dir) if settings.archive_dir else None
        self.archiving = Archiving(self.archive, settings.owner_dsn) if self.archive else None
        self.partitions = Partitions(self.dsn, owner=settings.owner_dsn, archiving=self.archiving)
        self.locks = SessionLocks(self.dsn, daemon=settings.mqtt_client_id, shared_group=settings.mqtt_shared_group)
        self.closing = Closing(self.dsn, rules=energy_rules(settings), flush_interval=settings.flush_interval)
        self.pool = Pool(self.dsn)
        # Pools of their own: requests that use up the other one neither stop the alerts nor look like an outage.
        self.health = Pool(self.dsn, application_name="ingestd-health", connections=1, seconds=HEALTH_SECONDS)
        self.background = Pool(self.dsn, application_name="ingestd-background", connections=2)
        self.replica: Replica | None = None
        self.reads = self.pool
        """For what the replica answers, if there is one."""
        if settings.read_database_url is not None:
            self.replica = Replica(settings.read_dsn, primary=self.background)
            self.reads = ReplicaPool(settings.read_dsn, replica=self.replica)
        self.clocks = Clocks(self.background)
        self.retention = Retention(
            clocks=self.clocks,
            partitions=self.partitions,
            dead_letters=DeadLetters(self.background),
            history=settings.retention,
            ledger=settings.rollup_retention,
            dead_letters_kept=settings.dead_letter_retention,
        )

    def snapshots(self, pool: Pool) -> LedgerSnapshots:
        settings = self._settings
        return LedgerSnapshots(
            pool, rules=energy_rules(settings), history=settings.retention, ledger=settings.rollup_retention
        )

    def exports(self) -> Exports:
        return Exports(
            self._settings.read_dsn, archive=self.archive, errors=of_replica if self.replica else nullcontext
        )

    async def open(self, resources: AsyncExitStack) -> None:
        """`resources` closes all in the opposite order. Raises StoreError."""
        resources.push_async_callback(self.writer.close)
        await self.writer.open()
        await self.partitions.make_ahead()
        async with asyncio.TaskGroup() as opening:  # at once, as a host may be silent for a while
            for pool in {self.pool, self.health, self.background, self.reads}:
                resources.push_async_callback(pool.close)
                opening.create_task(pool.open())
        if self.replica is not None:
            resources.push_async_callback(self.replica.close)
            await self.replica.open()
        resources.push_async_callback(self.locks.close)
        resources.push_async_callback(self.closing.close)

    def cut(self) -> None:
        """Leave a server that may hang, as another may have taken its place. Nobody waits for the old one."""
        self.writer.cut()
        self.closing.cut()
