"""The replica for reading: a standby that answers what need not be of this moment, and how far it is behind.

Each second the primary is asked how far its log goes, and the replica how far it shows the log. So the moment is known
up to which the replica shows all that was committed. Nothing is written for that, and it holds while nothing changes.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog
from psycopg import errors

from ingestd.errors import ReplicaConflictError, ReplicaError, StoreError
from ingestd.store import queries
from ingestd.store.connection import Connection
from ingestd.store.pool import Pool, Snapshot
from ingestd.store.positions import Positions
from ingestd.store.queries import Statement

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 2.0
"""A replica that takes longer to say how far it is does not answer."""
BEHIND: Final = timedelta(seconds=60)
"""A replica that is further behind is shown in `/health`."""
ATTEMPTS: Final = 3
"""So often a query is made that replication has ended."""

_SQL: Final = {name: queries.ready(source) for name, source in queries.load("replica.sql").items()}


class Replica:
    """Whether the replica answers, and what it shows; asked again each second."""

    def __init__(self, dsn: str, *, primary: Pool) -> None:
        """Raises StoreError if `dsn` cannot be parsed."""
        self._primary = primary
        self._looks = Pool(
            dsn, application_name="ingestd-replica", connections=1, seconds=ANSWER_SECONDS, waits_for_server=False
        )
        self._positions = Positions()
        self._is_behind = False
        self.away: str | None = None
        """Why it does not answer; None if it does."""
        self.shown_until: datetime | None = None
        """What was committed after this may not be shown; None: it is not known what is shown."""

    @property
    def lag(self) -> timedelta | None:
        """None: it is not known."""
        return None if self.shown_until is None else max(datetime.now(UTC) - self.shown_until, timedelta(0))

    @property
    def reason(self) -> str | None:
        """What is wrong with it; None if nothing is."""
        if self.away is not None:
            return self.away
        lag = self.lag
        if lag is None:
            return "it is not known how far it is behind"
        return f"{lag.total_seconds():.0f} s behind" if lag > BEHIND else None

    async def open(self) -> None:
        """Does not wait for the replica, and looks once."""
        await self._looks.open()
        await self._look()

    async def close(self) -> None:
        await self._looks.close()

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self._look()

    def as_of(self, position: int | None, committed_at: datetime | None) -> datetime | None:
        """What a server of this position shows, whose last transaction was committed at `committed_at`."""
        return (None if position is None else self._positions.reached_at(position)) or committed_at

    async def _look(self) -> None:
        async with asyncio.TaskGroup() as looking:
            looking.create_task(self._look_at_primary(), name="position-of-primary")
            looking.create_task(self._look_at_replica(), name="position-of-replica")

    async def _look_at_primary(self) -> None:
        asked_at = datetime.now(UTC)
        try:
            (row,) = await self._primary.fetch(_SQL["primary_position"], {})
        except StoreError:
            return  # others log the outage
        self._positions.note(row.position, asked_at)

    async def _look_at_replica(self) -> None:
        try:
            (row,) = await self._looks.fetch(_SQL["replica_position"], {})
        except StoreError as error:
            if self.away is None:
                log.warning("replica_away", reason=str(error))
            self.away = str(error)
            return
        if self.away is not None:
            log.info("replica_back", reason=self.away)
            self.away = None
        self.shown_until = self.as_of(row.position, row.committed_at) or self.shown_until
        self._note_lag()

    def _note_lag(self) -> None:
        lag = self.lag
        is_behind = lag is not None and lag > BEHIND
        if lag is not None and is_behind and not self._is_behind:
            log.warning("replica_behind", seconds=round(lag.total_seconds(), 1))
        elif lag is not None and self._is_behind and not is_behind:
            log.info("replica_caught_up", seconds=round(lag.total_seconds(), 1))
        self._is_behind = is_behind


class ReplicaPool(Pool):
    """Connections to the replica. Raises ReplicaError, at once while the replica is away."""

    def __init__(self, dsn: str, *, replica: Replica) -> None:
        super().__init__(dsn, waits_for_server=False)
        self._replica = replica

    @property
    def shown_until(self) -> datetime | None:
        return self._replica.shown_until

    async def fetch(self, statement: Statement, parameters: Mapping[str, object]) -> list[Any]:
        """A query that replication has ended is made again."""
        for _ in range(ATTEMPTS - 1):
            with suppress(ReplicaConflictError), self._answering():
                return await super().fetch(statement, parameters)
        with self._answering():
            return await super().fetch(statement, parameters)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        with self._answering():
            async with super().snapshot() as snapshot:
                yield snapshot

    async def _as_of(self, connection: Connection) -> datetime:
        (row,) = await Snapshot(connection).fetch(_SQL["replica_position"], {})
        as_of = self._replica.as_of(row.position, row.committed_at)
        if as_of is None:
            raise ReplicaError("it is not known how far the replica is behind")
        return as_of

    @contextmanager
    def _answering(self) -> Iterator[None]:
        if self._replica.away is not None:
            raise ReplicaError(self._replica.away)
        with of_replica():
            yield


@contextmanager
def of_replica() -> Iterator[None]:
    """Raises the errors of the replica as ReplicaError."""
    try:
        yield
    except ReplicaError:
        raise
    except StoreError as error:
        kind = ReplicaConflictError if _is_conflict(error) else ReplicaError
        raise kind(str(error)) from error


def _is_conflict(error: StoreError) -> bool:
    """PostgreSQL manual, 26.4.2. Nothing else fails so in a transaction that only reads."""
    return isinstance(error.__cause__, errors.SerializationFailure | errors.DeadlockDetected)
