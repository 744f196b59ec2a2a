"""Readings of devices of one stream with the states that they follow, and the rules that they count by."""

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from ingestd.model.energy import HOUR
from ingestd.model.ledger import Base, Readings
from ingestd.model.register import Rule
from ingestd.store.ledger import BEGINNING, base_of, readings_of, to_timestamp

RECENT: Final = 2 * HOUR
"""The last row of a device is seldom older than this."""
LONG_AGO: Final = 26 * HOUR
"""The last row of a device that reports each hour, or was silent for a day, is not older than this."""
STATEMENTS: Final = ("bases", "base", "base_before_history", "readings", "own_max_kw")
"""Of closing.sql."""


class Fetch(Protocol):
    """Gives the rows of one of these statements, as namedtuples."""

    def __call__(self, name: str, **parameters: object) -> Awaitable[list[Any]]: ...


class Behind:
    """What lies behind the rows that are made. Errors are those of `fetch`."""

    def __init__(self, fetch: Fetch, rule: Rule, *, history_since: int = BEGINNING) -> None:
        """Readings before `history_since` are deleted: rows cannot be made from them again."""
        self.history_since = history_since
        self._fetch = fetch
        self._rule = rule
        self._own_max_kw: Mapping[str, float] = {}

    async def look_up_rules(self) -> None:
        """Read the devices' own limits of power. Has to be called first."""
        self._own_max_kw = {row.id: row.max_kw for row in await self._fetch("own_max_kw")}

    def rule_of(self, device: str) -> Rule:
        """The rule that the readings of this device count by."""
        own = self._own_max_kw.get(device)
        return self._rule if own is None else replace(self._rule, max_kw=own)

    async def base(self, device: str, *, until: int) -> Base:
        """Where rows of a device have to be made from, behind those that start before `until`."""
        rows = await self._fetch("base", id=device, until=to_timestamp(until))
        if not rows or rows[0].start < self.history_since:
            history = to_timestamp(self.history_since)
            rows = (
                await self._fetch("base_before_history", id=device, until=to_timestamp(until), history=history) or rows
            )
        return base_of(rows[0]) if rows else Base(at=BEGINNING, state=None)

    async def readings(
        self, devices: Sequence[str], *, since: int, until: int, one_by_one: int | None = None
    ) -> dict[str, tuple[Base, Readings]]:
        """Read what rows after `since`, the end of the rows made, are made from: each device's readings up to `until`.

        A device without readings is left out. Of the devices without a row of the last day, at most `one_by_one`
        are looked up.
        """
        bases = await self._bases(devices, until=since, one_by_one=one_by_one)
        begin = {device: base.state.previous_at if base.state else BEGINNING for device, base in bases.items()}
        near = {device: at for device, at in begin.items() if at >= since - LONG_AGO}
        readings = await self._later(near, until)
        for device in begin.keys() - near.keys():  # one at a time: may be very many
            readings |= await self._later({device: begin[device]}, until)
        return {device: (bases[device], its) for device, its in readings.items()}

    async def _bases(self, devices: Sequence[str], *, until: int, one_by_one: int | None) -> dict[str, Base]:
        found: dict[str, Base] = {}
        for reach in (RECENT, LONG_AGO):
            left = [device for device in devices if device not in found]
            if left:
                rows = await self._fetch(
                    "bases", ids=left, since=to_timestamp(until - reach), until=to_timestamp(until)
                )
                found |= {row.id: base_of(row) for row in rows if row.start >= self.history_since}
        left = [device for device in devices if device not in found][:one_by_one]
        return found | {device: await self.base(device, until=until) for device in left}

    async def _later(self, since: Mapping[str, int], until: int) -> dict[str, Readings]:
        """Read each device's readings after its own time in `since`."""
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
