"""Reads the readings of many devices of one stream at a time, each with its base."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ingestd.model.energy import CountedReading, State, count, decided
from ingestd.model.ledger import Base, Readings
from ingestd.model.register import Rule
from ingestd.model.stream import Stream
from ingestd.store import queries
from ingestd.store.behind import RECENT, STATEMENTS, Behind
from ingestd.store.device_energy import ENDING
from ingestd.store.ledger import BEGINNING
from ingestd.store.ledger_snapshot import LedgerSnapshot

AT_ONCE: Final = 1000
"""Devices in one statement."""
ONE_BY_ONE: Final = 200
"""The most devices without a row in the last day that are looked up, one by one. For the others, energy that their new
readings add to closed quarters shows only when the next quarter is closed."""

_SOURCES: Final = queries.load("closing.sql")
_SQL: Final = queries.of_streams({name: _SOURCES[name] for name in STATEMENTS})


class ManyDevices:
    """Devices of one stream, as one snapshot sees them. Errors are psycopg's."""

    def __init__(self, snapshot: LedgerSnapshot, stream: Stream) -> None:
        self._snapshot = snapshot
        self._sql = _SQL[stream]
        self._behind = Behind(self._fetch, snapshot.rule(stream), history_since=snapshot.kept_since)

    async def look_up_rules(self) -> None:
        """Read the devices' own limits of power. Has to be called first."""
        await self._behind.look_up_rules()

    def rule_of(self, device: str) -> Rule:
        """The rule that the readings of this device count by."""
        return self._behind.rule_of(device)

    async def readings_after(
        self, devices: Sequence[str], since: int, *, until: int
    ) -> dict[str, tuple[Base, Readings]]:
        """By device: its base, and all readings up to `until` that may have energy after the quarter start `since`.

        A device without readings is left out.
        """
        return await self._behind.readings(devices, since=since, until=until, one_by_one=ONE_BY_ONE)

    async def counted(self, devices: Sequence[str], start: int, end: int) -> dict[str, list[CountedReading]]:
        """By device: what the readings with energy in (start, end] count for. Both are edges of quarters.

        The readings of two more hours usually decide all of it. Only where they do not, all later readings are read.
        """
        found: dict[str, list[CountedReading]] = {}
        for until in (end + RECENT, ENDING):
            left = [device for device in devices if device not in found]
            if left:
                found_after = await self.readings_after(left, start, until=until)
                found |= await asyncio.to_thread(self._counted, found_after, end if until < ENDING else BEGINNING)
        return found

    def _counted(self, found_after: Mapping[str, tuple[Base, Readings]], final: int) -> dict[str, list[CountedReading]]:
        """For the devices for which no later reading can change anything up to `final`."""
        found: dict[str, list[CountedReading]] = {}
        for device, (base, readings) in found_after.items():
            rule = self.rule_of(device)
            counted = count(readings.one_by_one(), base.state, rule=rule, now=self._snapshot.now)
            state = State.after(counted[: decided(counted)], base.state)
            if final == BEGINNING or (state is not None and state.final_until(rule) >= final):
                found[device] = counted
        return found

    async def _fetch(self, name: str, **parameters: object) -> list[Any]:
        return await self._snapshot.fetch(self._sql[name], parameters)
