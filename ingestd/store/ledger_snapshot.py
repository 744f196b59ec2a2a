"""One moment of the database, in which everything that an answer needs is read."""

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
    """A snapshot with what is known of the ledger in it. Errors are psycopg's."""

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        rules: Mapping[Stream, Rule],
        made_until: Mapping[str, int | None],
        has_other_rows: bool,
        kept_since: int,
        ledger_since: int,
    ) -> None:
        """`has_other_rows`: there are rows that were made by another rule, and serve nobody.

        From `kept_since` on all readings are there, from `ledger_since` on all rows.
        """
        self.has_other_rows = has_other_rows
        self._snapshot = snapshot
        self._rules = rules
        self._made_until = made_until
        self.now = to_microseconds(datetime.now(UTC))
        self.kept_since = kept_since
        self.ledger_since = ledger_since

    def device(self, stream: Stream, device: str) -> DeviceReader:
        """What one device did."""
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
        """Those of the edges of stretches of which nothing can be told.

        They lie before the rows, or inside a quarter-hour whose readings are no longer all there.
        """
        readings_since = self.kept_since + self._rules[stream].max_gap
        return {edge for edge in edges if edge < self.ledger_since or (edge % QUARTER and edge < readings_since)}

    def why_gone(self, edge: int) -> str:
        """Why nothing can be told of a stretch with this edge."""
        if edge < self.ledger_since:
            return f"energy from before {to_datetime(self.ledger_since):%FT%TZ} is no longer kept"
        return f"readings from before {to_datetime(self.kept_since):%FT%TZ} are no longer kept"

    def made_until(self, stream: Stream) -> int | None:
        """Up to where the rows of all its devices are made; None: there are none."""
        return self._made_until[stream.name]

    def rule(self, stream: Stream) -> Rule:
        """Of devices without a most power of their own."""
        return self._rules[stream]

    def each(self, statement: queries.Statement, parameters: Mapping[str, object]) -> AsyncIterator[Any]:
        """Rows of a query that has many of them."""
        return self._snapshot.each(statement, parameters)

    async def fetch(self, statement: queries.Statement, parameters: Mapping[str, object]) -> list[Any]:
        """Rows of any other query, as namedtuples."""
        return await self._snapshot.fetch(statement, parameters)


class LedgerSnapshots:
    """Opens them. Raises StoreError."""

    def __init__(
        self,
        pool: Pool,
        *,
        rules: Mapping[Stream, Rule],
        history: timedelta | None = None,
        ledger: timedelta | None = None,
    ) -> None:
        """`history` and `ledger` say how long readings and rows are kept; None: for ever."""
        self._pool = pool
        self._rules = rules
        self._by_name = {stream.name: rule for stream, rule in rules.items()}
        self._history = history
        self._ledger = ledger

    @asynccontextmanager
    async def now(self) -> AsyncIterator[LedgerSnapshot]:
        """Raises StoreError, also for what is read in it."""
        async with self._pool.snapshot() as snapshot:
            rows = await snapshot.fetch(_SQL["made_until"], {})
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
                rules=self._rules,
                made_until=made_until,
                has_other_rows=has_other_rows,
                kept_since=_since(self._history),
                ledger_since=_since(self._ledger),
            )


def _since(kept: timedelta | None) -> int:
    return BEGINNING if kept is None else to_microseconds(datetime.now(UTC) - kept)
