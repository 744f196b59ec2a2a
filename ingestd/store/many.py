"""Readings of many devices of one stream at a time, with the states that they follow."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ingestd.model.energy import Counted, State, count, decided
from ingestd.model.ledger import Base, Readings
from ingestd.model.register import Rule
from ingestd.model.stream import Stream
from ingestd.store import queries
from ingestd.store.behind import RECENT, STATEMENTS, Behind
from ingestd.store.device_energy import ENDING
from ingestd.store.ledger import BEGINNING
from ingestd.store.moments import Moment

AT_ONCE: Final = 1000
"""So many devices are asked for in one statement."""
ONE_BY_ONE: Final = 200
"""So many devices without a row of the last day are looked up. What others tell of closed quarters shows at the next
closing."""

_SOURCES: Final = queries.load("closing.sql")
_SQL: Final = queries.of_streams({name: _SOURCES[name] for name in STATEMENTS})


class ManyDevices:
    """Of one stream, as one moment sees them. Errors are psycopg's."""

    def __init__(self, at: Moment, stream: Stream) -> None:
        self._at = at
        self._sql = _SQL[stream]
        self._behind = Behind(self._fetch, at.rule(stream), history_since=at.kept_since)

    async def look_up_rules(self) -> None:
        """Of devices with a most power of their own. To be called first."""
        await self._behind.look_up_rules()

    def rule_of(self, device: str) -> Rule:
        """The one that its readings count by."""
        return self._behind.rule_of(device)

    async def behind(self, devices: Sequence[str], since: int, *, until: int) -> dict[str, tuple[Base, Readings]]:
        """Of each device all readings up to `until` that tell of anything behind `since`, the start of a quarter.

        Who has none is not in it.
        """
        return await self._behind.readings(devices, since=since, until=until, one_by_one=ONE_BY_ONE)

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

    async def _fetch(self, name: str, **parameters: object) -> list[Any]:
        return await self._at.fetch(self._sql[name], parameters)
