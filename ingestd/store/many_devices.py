"""Reads the readings of many devices of one stream at a time, each with its base."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from ingestd.model.energy import QUARTER, CountedReading, State, count, decided
from ingestd.model.ledger import Base, Readings
from ingestd.model.register import Rule
from ingestd.model.stream import Stream
from ingestd.store import queries
from ingestd.store.device_energy import ENDING
from ingestd.store.ledger import BEGINNING, LONG_AGO, RECENT, base_of, readings_of, to_timestamp
from ingestd.store.ledger_snapshot import LedgerSnapshot

AT_ONCE: Final = 1000
"""Devices in one statement."""
ONE_BY_ONE: Final = 200
"""The most devices without a row in the last day that are looked up, one by one. For the others, energy that their new
readings add to closed quarters shows only when the next quarter is closed."""

_SOURCES: Final = queries.load("closing.sql")
_NAMES: Final = ("bases", "base", "base_before_history", "readings", "own_max_kw")
_SQL: Final = queries.of_streams({name: _SOURCES[name] for name in _NAMES})


class ManyDevices:
    """Devices of one stream, as one snapshot sees them. Errors are psycopg's."""

    def __init__(self, snapshot: LedgerSnapshot, stream: Stream) -> None:
        self._snapshot = snapshot
        self._sql = _SQL[stream]
        self._rule = snapshot.rule(stream)
        self._own_max_kw: dict[str, float] | None = None

    async def look_up_rules(self) -> None:
        """Read the devices' own limits of power. Has to be called first."""
        self._own_max_kw = {row.id: row.max_kw for row in await self._fetch("own_max_kw")}

    def rule_of(self, device: str) -> Rule:
        """The rule that the readings of this device count by."""
        own = self._own_max_kw.get(device) if self._own_max_kw else None
        return self._rule if own is None else replace(self._rule, max_kw=own)

    async def readings_after(
        self, devices: Sequence[str], since: int, *, until: int
    ) -> dict[str, tuple[Base, Readings]]:
        """By device: its base, and all readings up to `until` that may have energy after the quarter start `since`.

        A device without readings is left out.
        """
        bases = await self._bases(devices, until=since)
        begin = {device: base.state.previous_at if base.state else BEGINNING for device, base in bases.items()}
        readings = await self._readings({device: at for device, at in begin.items() if at > BEGINNING}, until)
        for device in [device for device, at in begin.items() if at == BEGINNING]:
            readings |= await self._readings({device: BEGINNING}, until)
        return {device: (bases[device], its) for device, its in readings.items()}

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

    async def _bases(self, devices: Sequence[str], *, until: int) -> dict[str, Base]:
        found: dict[str, Base] = {}
        kept = self._snapshot.kept_since // QUARTER * QUARTER
        for reach in (RECENT, LONG_AGO):
            left = [device for device in devices if device not in found]
            if left:
                rows = await self._fetch(
                    "bases", ids=left, since=to_timestamp(until - reach), until=to_timestamp(until)
                )
                found |= {row.id: base_of(row) for row in rows}
        for device in [device for device in devices if device not in found][:ONE_BY_ONE]:
            rows = await self._fetch("base", id=device, until=to_timestamp(until))
            if rows and rows[0].start < kept:
                found_after = {"id": device, "until": to_timestamp(until), "history": to_timestamp(kept)}
                rows = await self._fetch("base_before_history", **found_after) or rows
            found[device] = base_of(rows[0]) if rows else Base(at=BEGINNING, state=None)
        return found

    async def _readings(self, since: dict[str, int], until: int) -> dict[str, Readings]:
        if not since:
            return {}
        rows = await self._fetch(
            "readings",
            ids=list(since),
            since=list(since.values()),
            oldest=to_timestamp(min(since.values())),
            until=to_timestamp(until),
        )
        return {row.id: readings_of(row) for row in rows}

    async def _fetch(self, name: str, **parameters: object) -> list[Any]:
        return await self._snapshot.fetch(self._sql[name], parameters)
