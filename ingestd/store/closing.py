"""Closes quarters of the ledger, makes their rows, and makes stale rows anew.

First a quarter is closed. From then on, a transaction that stores a reading of this quarter also marks the quarter as
stale. Then the rows of the quarter are made. So every reading is either in a row or has marked its quarter.
"""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from ingestd.model.closing import Begin, Close, Make, Progress, plan
from ingestd.model.register import Rule
from ingestd.model.stream import WITH_ENERGY, Stream
from ingestd.model.timestamps import to_datetime, to_microseconds
from ingestd.store.closing_steps import ClosingSteps
from ingestd.store.connection import Connection, bounded, closed_on_error, connect, cut
from ingestd.store.sqlstate import translated

log = structlog.get_logger(__name__)

LAG: Final = timedelta(seconds=30)
"""A quarter is closed this long after its end. A reading that arrives later makes its quarter stale."""
STEP_SECONDS: Final = 300.0
LOCK_TIMEOUT: Final = "2s"
IDLE_TIMEOUT: Final = "60s"
"""`idle_in_transaction_session_timeout`: rows of a device with millions of readings take long to calculate."""
PAUSE_FACTOR: Final = 50.0
"""After a device was made anew, it is paused for this many times as long as that took. So late readings
of one device take at most 2 % of the time."""
FAR_BEHIND: Final = timedelta(hours=2)
"""A ledger that is further behind logs its progress every REPORT_SECONDS."""
REPORT_SECONDS: Final = 30.0


class Closing:
    """Makes the rows of all streams on one connection. Every method raises StoreError."""

    def __init__(self, dsn: str, *, rules: Mapping[Stream, Rule], flush_interval: timedelta = timedelta(0)) -> None:
        self._dsn = dsn
        self._rules = rules
        self._flush_interval = flush_interval
        self._connection: Connection | None = None
        self._paused: dict[tuple[Stream, str], float] = {}
        """By device: the time of the event loop's clock until which it is not made anew."""
        self._ruled: set[Stream] = set()
        """Streams whose rule this daemon has checked or set. If it is another one later, a newer daemon has set it."""
        self._reported_at = 0.0
        self.made_until: dict[Stream, datetime | None] = dict.fromkeys(WITH_ENERGY)
        """The rows of all devices are made up to here, as of the last look. None: no rows yet."""
        self.stale_devices: dict[Stream, int | None] = dict.fromkeys(WITH_ENERGY)
        """Devices with stale quarters, as of the last look. None: not looked yet."""

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    def cut(self) -> None:
        """Leave a server that may hang: the step under way fails, and the next one makes another connection."""
        if self._connection is not None:
            cut(self._connection)

    async def catch_up(self, now: datetime | None = None, *, arriving: datetime | None = None) -> None:
        """Close every quarter that has ended by `now` (None: the present), and make stale rows anew.

        Quarters that end after `arriving` are not closed: it is the timestamp of the readings that arrive in a backlog,
        and the rest of the backlog would make those quarters stale.
        """
        now = now or datetime.now(UTC)
        closable = to_microseconds(min(now - self._flush_interval - LAG, arriving or now))
        with translated():
            connection = await self._connected()
            works = [ClosingSteps(connection, stream, self._rules[stream]) for stream in WITH_ENERGY]
            for work in [work for work in works if await self._keep_rule(work)]:
                await self._close(work, closable, now)
                await self._make_anew(work, now)

    async def _keep_rule(self, work: ClosingSteps) -> bool:
        """Whether the rows are made by our rule. Each daemon sets it once, so the daemon that started last decides."""
        async with bounded(work.connection, STEP_SECONDS):
            is_ours = await work.has_our_rule()
        if not is_ours and work.stream in self._ruled:
            log.warning("ledger_rule_differs", stream=work.stream.name)
            return False
        if not is_ours:
            await self._change_rule(work)
        self._ruled.add(work.stream)
        return True

    async def _change_rule(self, work: ClosingSteps) -> None:
        """Delete all rows that can be made again from history, a day in each step, and set our rule.

        Until the last step the ledger has the other rule, so a daemon that ends before it begins again.
        """
        async with bounded(work.connection, STEP_SECONDS):
            days = await work.begin_anew()
        for day in days:
            async with bounded(work.connection, STEP_SECONDS):
                await work.forget(day)
        async with bounded(work.connection, STEP_SECONDS):
            await work.set_rule(days[0] if days else None)

    async def _close(self, work: ClosingSteps, closable: int, now: datetime) -> None:
        left_out: frozenset[int] = frozenset()
        resumes_at: int | None = None
        while True:
            async with bounded(work.connection, STEP_SECONDS):
                progress = await work.progress()
                self._report(work.stream, progress, now)
                match plan(progress, closable=closable, left_out=left_out, resumes_at=resumes_at):
                    case None:
                        return
                    case Begin():
                        if not await work.begin(closable):
                            return
                    case Close(until):
                        await work.close(until)
                    case Make(share, until):
                        made = await work.make(share, until, now=to_microseconds(now))
                        if made is None:
                            left_out |= {share}
                        elif not made:
                            resumes_at = await work.resumes_at(until)

    async def _make_anew(self, work: ClosingSteps, now: datetime) -> None:
        clock = asyncio.get_running_loop().time
        self._paused = {key: until for key, until in self._paused.items() if clock() < until}
        paused = [device for stream, device in self._paused if stream is work.stream]
        async with bounded(work.connection, STEP_SECONDS):
            devices, self.stale_devices[work.stream] = await work.stale(now=to_microseconds(now), paused=paused)
        for device in devices:
            began = clock()
            async with bounded(work.connection, STEP_SECONDS):
                await work.make_anew(device, now=to_microseconds(now))
            self._paused[work.stream, device] = clock() + PAUSE_FACTOR * (clock() - began)

    def _report(self, stream: Stream, progress: Progress, now: datetime) -> None:
        """Keep the progress for /metrics, and log it if the ledger is far behind."""
        made = [until for until in progress.made_until if until is not None]
        self.made_until[stream] = to_datetime(min(made)) if made else None
        behind = now - to_datetime(min(made)) if made else timedelta()
        loop_time = asyncio.get_running_loop().time()
        if behind > FAR_BEHIND and loop_time - self._reported_at > REPORT_SECONDS:
            self._reported_at = loop_time
            log.info("ledger_behind", stream=stream.name, made_until=f"{to_datetime(min(made)):%FT%TZ}")

    async def _connected(self) -> Connection:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        connection = await connect(self._dsn, application_name="ingestd-ledger")
        async with closed_on_error(connection):
            # A statement that waits longer than this for a lock fails, and is tried again later.
            await connection.execute(
                f"SET lock_timeout = '{LOCK_TIMEOUT}'; SET idle_in_transaction_session_timeout = '{IDLE_TIMEOUT}';"
                " SET jit = off"
            )
        self._connection = connection
        return connection
