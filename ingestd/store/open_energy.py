"""The energy of open readings (those that are in no row yet) of all devices of a stream, counted by the same rule."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from ingestd.model.energy import HOUR, QUARTER
from ingestd.model.ledger import Base, Readings, quarters_of
from ingestd.model.quarters import Quarter
from ingestd.model.stream import Stream
from ingestd.model.sums import quarters_of_sums
from ingestd.store import queries
from ingestd.store.device_energy import ENDING
from ingestd.store.ledger import quarter_of_row, readings_of, state_of, to_timestamp
from ingestd.store.ledger_snapshot import LedgerSnapshot
from ingestd.store.many_devices import AT_ONCE, ManyDevices

QuartersByDevice: TypeAlias = dict[str, dict[int, Quarter]]
"""By device and start of the quarter."""

LONGEST_OPEN: Final = 2 * HOUR
"""At most this much time is read from history. If the ledger is further behind, the answer ends earlier (`as_of`)."""
YIELD_EVERY: Final = 50
"""After this many devices, other tasks of the event loop run."""

_SQL: Final = queries.of_streams(queries.load("fleet.sql"))


class OpenEnergy:
    """The open readings of one stream, whose rows are made up to `since`. Errors are psycopg's."""

    def __init__(
        self, snapshot: LedgerSnapshot, stream: Stream, *, since: int, until: int, start: int, end: int
    ) -> None:
        """Readings up to `until` are read; their energy in (start, end] is wanted."""
        self._snapshot = snapshot
        self._sql = _SQL[stream]
        self._many = ManyDevices(snapshot, stream)
        self._since = since
        self._until = until
        self._start = start
        self._end = end

    async def additions(self) -> QuartersByDevice:
        """The energy to add to the rows: of later quarters, and of quarters with rows that open readings change."""
        await self._many.look_up_rules()
        found: QuartersByDevice = {}
        to_decide: dict[str, Any] = {}
        reaching_back: list[str] = []
        for number, (device, sums) in enumerate((await self._sums()).items()):
            state = sums[0]
            if state.final_until is None or state.final_until < self._since:
                reaching_back.append(device)
            elif self._start < self._end and self._since < self._end:
                quarters = None if state.high_water is not None else self._of_sums(device, sums)
                if quarters is None:
                    to_decide[device] = state
                else:
                    found[device] = quarters
            if number % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        for some in _steps(list(to_decide)):
            found |= await self._decided(some, to_decide)
        for some in _steps(reaching_back):
            found |= await self._additions_to_rows(some)
        return found

    async def _sums(self) -> dict[str, list[Any]]:
        """By device: the sums of its readings in each quarter, in order. The last includes all later readings."""
        last = max(self._since, min(self._end - 1, self._snapshot.now) // QUARTER * QUARTER)
        if last > self._since + LONGEST_OPEN:  # the ledger has just begun: all readings are counted one by one
            last = self._since
        same = {
            "start": to_timestamp(self._start),
            "end": to_timestamp(self._end),
            "before": to_timestamp(self._since - QUARTER),
        }
        sums: dict[str, list[Any]] = {}
        for quarter in range(self._since, last + QUARTER, QUARTER):
            until = min(self._until, ENDING if quarter == last else quarter + QUARTER)
            between = {"since": to_timestamp(quarter), "until": to_timestamp(until)}
            async for row in self._snapshot.each(self._sql["sums_of_quarter"], same | between):
                sums.setdefault(row.id, []).append(row)
        return sums

    def _of_sums(self, device: str, sums: Sequence[Any]) -> dict[int, Quarter] | None:
        return quarters_of_sums(
            sums,
            previous_at=sums[0].previous_at,
            start=self._start,
            end=self._end,
            rule=self._many.rule_of(device),
        )

    async def _decided(self, devices: Sequence[str], states: Mapping[str, Any]) -> QuartersByDevice:
        """The quarters of devices whose readings have to be counted one by one."""
        parameters = {"ids": devices, "since": to_timestamp(self._since), "until": to_timestamp(self._until)}
        found: QuartersByDevice = {}
        async for row in self._snapshot.each(self._sql["readings_of_many"], parameters):
            base = Base(at=self._since, state=state_of(states[row.id]))
            found[row.id] = self._quarters(row.id, base, readings_of(row))
        return found

    async def _additions_to_rows(self, devices: Sequence[str]) -> QuartersByDevice:
        """For devices whose open readings reach back into quarters with rows: the difference to these rows."""
        found: QuartersByDevice = {}
        found_after = await self._many.readings_after(devices, self._since, until=self._until)
        for number, (device, (base, readings)) in enumerate(found_after.items()):
            found[device] = self._quarters(device, base, readings)
            if number % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        there = [(device, at) for device, made in found.items() for at in made if at < self._since]
        ids, starts = map(list, zip(*there, strict=True)) if there else ([], [])
        for row in await self._snapshot.fetch(self._sql["quarters_of_many"], {"ids": ids, "starts": starts}):
            found[row.id][row.start] = found[row.id][row.start].without(quarter_of_row(row))
        return found

    def _quarters(self, device: str, base: Base, readings: Readings) -> dict[int, Quarter]:
        start = max(base.at, self._start)
        return quarters_of(
            readings, base, start=start, end=self._end, rule=self._many.rule_of(device), now=self._snapshot.now
        )


def _steps(devices: Sequence[str]) -> Iterator[Sequence[str]]:
    for number in range(0, len(devices), AT_ONCE):
        yield devices[number : number + AT_ONCE]
