"""The ledger of one stream in the database: its rows, the readings they are made from, the marks of stale quarters."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final

from psycopg.rows import namedtuple_row

from ingestd.model.energy import HOUR, QUARTER, State
from ingestd.model.ledger import Base, Readings, Row
from ingestd.model.quarters import Quarter
from ingestd.model.register import Register
from ingestd.model.stream import WITH_ENERGY, Stream
from ingestd.model.timestamps import EPOCH, MICROSECONDS_PER_DAY, to_datetime, to_microseconds
from ingestd.store import queries
from ingestd.store.connection import Connection

BEGINNING: Final = -2_500_000 * HOUR
"""Earlier than any reading, in microseconds."""
LATEST: Final = to_microseconds(datetime.max.replace(tzinfo=EPOCH.tzinfo))
ROWS_PER_YIELD: Final = 1000

_SOURCES: Final = queries.load("closing.sql")
_SQL: Final = {
    stream: {name: queries.for_stream(statement, stream) for name, statement in _SOURCES.items()}
    for stream in WITH_ENERGY
}


def to_timestamp(at: int) -> datetime:
    """Microseconds as a datetime for timestamptz. What lies outside of datetime's range becomes its end."""
    return datetime.min.replace(tzinfo=EPOCH.tzinfo) if at <= BEGINNING else to_datetime(min(at, LATEST))


class MonthMissing(Exception):  # noqa: N818 - no error: the month is made, and the step is done again
    """The ledger has no partitions of a month that rows are to be stored in."""

    def __init__(self, month: str) -> None:
        super().__init__(month)
        self.month = month
        """As YYYYMM."""


class LedgerTables:
    """The tables of one stream, on one connection. Errors are psycopg's."""

    def __init__(self, connection: Connection, stream: Stream) -> None:
        self._connection = connection
        self._stream = stream
        self._months: set[str] = set()
        """Months with partitions, as YYYYMM."""

    async def fetch(self, name: str, **parameters: object) -> list[Any]:
        """The result of a statement of closing.sql, as namedtuples."""
        async with self._connection.cursor(row_factory=namedtuple_row, binary=True) as cursor:
            await cursor.execute(_SQL[self._stream][name], parameters)
            return await cursor.fetchall() if cursor.description else []

    async def rows(self, since: Mapping[str, int], *, until: int) -> dict[str, dict[int, Row]]:
        """By device and start: the rows that start in [since, until); `since` is given by device."""
        found: dict[str, dict[int, Row]] = {device: {} for device in since}
        behind = {device: at for device, at in since.items() if at < until}
        if behind:
            oldest = min(behind.values())
            rows = await self.fetch(
                "rows_of_devices",
                ids=list(behind),
                since=list(behind.values()),
                oldest=to_timestamp(oldest),
                until=to_timestamp(until),
            )
            for row in rows:
                found[row.id][row.start] = Row(
                    start=row.start, quarter=quarter_of_row(row), state=state_of(row), final_until=row.final_until
                )
        return found

    async def readings_of_device(self, device: str, *, since: int, until: int, most: int) -> Readings:
        columns: tuple[list[Any], ...] = ([], [], [], [])
        async with self._connection.cursor(binary=True) as cursor:
            await cursor.execute(
                _SQL[self._stream]["readings_of_device"],
                {"id": device, "since": to_timestamp(since), "until": to_timestamp(until), "most": most},
            )
            while rows := await cursor.fetchmany(ROWS_PER_YIELD):
                for column, values in zip(columns, zip(*rows, strict=True), strict=True):
                    column.extend(values)
                await asyncio.sleep(0)
        at, kwh, register, averaged = columns
        return Readings(at=at, kwh=kwh, register=register, averaged=averaged)

    async def states_of_device(self, device: str, *, since: int, until: int) -> dict[int, State]:
        """By start: the states of the rows that start in [since, until)."""
        rows = await self.fetch("states_of_device", id=device, since=to_timestamp(since), until=to_timestamp(until))
        return {row.start: state_of(row) for row in rows}

    async def take_marks(self, device: str, *, now: int, until: int) -> list[int]:
        """Delete the marks of a device that are due, of quarters before `until`; returns these quarters."""
        rows = await self.fetch("take_marks", id=device, now=to_timestamp(now), until=to_timestamp(until))
        return [BEGINNING if row.start is None else row.start for row in rows]

    async def store(self, rows: Sequence[tuple[str, Row]], *, made_until: int) -> None:
        """Store rows, each with its device, and sum up their hours again, as far as these end by `made_until`.

        Raises MonthMissing.
        """
        if not rows:
            return
        await self._need_months(row.start for _, row in rows)
        await self.fetch("store", **_columns(rows))
        since: dict[str, int] = {}
        for device, row in rows:
            since[device] = min(since.get(device, row.start), row.start)
        hours_end = made_until // HOUR * HOUR
        await self.sum_hours({device: start for device, start in since.items() if start < hours_end}, until=hours_end)

    async def sum_hours(self, since: Mapping[str, int], *, until: int) -> None:
        """Sum up the hours of [since, until) from their quarters; `since` is given by device. Raises MonthMissing."""
        if not since:
            return
        starts = [start // HOUR * HOUR for start in since.values()]
        await self._need_months(starts)
        await self.fetch(
            "sum_hours", ids=list(since), since=starts, oldest=to_timestamp(min(starts)), until=to_timestamp(until)
        )

    async def mark(self, marks: Sequence[tuple[str, int, int]]) -> None:
        """Mark quarters to be made anew: (device, start, due) each."""
        if marks:
            ids, starts, due = map(list, zip(*marks, strict=True))
            await self.fetch("mark", ids=ids, starts=starts, due=due)

    async def make_month(self, month: str) -> None:
        """Make the partitions of a month, given as YYYYMM. Not in a transaction that has changed rows."""
        for table in ("quarter", "hour"):
            await self.fetch(
                "make_month", parent=f"{self._stream.name}_{table}", month=date(int(month[:4]), int(month[4:]), 1)
            )
        self._months.add(month)

    async def _need_months(self, starts: Iterable[int]) -> None:
        """Raises MonthMissing if the ledger lacks a month of these times."""
        days = {start // MICROSECONDS_PER_DAY for start in starts}
        needed = {f"{to_datetime(day * MICROSECONDS_PER_DAY):%Y%m}" for day in days}
        if not needed <= self._months:
            self._months |= {row.month for row in await self.fetch("months")}
        if missing := needed - self._months:
            raise MonthMissing(min(missing))


def state_of(row: Any) -> State:  # noqa: ANN401 - a row of the ledger as a namedtuple
    register = None
    if row.high_water is not None:
        register = Register(high_water=row.high_water, changed_at=row.changed_at, read_at=row.read_at)
    return State(previous_at=row.previous_at, was_at_rest=row.at_rest, register=register)


def base_of(row: Any) -> Base:  # noqa: ANN401
    return Base(at=row.start + QUARTER, state=state_of(row))


def quarter_of_row(row: Any) -> Quarter:  # noqa: ANN401
    """The figures of a stored row."""
    return Quarter(
        kwh=row.kwh,
        samples=row.samples,
        parts=row.parts,
        known=row.known,
        averaged=row.averaged,
        resets=row.resets,
        excluded=row.excluded,
    )


def readings_of(row: Any) -> Readings:  # noqa: ANN401
    return Readings(at=row.at, kwh=row.kwh, register=row.register, averaged=row.averaged)


def _columns(rows: Sequence[tuple[str, Row]]) -> dict[str, list[Any]]:
    """The arrays that the statement `store` takes."""
    registers = [row.state.register for _, row in rows]
    return {
        "id": [device for device, _ in rows],
        "start": [row.start for _, row in rows],
        "kwh": [row.quarter.kwh for _, row in rows],
        "samples": [row.quarter.samples for _, row in rows],
        "parts": [row.quarter.parts for _, row in rows],
        "known": [row.quarter.known for _, row in rows],
        "averaged": [row.quarter.averaged for _, row in rows],
        "resets": [row.quarter.resets for _, row in rows],
        "excluded": [row.quarter.excluded for _, row in rows],
        "final_until": [row.final_until for _, row in rows],
        "previous_at": [row.state.previous_at for _, row in rows],
        "at_rest": [row.state.was_at_rest for _, row in rows],
        "high_water": [register and register.high_water for register in registers],
        "changed_at": [register and register.changed_at for register in registers],
        "read_at": [register and register.read_at for register in registers],
    }
