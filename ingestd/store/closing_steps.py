"""The steps of closing the quarters of one stream: each of them is a transaction or a few statements."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from zlib import crc32

import structlog

from ingestd.model.closing import Progress
from ingestd.model.energy import HOUR
from ingestd.model.quarters import quarter_of
from ingestd.model.register import Rule
from ingestd.model.stream import Stream
from ingestd.model.timestamps import MICROSECONDS_PER_DAY, to_microseconds
from ingestd.store.behind import Behind
from ingestd.store.connection import HUNG_TIMEOUT, Connection
from ingestd.store.ledger import BEGINNING, LATEST, LedgerTables, MonthMissing, to_timestamp
from ingestd.store.stale import made_of, make_anew, undecided

if TYPE_CHECKING:
    from ingestd.model.ledger import Row


T = TypeVar("T")

log = structlog.get_logger(__name__)

SHARES: Final = 4
READINGS_AT_ONCE: Final = 5000
DEVICES_AT_ONCE: Final = 250
MOST_OF_A_DEVICE: Final = 20_000
"""Readings of one device in one step. The rows of a device with more are made by `make_anew`, by themselves."""
STALE_AT_ONCE: Final = 1000
"""Devices whose stale rows are made anew before the next check for quarters to close."""
YIELD_EVERY: Final = 500
"""After this many readings, other tasks of the event loop run."""


class ClosingSteps:
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

    async def has_our_rule(self) -> bool:
        """Whether the rows are made by our rule. Also looks up the devices' own limits, and where history begins."""
        (row,) = await self._tables.fetch("progress")
        await self._behind.look_up_rules()
        (history,) = await self._tables.fetch("first_day", later_than=to_timestamp(BEGINNING))
        self._behind.history_since = BEGINNING if history.first_day is None else max(history.first_day, BEGINNING)
        return (row.max_kw, row.max_gap) == (self._rule.max_kw, timedelta(microseconds=self._rule.max_gap))

    async def begin_anew(self) -> list[int]:
        """Set the shares back to where history begins. Returns the days whose rows have to be deleted."""
        (row,) = await self._tables.fetch("progress")
        first = await self.resumes_at(BEGINNING)
        if row.max_kw is None or row.closed_until is None or first is None:
            return []
        since = quarter_of(first)
        await self._tables.fetch("begin_anew", since=to_timestamp(since))
        log.info("ledger_rule_changed", stream=self.stream.name, since=f"{to_timestamp(since):%F}")
        return list(range(since, to_microseconds(row.closed_until), MICROSECONDS_PER_DAY))

    async def forget(self, day: int) -> None:
        """Delete the rows of the 24 hours from this time on."""
        async with self.connection.transaction():
            await self._forget(day, day + MICROSECONDS_PER_DAY)

    async def _forget(self, since: int, until: int) -> None:
        """Delete the rows that start in [since, until)."""
        for statement in ("forget_quarters", "forget_hours"):
            await self._tables.fetch(statement, since=to_timestamp(since), until=to_timestamp(until))

    async def set_rule(self, since: int | None) -> None:
        """From now on rows are made by our rule, from `since` on; None: there are none yet."""
        async with self.connection.transaction():
            if since is not None:
                # Another daemon may have made rows in the meantime.
                await self._tables.fetch("begin_anew", since=to_timestamp(since))
                await self._forget(since, LATEST)
            max_gap = timedelta(microseconds=self._rule.max_gap)
            await self._tables.fetch("set_rule", max_kw=self._rule.max_kw, max_gap=max_gap)

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
            await self.connection.execute(f"SET LOCAL idle_in_transaction_session_timeout = '{HUNG_TIMEOUT}'")
            await self._tables.fetch("hold_writers")
            await self._tables.fetch("close", until=to_timestamp(until))

    async def make(self, share: int, until: int, *, now: int) -> bool | None:
        """Make the rows of one share. Returns whether any device had readings; None if another daemon makes them."""
        return await self._with_months(partial(self._make, share, until, now=now))

    async def _make(self, share: int, until: int, *, now: int) -> bool | None:
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
        await self._with_months(partial(self._make_anew, device, now=now))

    async def _make_anew(self, device: str, *, now: int) -> None:
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

    async def _with_months(self, step: Callable[[], Awaitable[T]]) -> T:
        """Do a step. If the ledger lacks a month for it, make that in a transaction of its own and begin again.

        Citus refuses to make it in the same one, where the owner of the tables is another role than ours.
        """
        while True:
            try:
                return await step()
            except MonthMissing as missing:
                await self._tables.make_month(missing.month)

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
