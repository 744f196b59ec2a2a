"""Closes quarters of the ledger, makes their rows, and makes stale rows anew.

First a quarter is closed. From then on, a transaction that stores a reading of this quarter also marks the quarter as
stale. Then the rows of the quarter are made. So every reading is either in a row or has marked its quarter.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast
from zlib import crc32

import structlog

from ingestd.model.closing import Begin, Close, Make, Progress, plan
from ingestd.model.energy import HOUR
from ingestd.model.quarters import quarter_of
from ingestd.model.register import Rule
from ingestd.model.stream import WITH_ENERGY, Stream
from ingestd.model.timestamps import to_datetime, to_microseconds
from ingestd.store.behind import Behind
from ingestd.store.connection import Connection, bounded, closed_on_error, connect
from ingestd.store.ledger import BEGINNING, LedgerTables, to_timestamp
from ingestd.store.sqlstate import translated
from ingestd.store.stale import made_of, make_anew, undecided

if TYPE_CHECKING:
    from ingestd.model.ledger import Row

log = structlog.get_logger(__name__)

LAG: Final = timedelta(seconds=30)
"""A quarter is closed this long after its end. A reading that arrives later makes its quarter stale."""
SHARES: Final = 4
STEP_SECONDS: Final = 300.0
LOCK_TIMEOUT: Final = "2s"
READINGS_AT_ONCE: Final = 5000
DEVICES_AT_ONCE: Final = 250
MOST_OF_A_DEVICE: Final = 20_000
"""Readings of one device in one step. The rows of a device with more are made by `make_anew`, by themselves."""
STALE_AT_ONCE: Final = 1000
"""Devices whose stale rows are made anew before the next check for quarters to close."""
PAUSE_FACTOR: Final = 50.0
"""After a device was made anew, it is paused for this many times as long as that took. So late readings
of one device take at most 2 % of the time."""
YIELD_EVERY: Final = 500
"""After this many readings, other tasks of the event loop run."""
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

    async def catch_up(self, now: datetime | None = None, *, arriving: datetime | None = None) -> None:
        """Close every quarter that has ended by `now` (None: the present), and make stale rows anew.

        Quarters that end after `arriving` are not closed: it is the timestamp of the readings that arrive in a backlog,
        and the rest of the backlog would make those quarters stale.
        """
        now = now or datetime.now(UTC)
        closable = to_microseconds(min(now - self._flush_interval - LAG, arriving or now))
        with translated():
            connection = await self._connected()
            works = [_Work(connection, stream, self._rules[stream]) for stream in WITH_ENERGY]
            for work in [work for work in works if await self._keep_rule(work)]:
                await self._close(work, closable, now)
                await self._make_anew(work, now)

    async def _keep_rule(self, work: "_Work") -> bool:
        """Whether the rows are made by our rule. Each daemon sets it once, so the daemon that started last decides."""
        async with bounded(work.connection, STEP_SECONDS):
            if not await work.keep_rule(may_change=work.stream not in self._ruled):
                log.warning("ledger_rule_differs", stream=work.stream.name)
                return False
        self._ruled.add(work.stream)
        return True

    async def _close(self, work: "_Work", closable: int, now: datetime) -> None:
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

    async def _make_anew(self, work: "_Work", now: datetime) -> None:
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
            await connection.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'; SET jit = off".encode())
        self._connection = connection
        return connection


class _Work:
    """The steps for one stream. Errors are psycopg's."""

    def __init__(self, connection: Connection, stream: Stream, rule: Rule) -> None:
        self.connection = connection
        self.stream = stream
        self._rule = rule
        self._tables = LedgerTables(connection, stream)
        self._behind = Behind(self._tables.fetch, rule)
        self._active_in: tuple[int, int] | None = None
        self._active_rows: list[Any] = []

    async def progress(self) -> Progress:
        closed_until = await self._closed_until()
        shares = await self._tables.fetch("shares")
        return Progress(
            closed_until=closed_until,
            made_until=tuple(share.made_until and to_microseconds(share.made_until) for share in shares),
        )

    async def keep_rule(self, *, may_change: bool) -> bool:
        """Compare our rule with the stored one. If it differs, store ours and delete the rows that history can make.

        Returns False if it differs and may not be changed.
        """
        (row,) = await self._tables.fetch("progress")
        max_gap = timedelta(microseconds=self._rule.max_gap)
        await self._behind.look_up_rules()
        (history,) = await self._tables.fetch("first_day", later_than=to_timestamp(BEGINNING))
        self._behind.history_since = BEGINNING if history.first_day is None else max(history.first_day, BEGINNING)
        if (row.max_kw, row.max_gap) == (self._rule.max_kw, max_gap):
            return True
        if not may_change:
            return False
        async with self.connection.transaction():
            await self._tables.fetch("set_rule", max_kw=self._rule.max_kw, max_gap=max_gap)
            first = await self.resumes_at(BEGINNING)
            if row.max_kw is not None and row.closed_until is not None and first is not None:
                since = to_timestamp(quarter_of(first))
                log.info("ledger_rule_changed", stream=self.stream.name, since=f"{since:%F}")
                for statement in ("begin_anew", "forget_quarters", "forget_hours"):
                    await self._tables.fetch(statement, since=since)
        return True

    async def begin(self, closable: int) -> bool:
        """Begin the ledger at the first reading. Returns False if there is no reading that can be closed yet."""
        first = await self.resumes_at(BEGINNING)
        if first is None or first >= closable:
            return False
        since = quarter_of(first)
        await self._tables.fetch("begin", since=to_timestamp(since))
        await self.close(since)
        log.info("ledger_begun", stream=self.stream.name, since=f"{to_timestamp(since):%F}")
        return True

    async def resumes_at(self, since: int) -> int | None:
        """The first time after `since` at which there may be readings; None if there are none."""
        (row,) = await self._tables.fetch("first_day", later_than=to_timestamp(since))
        day = None if row.first_day is None else max(row.first_day, since, BEGINNING)
        if day == since:
            return since
        until = "infinity" if day is None else to_timestamp(day)
        (row,) = await self._tables.fetch("first_reading", since=to_timestamp(since), until=until)
        return day if row.at is None else cast("int", row.at)

    async def close(self, until: int) -> None:
        async with self.connection.transaction():
            await self._tables.fetch("hold_writers")
            await self._tables.fetch("close", until=to_timestamp(until))

    async def make(self, share: int, until: int, *, now: int) -> bool | None:
        """Make the rows of one share. Returns whether any device had readings; None if another daemon makes them."""
        async with self.connection.transaction():
            made_until = await self._take(share)
            closed_until = await self._closed_until()
            if made_until is None or closed_until is None:
                return None
            if made_until >= until or closed_until < until:
                return True
            groups = await self._active(share, made_until, until)
            for some in groups:
                await self._make_some(some, made_until, until, closed_until, now)
            await self._sum_hours(share, made_until, until)
            await self._tables.fetch("move_on", share=share, until=to_timestamp(until))
        return bool(groups)

    async def stale(self, *, now: int, paused: Sequence[str]) -> tuple[list[str], int]:
        """Devices with quarters that are due and that are not paused; and the number of all with such quarters."""
        made = [until for until in (await self.progress()).made_until if until is not None]
        if not made:
            return [], 0
        rows = await self._tables.fetch(
            "stale_devices", now=to_timestamp(now), until=to_timestamp(min(made)), paused=paused, limit=STALE_AT_ONCE
        )
        return [row.id for row in rows if row.id not in paused], rows[0].devices if rows else 0

    async def make_anew(self, device: str, *, now: int) -> None:
        """Make the stale rows of a device anew, or the first of them if there are many."""
        async with self.connection.transaction():
            made_until, closed_until = await self._take(share_of(device)), await self._closed_until()
            if made_until is None or closed_until is None:
                return
            await make_anew(
                self._tables,
                self._behind,
                device,
                made_until=made_until,
                closed_until=closed_until,
                now=now,
            )

    async def _make_some(self, some: Sequence[str], made_until: int, until: int, closed_until: int, now: int) -> None:
        behind = await self._behind.readings(some, since=made_until, until=closed_until)
        known = await self._tables.rows({device: base.at for device, (base, _) in behind.items()}, until=made_until)
        rows: list[tuple[str, Row]] = []
        marks: list[tuple[str, int, int]] = []
        counted = 0
        for device, (base, readings) in behind.items():
            rule, its = self._behind.rule_of(device), known[device]
            made = await made_of(readings, base, until=until, rule=rule, now=now, stored=its)
            rows += [(device, row) for row in made.rows if row != its.get(row.start)]
            marks += undecided(device, made, rule)
            counted += len(readings)
            if counted > YIELD_EVERY:
                counted = 0
                await asyncio.sleep(0)
        await self._tables.store(rows, made_until=made_until)
        await self._tables.mark(marks)

    async def _sum_hours(self, share: int, made_until: int, until: int) -> None:
        """Sum up the hours that ended in between, for all devices of the share: also for those that no longer send."""
        first, last = made_until // HOUR * HOUR, until // HOUR * HOUR
        if first == last:
            return
        rows = await self._tables.fetch("devices_of_quarters", since=to_timestamp(first), until=to_timestamp(last))
        devices = [row.id for row in rows if share_of(row.id) == share]
        for number in range(0, len(devices), DEVICES_AT_ONCE):
            some = devices[number : number + DEVICES_AT_ONCE]
            await self._tables.sum_hours(dict.fromkeys(some, first), until=last)

    async def _active(self, share: int, made_until: int, until: int) -> list[list[str]]:
        """Devices of the share with readings, in groups of a bounded number of readings."""
        if self._active_in != (made_until, until):  # asked once for all shares; later readings mark their quarter
            self._active_rows = await self._tables.fetch(
                "active", since=to_timestamp(made_until), until=to_timestamp(until)
            )
            self._active_in = (made_until, until)
        groups: list[list[str]] = [[]]
        readings = 0
        busy = []
        for row in self._active_rows:
            if share_of(row.id) != share:
                continue
            if row.readings > MOST_OF_A_DEVICE:
                busy.append((row.id, made_until, BEGINNING))
                continue
            if readings + row.readings > READINGS_AT_ONCE or len(groups[-1]) == DEVICES_AT_ONCE:
                groups.append([])
                readings = 0
            groups[-1].append(row.id)
            readings += row.readings
        await self._tables.mark(busy)
        return [group for group in groups if group]

    async def _take(self, share: int) -> int | None:
        """Lock a share until the transaction ends. Returns up to where it is made; None if another daemon has it."""
        rows = await self._tables.fetch("take_share", share=share)
        return to_microseconds(rows[0].made_until) if rows and rows[0].made_until else None

    async def _closed_until(self) -> int | None:
        (row,) = await self._tables.fetch("progress")
        return None if row.closed_until is None else to_microseconds(row.closed_until)


def share_of(device: str) -> int:
    """The number of the share that a device belongs to."""
    return crc32(device.encode()) % SHARES
