"""What is past its retention goes, by the database's clock."""

from datetime import timedelta
from functools import partial

import structlog

from ingestd.errors import StoreError
from ingestd.store.clocks import Clocks
from ingestd.store.dead_letters import DeadLetters
from ingestd.store.partitions import Partitions
from ingestd.telemetry import STREAMS

log = structlog.get_logger(__name__)


class Retention:
    """History by days, their rollups, dead letters; what has no retention stays for ever."""

    def __init__(
        self,
        *,
        clocks: Clocks,
        partitions: Partitions,
        dead_letters: DeadLetters,
        history: timedelta | None,
        rollups: timedelta | None,
        dead_letters_kept: timedelta,
    ) -> None:
        self._clocks = clocks
        self._chores = [partial(dead_letters.expire, older_than=dead_letters_kept)]
        for stream in STREAMS:
            if history is not None:
                self._chores.append(partial(partitions.drop, stream, older_than=history))
            if rollups is not None:
                self._chores.append(partial(partitions.delete_rollups, stream, older_than=rollups))

    async def apply(self) -> bool:
        """One round, unless the clocks differ; False where something is left to be tried again soon.

        Raises StoreError.
        """
        is_done = await self._clocks.agree()
        for chore in self._chores if is_done else ():
            try:
                await chore()
            except StoreError as error:
                is_done = False
                log.warning("retention is not applied; tried again soon", reason=str(error))
        return is_done
