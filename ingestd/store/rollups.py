"""Keeps the rollups up with the readings, a quarter of an hour at a time, and the running totals.

Either is first announced: readings that are stored from then on and belong before its end say that they are
late. Only then is it summed up, so that every reading is either in the sums or beside them. Readers trust a device's
rollups up to `settled` or its first late day, and take the rest from history; they add what is belated to the totals.
So they are right at every moment.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog
from psycopg.rows import namedtuple_row

from ingestd.store import queries
from ingestd.store.database import Connection, bounded, closed_on_error, connect, translated
from ingestd.store.energy import QUARTER, TOTALS_REACH, quarter_before, quarter_number
from ingestd.telemetry import STREAMS, Stream

log = structlog.get_logger(__name__)

LAG: Final = timedelta(seconds=60)
"""A quarter is rolled up this long after its end: readings that come later than that cost a second look."""
TOTALS_LAG: Final = timedelta(seconds=5)
"""Running totals hold nothing younger: readings that come later than that are kept once more, beside them."""
TOTALS_KEPT: Final = TOTALS_REACH + timedelta(hours=1)
TOTALS_GRAIN: Final = timedelta(seconds=10)
MOST_LATE: Final = 2000
"""Device-days done over again in one transaction."""
STEP_SECONDS: Final = 300.0
LOCK_TIMEOUT: Final = "2s"

_ROLLUP: Final = queries.load("rollup.sql")
_TOTALS: Final = queries.load("totals.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far one stream's rollups are; None where nothing was rolled up yet."""

    announced: datetime | None
    settled: datetime | None
    plausible_kw: float | None
    counted: datetime | None
    """Up to where the running totals are."""
    pace: timedelta | None
    """In how long the next totals become worth their room, as it was of late; None where there are none yet."""
    worth: int
    """How many readings are worth the next totals: two of each device."""
    stored: int
    """How many readings were stored so far, as PostgreSQL's statistics count them: to tell differences by."""
    belated: bool
    """Whether there are readings beside the running totals."""
    late: bool
    resume: datetime | None
    """From when on there is history that is not rolled up; None where there is none at all."""

    def next(self, horizon: datetime) -> datetime:
        """Up to where to go: a quarter of an hour on, or over a stretch without partitions; not past the horizon."""
        assert self.settled is not None  # noqa: S101 - asked only once something is settled
        resume = horizon if self.resume is None else self.resume
        return max(self.settled, min(horizon, resume if resume > self.settled else self.settled + QUARTER))

    def next_totals(self, horizon: datetime, *, arrived: int) -> datetime:
        """Up to where the next running totals go, once the horizon is there: a quarter of an hour on at the most.

        What has arrived faster than of late is not waited for.
        """
        assert self.counted is not None  # noqa: S101 - asked only once they have begun
        assert self.pace is not None  # noqa: S101
        step = self.pace + TOTALS_GRAIN / 2 if arrived < max(1, self.worth) else horizon - self.counted
        return self.counted + max(TOTALS_GRAIN, min(QUARTER, step - step % TOTALS_GRAIN))


class Rollups:
    """One connection that makes rollups; every method raises StoreError."""

    def __init__(self, dsn: str, *, plausible_kw: float, flush_interval: timedelta = timedelta(0)) -> None:
        self._dsn = dsn
        self._plausible_kw = plausible_kw
        self._flush_interval = flush_interval
        self._connection: Connection | None = None
        self._since: dict[Stream, Progress] = {}
        """How far all was when the newest running totals were seen first."""
        self._sql = {
            stream: {name: queries.for_stream(statement, stream) for name, statement in (_ROLLUP | _TOTALS).items()}
            for stream in STREAMS
        }

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    def due_in(self, now: datetime) -> timedelta:
        """How long until totals may go on: to the next whole ten seconds, as soon as all readings of them are there."""
        return TOTALS_GRAIN - (now - self._flush_interval - TOTALS_LAG - quarter_before(now)) % TOTALS_GRAIN

    async def catch_up(self, now: datetime | None = None, *, arriving: datetime | None = None) -> None:
        """Roll up every quarter that is over at `now`, and what came late before it; bring running totals up to date.

        Nothing from `arriving` on: where a backlog comes in, all that is left of it would be late.
        """
        now = now or datetime.now(UTC)
        over, counted = (min(now - self._flush_interval - lag, arriving or now) for lag in (LAG, TOTALS_LAG))
        for stream in STREAMS:
            while await self._step(stream, quarter_before(over), counted):
                pass

    async def _step(self, stream: Stream, rolled_until: datetime, counted_until: datetime) -> bool:
        """One stretch of one stream; returns whether there may be more to do."""
        with translated():
            connection = await self._connected()
            async with bounded(connection, STEP_SECONDS):
                progress = await self._progress(connection, stream)
                if await self._roll_up(connection, stream, progress, rolled_until):
                    return True
                return await self._count_up(connection, stream, progress, counted_until)

    async def _roll_up(self, connection: Connection, stream: Stream, progress: Progress, horizon: datetime) -> bool:
        """Returns whether the stream's progress is another one now."""
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
            progress,
            *("roll_up", "note_cadences", "forget_totals") if until > progress.settled else ("roll_up",),
            settled=progress.settled,
            until=until,
            day=progress.settled.date(),
            number=quarter_number(progress.settled),
            most_late=MOST_LATE,
            plausible_kw=self._plausible_kw,
            before=until - TOTALS_KEPT,
        )
        return until > progress.settled

    async def _count_up(self, connection: Connection, stream: Stream, progress: Progress, horizon: datetime) -> bool:
        """Returns whether the stream's progress is another one now."""
        if progress.settled is None or progress.announced is None:
            return False
        if progress.counted is None:
            await self._move_on(
                connection,
                stream,
                progress,
                # Whoever looks for totals and finds none has ended by then.
                *("hold_announcements", "begin_totals", "note_cadences"),
                until=quarter_before(horizon),  # which the rollups reach up to
                day=(progress.settled - QUARTER).date(),
            )
            return True
        since = self._since.get(stream)
        if since is None or since.counted != progress.counted:
            since = self._since[stream] = progress
        until = progress.next_totals(horizon, arrived=progress.stored - since.stored)
        if until > horizon:
            return False
        if until > progress.announced:
            await self._announce(connection, stream, until)
        steps = ("count_up", "fold_belated") if progress.belated else ("count_up",)
        await self._move_on(connection, stream, progress, *steps, counted=progress.counted, until=until)
        return True

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
        self, connection: Connection, stream: Stream, progress: Progress, *names: str, **parameters: object
    ) -> None:
        """Execute what goes on from that progress, unless another daemon was faster."""
        async with connection.transaction():
            await self._execute(connection, stream, "only_one")
            current = await self._progress(connection, stream)
            if (current.settled, current.counted) == (progress.settled, progress.counted):
                for name in names:
                    await self._execute(connection, stream, name, **parameters)

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
            # The newest quarter is younger than all statistics, so no reading of it is expected: nested loops would
            # compare every device with every other. Where they are wanted, the statement leaves no other way.
            await connection.execute("SET enable_nestloop = off")
            # A plan for the very moments asked for leaves out all partitions but theirs.
            await connection.execute("SET plan_cache_mode = force_custom_plan")
        self._connection = connection
        return connection
