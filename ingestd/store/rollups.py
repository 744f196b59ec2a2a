"""Keeps the rollups up with the readings, a quarter of an hour at a time, and sums of what came since.

Either is first announced: readings that are stored from then on and belong before its end say that they are
late. Only then is it summed up, so that every reading is either in the sums or marked. Readers trust a device's
rollups up to `settled` or its first late day, and take the rest from history; they are right at every moment.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog
from psycopg.rows import namedtuple_row

from ingestd.store import queries
from ingestd.store.database import Connection, bounded, closed_on_error, connect, translated
from ingestd.store.energy import QUARTER, quarter_before, quarter_number
from ingestd.telemetry import STREAMS, Stream

log = structlog.get_logger(__name__)

LAG: Final = timedelta(seconds=60)
"""A quarter is rolled up this long after its end: readings that come later than that cost a second look."""
RECENT: Final = timedelta(minutes=2)
"""How often what came since the last quarter is summed up: for half of what rolling up a quarter costs."""
MOST_LATE: Final = 2000
"""Device-days done over again in one transaction."""
STEP_SECONDS: Final = 300.0
LOCK_TIMEOUT: Final = "2s"

_ROLLUP: Final = queries.load("rollup.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far one stream's rollups are; None where nothing was rolled up yet."""

    announced: datetime | None
    settled: datetime | None
    plausible_kw: float | None
    late: bool
    resume: datetime | None
    """From when on there is history that is not rolled up; None where there is none at all."""

    def next(self, horizon: datetime) -> datetime:
        """Up to where to go: a quarter of an hour on, or over a stretch without partitions; not past the horizon."""
        assert self.settled is not None  # noqa: S101 - asked only once something is settled
        resume = horizon if self.resume is None else self.resume
        return max(self.settled, min(horizon, resume if resume > self.settled else self.settled + QUARTER))


class Rollups:
    """One connection that makes rollups; every method raises StoreError."""

    def __init__(self, dsn: str, *, plausible_kw: float) -> None:
        self._dsn = dsn
        self._plausible_kw = plausible_kw
        self._connection: Connection | None = None
        self._sql = {
            stream: {name: queries.for_stream(statement, stream) for name, statement in _ROLLUP.items()}
            for stream in STREAMS
        }

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def catch_up(self, now: datetime | None = None, *, arriving: datetime | None = None) -> None:
        """Roll up every quarter that is over at `now`, and what came late before it; sum up what came since.

        Nothing from `arriving` on: where a backlog comes in, all that is left of it would be late.
        """
        over = (now or datetime.now(UTC)) - LAG
        if arriving is not None:
            over = min(over, arriving)
        for stream in STREAMS:
            while await self._step(stream, quarter_before(over)):
                pass
            await self._keep_recent(stream, over)

    async def _step(self, stream: Stream, horizon: datetime) -> bool:
        """One stretch of one stream; returns whether there is more to do."""
        with translated():
            connection = await self._connected()
            async with bounded(connection, STEP_SECONDS):
                progress = await self._progress(connection, stream)
                if progress.plausible_kw != self._plausible_kw:
                    await self._execute(connection, stream, "start_again", plausible_kw=self._plausible_kw)
                    return True
                if progress.settled is None:
                    return await self._begin(connection, stream)
                until = progress.next(horizon)
                if until == progress.settled and not progress.late:
                    return False
                if progress.announced is None or until > progress.announced:
                    # Looked at again afterwards: what was under way is committed then, and its partitions are there.
                    await self._announce(connection, stream, until)
                    return True
                await self._move_on(
                    connection,
                    stream,
                    "roll_up",
                    progress.settled,
                    until=until,
                    number=quarter_number(progress.settled),
                    most_late=MOST_LATE,
                    plausible_kw=self._plausible_kw,
                )
                return until < horizon

    async def _keep_recent(self, stream: Stream, over: datetime) -> None:
        """Sum up what came since the last quarter, unless that was done a moment ago."""
        with translated():
            connection = await self._connected()
            async with bounded(connection, STEP_SECONDS):
                progress = await self._progress(connection, stream)
                if progress.settled is None or progress.announced is None:
                    return
                until = over - (over - progress.settled) % RECENT
                if until > progress.announced:
                    await self._announce(connection, stream, until)
                    await self._move_on(connection, stream, "sum_up_recent", progress.settled, until=until)

    async def _announce(self, connection: Connection, stream: Stream, until: datetime) -> None:
        async with connection.transaction():
            await self._execute(connection, stream, "hold_announcements")
            await self._execute(connection, stream, "announce", until=until)

    async def _begin(self, connection: Connection, stream: Stream) -> bool:
        async with connection.transaction():
            await self._execute(connection, stream, "hold_announcements")
            # Read again under the lock: whatever was under way is committed now, and its partitions there.
            resume = (await self._progress(connection, stream)).resume
            if resume is None:
                return False
            await self._execute(connection, stream, "begin", **{"from": resume})
        log.info("rollups begin", stream=stream.name, since=f"{resume:%F}")
        return True

    async def _move_on(
        self, connection: Connection, stream: Stream, name: str, settled: datetime, **parameters: object
    ) -> None:
        """Execute what goes on from `settled`, unless another daemon was faster."""
        async with connection.transaction():
            cursor = await self._execute(connection, stream, "only_one")
            if (await cursor.fetchone()) == (settled,):
                await self._execute(connection, stream, name, settled=settled, **parameters)

    async def _progress(self, connection: Connection, stream: Stream) -> Progress:
        async with connection.cursor(row_factory=namedtuple_row) as cursor:
            await cursor.execute(self._sql[stream]["progress"])
            (row,) = await cursor.fetchall()
        return Progress(**row._asdict())

    async def _execute(self, connection: Connection, stream: Stream, name: str, **parameters: Any) -> Any:  # noqa: ANN401 - a psycopg cursor, and whatever it binds
        return await connection.execute(self._sql[stream][name], parameters)

    async def _connected(self) -> Connection:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        connection = await connect(self._dsn, application_name="ingestd-rollups")
        async with closed_on_error(connection):
            # Whoever holds a table for longer is let go first; a quarter of ten thousand devices fits into memory.
            for setting in (f"lock_timeout = '{LOCK_TIMEOUT}'", "work_mem = '64MB'", "jit = off"):
                await connection.execute(f"SET {setting}".encode())
            # What was committed while the announcement's lock was waited for has to be seen.
            await connection.execute("SET default_transaction_isolation = 'read committed'")
            # The newest quarter is younger than all statistics, so no reading of it is expected: nested loops would
            # compare every device with every other. Where they are wanted, the statement leaves no other way.
            await connection.execute("SET enable_nestloop = off")
            # A plan for the very moments asked for leaves out all partitions but theirs.
            await connection.execute("SET plan_cache_mode = force_custom_plan")
        self._connection = connection
        return connection
