"""What all devices of a stream did that is in no row yet: their readings, by the same rule, many at a time."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, Final, TypeAlias

from ingestd.model.energy import QUARTER
from ingestd.model.ledger import Base, Readings, quarters_of
from ingestd.model.quarters import Quarter
from ingestd.model.register import Rule
from ingestd.model.sums import Sums, quarters_of_sums
from ingestd.store import queries
from ingestd.store.ledger import (
    BEGINNING,
    RECENT,
    base_of,
    moment,
    quarter_of_row,
    readings_of,
    state_of,
)
from ingestd.store.moments import Moment
from ingestd.telemetry import STREAMS, Stream

OfDevices: TypeAlias = dict[str, dict[int, Quarter]]
"""By device and start of the quarter."""

AT_ONCE: Final = 1000
ONE_BY_ONE: Final = 200
"""So many devices without a recent row are looked up. What others tell of closed quarters shows at the next closing."""
TURN: Final = 50
"""After so many devices the event loop has its turn."""

_FLEET: Final = queries.load("fleet.sql")
_CLOSING: Final = queries.load("closing.sql")
_SOURCES: Final = {
    **{name: _FLEET[name] for name in ("sums_of_all", "states_of_all", "readings_of_many", "quarters_of_many")},
    **{name: _CLOSING[name] for name in ("bases", "base", "readings", "own_max_kw")},
}
_SQL: Final = {
    stream: {name: queries.ready(queries.for_stream(source, stream)) for name, source in _SOURCES.items()}
    for stream in STREAMS
}


class OpenStretch:
    """Of one stream, where rows are made up to `since`. Errors are psycopg's."""

    def __init__(self, at: Moment, stream: Stream, *, since: int, until: int, start: int, end: int) -> None:
        """Of readings up to `until`, what they tell of (start, end]."""
        self._at = at
        self._sql = _SQL[stream]
        self._rule = at.rule(stream)
        self._since = since
        self._until = until
        self._start = start
        self._end = end
        self._own_max_kw: dict[str, float] = {}

    async def changes(self) -> OfDevices:
        """What has to be added to the rows: what is behind them, and what is told only now of those that are there."""
        self._own_max_kw = {row.id: row.max_kw for row in await self._fetch("own_max_kw")}
        before = {"start": moment(self._since - QUARTER), "end": moment(self._since)}
        states = {row.id: row async for row in self._at.each(self._sql["states_of_all"], before)}
        found: OfDevices = {}
        to_decide: list[str] = []
        reaching_back: list[str] = []
        for number, (device, sums) in enumerate((await self._sums()).items()):
            row = states.get(device)
            if row is None or row.final_until < self._since:
                reaching_back.append(device)
            elif (quarters := self._of_sums(device, sums, row)) is not None:
                found[device] = quarters
            else:
                to_decide.append(device)
            if number % TURN == 0:
                await asyncio.sleep(0)
        for number in range(0, len(to_decide), AT_ONCE):
            found |= await self._decided(to_decide[number : number + AT_ONCE], states)
        for number in range(0, len(reaching_back), AT_ONCE):
            found |= await self._changes_before(reaching_back[number : number + AT_ONCE])
        return found

    async def _sums(self) -> dict[str, list[Any]]:
        """Of each device with readings the sums of each quarter, in order."""
        between = {"since": self._since, "until": self._until, "start": self._start, "end": self._end}
        parameters = {name: moment(at) for name, at in between.items()}
        sums: dict[str, list[Any]] = {}
        async for row in self._at.each(self._sql["sums_of_all"], parameters):
            sums.setdefault(row.id, []).append(row)
        for its in sums.values():
            its.sort(key=attrgetter("start"))
        return sums

    def _of_sums(self, device: str, sums: Sequence[Sums], row: Any) -> dict[int, Quarter] | None:  # noqa: ANN401
        if row.high_water is not None:
            return None
        return quarters_of_sums(
            sums, previous_at=row.previous_at, start=self._start, end=self._end, rule=self._rule_of(device)
        )

    async def _decided(self, devices: Sequence[str], states: Mapping[str, Any]) -> OfDevices:
        """Reading by reading."""
        parameters = {"ids": devices, "since": moment(self._since), "until": moment(self._until)}
        found: OfDevices = {}
        async for row in self._at.each(self._sql["readings_of_many"], parameters):
            base = Base(at=self._since, state=state_of(states[row.id]))
            found[row.id] = self._quarters(row.id, base, readings_of(row))
        return found

    async def _changes_before(self, devices: Sequence[str]) -> OfDevices:
        """Of devices whose readings tell of quarters that have rows: what is not in these."""
        bases = await self._bases(devices)
        since = {device: base.state.previous_at if base.state else BEGINNING for device, base in bases.items()}
        readings = await self._readings({device: at for device, at in since.items() if at > BEGINNING})
        for device in [device for device, at in since.items() if at == BEGINNING]:
            readings |= await self._readings({device: BEGINNING})
        found: OfDevices = {}
        for number, (device, its) in enumerate(readings.items()):
            found[device] = self._quarters(device, bases[device], its)
            if number % TURN == 0:
                await asyncio.sleep(0)
        there = [(device, at) for device, made in found.items() for at in made if at < self._since]
        ids, starts = map(list, zip(*there, strict=True)) if there else ([], [])
        for row in await self._fetch("quarters_of_many", ids=ids, starts=starts):
            found[row.id][row.start] = found[row.id][row.start].without(quarter_of_row(row))
        return found

    async def _bases(self, devices: Sequence[str]) -> dict[str, Base]:
        rows = await self._fetch("bases", ids=devices, since=moment(self._since - RECENT), until=moment(self._since))
        found = {row.id: base_of(row) for row in rows}
        for device in [device for device in devices if device not in found][:ONE_BY_ONE]:
            rows = await self._fetch("base", id=device, until=moment(self._since))
            found[device] = base_of(rows[0]) if rows else Base(at=BEGINNING, state=None)
        return found

    async def _readings(self, since: dict[str, int]) -> dict[str, Readings]:
        if not since:
            return {}
        rows = await self._fetch(
            "readings",
            ids=list(since),
            since=list(since.values()),
            oldest=moment(min(since.values())),
            until=moment(self._until),
        )
        return {row.id: readings_of(row) for row in rows}

    def _quarters(self, device: str, base: Base, readings: Readings) -> dict[int, Quarter]:
        start = max(base.at, self._start)
        return quarters_of(readings, base, start=start, end=self._end, rule=self._rule_of(device), now=self._at.now)

    def _rule_of(self, device: str) -> Rule:
        own = self._own_max_kw.get(device)
        return self._rule if own is None else replace(self._rule, max_kw=own)

    async def _fetch(self, name: str, **parameters: object) -> list[Any]:
        return await self._at.fetch(self._sql[name], parameters)
