"""A snapshot of the database, from which all parts of an answer are read."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ingestd.model.energy import QUARTER
from ingestd.model.register import Rule
from ingestd.model.stream import WITH_ENERGY, Stream
from ingestd.model.timestamps import to_datetime, to_microseconds
from ingestd.store import queries
from ingestd.store.device_energy import DeviceReader
from ingestd.store.ledger import BEGINNING
from ingestd.store.pool import Pool, Snapshot

_SQL: Final = {name: queries.ready(source) for name, source in queries.load("ledger.sql").items()}


class LedgerSnapshot:
    """A snapshot, with the progress of the ledger in it. Errors are psycopg's."""

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        as_of: datetime | None,
        rules: Mapping[Stream, Rule],
        made_until: Mapping[str, int | None],
        has_other_rows: bool,
        now: int,
        kept_since: int,
        ledger_since: int,
    ) -> None:
        """`has_other_rows`: rows were made by another rule, and are not used.

        Retention has deleted no readings after `kept_since`, and no rows after `ledger_since`.
        """
        self.as_of = as_of
        """If a replica answers: what was committed after this may be missing."""
        self.has_other_rows = has_other_rows
        self._snapshot = snapshot
        self._rules = rules
        self._made_until = made_until
        self.now = now
        self.kept_since = kept_since
        self.ledger_since = ledger_since

    def device(self, stream: Stream, device: str) -> DeviceReader:
        """The reader of one device."""
        made_until = self.made_until(stream)
        return DeviceReader(
            self._snapshot,
            stream,
            device,
            rule=self._rules[stream],
            made_until=BEGINNING if made_until is None else made_until,
            kept_since=self.kept_since,
            now=self.now,
        )

    def gone(self, stream: Stream, edges: Iterable[int]) -> set[int]:
        """The edges at which no energy can be divided any more.

        They lie before the first row, or inside a quarter whose readings are deleted, at least in part.
        """
        readings_since = self.kept_since + self._rules[stream].max_gap
        return {edge for edge in edges if edge < self.ledger_since or (edge % QUARTER and edge < readings_since)}

    def why_gone(self, edge: int) -> str:
        """The reason for which no energy can be divided at this edge, for the answer."""
        if edge < self.ledger_since:
            return f"energy from before {to_datetime(self.ledger_since):%FT%TZ} is no longer kept"
        return f"readings from before {to_datetime(self.kept_since):%FT%TZ} are no longer kept"

    def made_until(self, stream: Stream) -> int | None:
        """The rows of all devices of the stream are made up to here; None: there are no rows."""
        return self._made_until[stream.name]

    def rule(self, stream: Stream) -> Rule:
        """The rule for devices without a maximum power of their own."""
        return self._rules[stream]

    def each(self, statement: queries.Statement, parameters: Mapping[str, object]) -> AsyncIterator[Any]:
        """The rows of a query, one by one, for many rows."""
        return self._snapshot.each(statement, parameters)

    async def fetch(self, statement: queries.Statement, parameters: Mapping[str, object]) -> list[Any]:
        """The rows of a query, as namedtuples."""
        return await self._snapshot.fetch(statement, parameters)


class LedgerSnapshots:
    """Opens snapshots. Raises StoreError."""

    def __init__(
        self,
        pool: Pool,
        *,
        rules: Mapping[Stream, Rule],
        history: timedelta | None = None,
        ledger: timedelta | None = None,
    ) -> None:
        """`history` and `ledger` are the retentions of readings and of rows; None: they are kept for ever."""
        self._pool = pool
        self._rules = rules
        self._by_name = {stream.name: rule for stream, rule in rules.items()}
        self._history = history
        self._ledger = ledger

    @asynccontextmanager
    async def now(self) -> AsyncIterator[LedgerSnapshot]:
        """Open a snapshot. Raises StoreError, also for errors while it is open."""
        async with self._pool.snapshot() as snapshot:
            rows = await snapshot.fetch(_SQL["made_until"], {})
            # After the first statement: the snapshot holds nothing that is younger. A replica may be behind.
            now = snapshot.as_of or datetime.now(UTC)
            made_until: dict[str, int | None] = {stream.name: None for stream in WITH_ENERGY}
            has_other_rows = False
            for row in rows:
                rule = self._by_name[row.stream]
                if row.max_kw in (None, rule.max_kw) and row.max_gap in (None, timedelta(microseconds=rule.max_gap)):
                    made_until[row.stream] = row.made_until
                else:
                    has_other_rows = True
            yield LedgerSnapshot(
                snapshot,
                as_of=snapshot.as_of,
                rules=self._rules,
                made_until=made_until,
                has_other_rows=has_other_rows,
                now=to_microseconds(now),
                kept_since=_since(now, self._history),
                ledger_since=_since(now, self._ledger),
            )


def _since(now: datetime, kept: timedelta | None) -> int:
    return BEGINNING if kept is None else to_microseconds(now - kept)
