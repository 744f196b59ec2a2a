"""Deletes data that is past its retention, by the database's clock."""

from datetime import timedelta
from functools import partial

from ingestd.errors import ArchiveError, StoreError, TransientStoreError
from ingestd.model.stream import STREAMS, WITH_ENERGY
from ingestd.store.clocks import Clocks
from ingestd.store.dead_letters import DeadLetters
from ingestd.store.partitions import Partitions


class Retention:
    """Drops history by days and the ledger by months, and deletes dead letters. None: nothing is dropped."""

    def __init__(
        self,
        *,
        clocks: Clocks,
        partitions: Partitions,
        dead_letters: DeadLetters,
        history: timedelta | None,
        ledger: timedelta | None,
        dead_letters_kept: timedelta,
    ) -> None:
        self._clocks = clocks
        self._tasks = [partial(dead_letters.expire, older_than=dead_letters_kept)]
        for stream in STREAMS:
            if history is not None:
                self._tasks.append(partial(partitions.drop_days, stream, older_than=history))
            if ledger is not None and stream in WITH_ENERGY:
                self._tasks.append(partial(partitions.drop_months, stream, older_than=ledger))

    async def apply(self) -> None:
        """Delete all that is past its retention. Raises StoreError if some of it failed, or if the clocks differ."""
        if not await self._clocks.agree():
            raise TransientStoreError("nothing is deleted while the clocks differ")
        left = []
        for task in self._tasks:
            try:
                await task()
            except (ArchiveError, StoreError) as error:
                left.append(str(error))
        if left:
            raise TransientStoreError("; ".join(left))
