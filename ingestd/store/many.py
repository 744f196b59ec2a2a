"""Readings of many devices of one stream at a time, with the states that they follow."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from ingestd.model.energy import QUARTER, Counted, State, count, decided
from ingestd.model.ledger import Base, Readings
from ingestd.model.register import Rule
from ingestd.model.stream import Stream
from ingestd.store import queries
from ingestd.store.device_energy import ENDING
from ingestd.store.ledger import BEGINNING, LONG_AGO, RECENT, base_of, moment, readings_of
from ingestd.store.moments import Moment

AT_ONCE: Final = 1000
"""So many devices are asked for in one statement."""
ONE_BY_ONE: Final = 200
"""So many devices without a row of the last day are looked up. What others tell of closed quarters shows at the next
closing."""

_SOURCES: Final = queries.load("closing.sql")
_NAMES: Final = ("bases", "base", "base_behind_history", "readings", "own_max_kw")
_SQL: Final = queries.of_streams({name: _SOURCES[name] for name in _NAMES})


class ManyDevices:
    """Of one stream, as one moment sees them. Errors are psycopg's."""

    def __init__(self, at: Moment, stream: Stream) -> None:
        self._at = at
        self._sql = _SQL[stream]
        self._rule = at.rule(stream)
        self._own_max_kw: dict[str, float] | None = None

    async def look_up_rules(self) -> None:
        """Of devices with a most power of their own. To be called first."""
        self._own_max_kw = {row.id: row.max_kw for row in await self._fetch("own_max_kw")}

    def rule_of(self, device: str) -> Rule:
        """The one that its readings count by."""
        own = self._own_max_kw.get(device) if self._own_max_kw else None
        return self._rule if own is None else replace(self._rule, max_kw=own)

    async def behind(self, devices: Sequence[str], since: int, *, until: int) -> dict[str, tuple[Base, Readings]]:
        """Of each device all readings up to `until` that tell of anything behind `since`, the start of a quarter.

        Who has none is not in it.
        """
        bases = await self._bases(devices, until=since)
        begin = {device: base.state.previous_at if base.state else BEGINNING for device, base in bases.items()}
        readings = await self._readings({device: at for device, at in begin.items() if at > BEGINNING}, until)
        for device in [device for device, at in begin.items() if at == BEGINNING]:
            readings |= await self._readings({device: BEGINNING}, until)
        return {device: (bases[device], its) for device, its in readings.items()}

    async def counted(self, devices: Sequence[str], start: int, end: int) -> dict[str, list[Counted]]:
        """What readings count for, all that have a part in (start, end]: whole quarters.

        As a rule those of two more hours say all there is to say of it.
        """
        found: dict[str, list[Counted]] = {}
        for until in (end + RECENT, ENDING):
            left = [device for device in devices if device not in found]
            if left:
                behind = await self.behind(left, start, until=until)
                found |= await asyncio.to_thread(self._counted, behind, end if until < ENDING else BEGINNING)
        return found

    def _counted(self, behind: Mapping[str, tuple[Base, Readings]], final: int) -> dict[str, list[Counted]]:
        """Of devices of which nothing up to `final` can change any more."""
        found: dict[str, list[Counted]] = {}
        for device, (base, readings) in behind.items():
            rule = self.rule_of(device)
            counted = count(readings.one_by_one(), base.state, rule=rule, now=self._at.now)
            state = State.after(counted[: decided(counted)], base.state)
            if final == BEGINNING or (state is not None and state.final_until(rule) >= final):
                found[device] = counted
        return found

    async def _bases(self, devices: Sequence[str], *, until: int) -> dict[str, Base]:
        found: dict[str, Base] = {}
        kept = self._at.kept_since // QUARTER * QUARTER
        for reach in (RECENT, LONG_AGO):
            left = [device for device in devices if device not in found]
            if left:
                rows = await self._fetch("bases", ids=left, since=moment(until - reach), until=moment(until))
                found |= {row.id: base_of(row) for row in rows}
        for device in [device for device in devices if device not in found][:ONE_BY_ONE]:
            rows = await self._fetch("base", id=device, until=moment(until))
            if rows and rows[0].start < kept:
                behind = {"id": device, "until": moment(until), "history": moment(kept)}
                rows = await self._fetch("base_behind_history", **behind) or rows
            found[device] = base_of(rows[0]) if rows else Base(at=BEGINNING, state=None)
        return found

    async def _readings(self, since: dict[str, int], until: int) -> dict[str, Readings]:
        if not since:
            return {}
        rows = await self._fetch(
            "readings",
            ids=list(since),
            since=list(since.values()),
            oldest=moment(min(since.values())),
            until=moment(until),
        )
        return {row.id: readings_of(row) for row in rows}

    async def _fetch(self, name: str, **parameters: object) -> list[Any]:
        return await self._at.fetch(self._sql[name], parameters)
