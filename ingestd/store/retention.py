"""What is past its retention goes, by the database's clock."""

from datetime import timedelta
from functools import partial

from ingestd.errors import StoreError, TransientStoreError
from ingestd.model.stream import STREAMS, WITH_ENERGY
from ingestd.store.clocks import Clocks
from ingestd.store.dead_letters import DeadLetters
from ingestd.store.partitions import Partitions


class Retention:
    """History by days, the ledger by months, dead letters; what has no retention stays for ever."""

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
        self._chores = [partial(dead_letters.expire, older_than=dead_letters_kept)]
        for stream in STREAMS:
            if history is not None:
                self._chores.append(partial(partitions.drop_days, stream, older_than=history))
            if ledger is not None and stream in WITH_ENERGY:
                self._chores.append(partial(partitions.drop_months, stream, older_than=ledger))

    async def apply(self) -> None:
        """One round. Raises StoreError where something is left to be tried again soon: all, while the clocks differ."""
        if not await self._clocks.agree():
            raise TransientStoreError("nothing is deleted while the clocks differ")
        left = []
        for chore in self._chores:
            try:
                await chore()
            except StoreError as error:
                left.append(str(error))
        if left:
            raise TransientStoreError("; ".join(left))
