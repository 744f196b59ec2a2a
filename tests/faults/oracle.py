"""Compares what was acknowledged with what is in the database.

What can honestly be asserted, and of whom:

- A reading that the daemon acknowledged (PUBACK to the broker, 201 to an HTTP client) is a row or a dead letter.
- A reading that the *broker* acknowledged to a device is one too, provided that the broker keeps its own word. It
  does while it is cut off, slow, or restarted in good order with persistence, so a campaign may count what devices
  were told. Killed with SIGKILL it does not: that loss happens before the daemon could know of the message. So a
  campaign never kills the broker; `tests.faults.broker_loss` measures that on its own.
- PUBACK with reason 0x10 (nobody is subscribed) promises nothing.
- Doubled means two rows of one reading. A dead letter has no key: a crash between the commit and the PUBACK brings it
  again, and it is kept again. Those are counted, and no fault.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import sql

from ingestd.store.queries import for_stream
from ingestd.telemetry import STREAMS
from tests.faults.numbered import Book, expected, is_poison

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingestd.telemetry import Stream

PAGE: Final = 20_000
SHOWN: Final = 10


@dataclass(slots=True, kw_only=True)
class Verdict:
    """Numbers of readings, at most a few of each kind beside how many there are."""

    acknowledged: int = 0
    rows: int = 0
    dead_letters: int = 0
    repeated_dead_letters: int = 0
    lost: list[int] = field(default_factory=list)
    doubled: list[int] = field(default_factory=list)
    altered: list[int] = field(default_factory=list)
    """Rows that are not what was sent."""
    stale_live: list[str] = field(default_factory=list)
    """Devices whose live row is not their newest."""
    totals: int = 0
    belated: int = 0
    untrue_totals: list[str] = field(default_factory=list)
    """Devices of which running totals and belated readings together are not what history says."""

    @property
    def good(self) -> bool:
        return not (self.lost or self.doubled or self.altered or self.stale_live or self.untrue_totals)

    def complaints(self) -> Iterator[str]:
        for name in ("lost", "doubled", "altered", "stale_live", "untrue_totals"):
            if found := getattr(self, name):
                yield f"{name}: {len(found)}, such as {found[:SHOWN]}"


def judge(book: Book, database_url: str) -> Verdict:
    """Look at every row and every dead letter, from a snapshot of the database."""
    promised = bytes(book.promised)
    verdict = Verdict(acknowledged=promised.count(1))
    rows = bytearray(len(promised))
    letters: Counter[int] = Counter()
    with psycopg.connect(database_url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        for stream in STREAMS:
            for number, device, *energy in _history(connection, stream, book):
                verdict.rows += 1
                rows[number] = min(rows[number] + 1, 255)
                if (stream, device, *energy) != expected(number) or is_poison(number):
                    verdict.altered.append(number)
            verdict.stale_live += _devices(connection, _STALE_LIVE, stream)
            ((totals, belated),) = connection.execute(for_stream(_TOTALS, stream)).fetchall()
            verdict.totals += totals
            verdict.belated += belated
            verdict.untrue_totals += _devices(connection, _UNTRUE_TOTALS, stream)
        for (payload,) in connection.execute("SELECT payload FROM dead_letter"):
            letters[book.number(payload)] += 1
    verdict.dead_letters = letters.total()
    verdict.repeated_dead_letters = letters.total() - len(letters)
    verdict.doubled = [number for number, times in enumerate(rows) if times > 1]
    verdict.lost = [n for n, wanted in enumerate(promised) if wanted and not rows[n] and n not in letters]
    return verdict


def _history(
    connection: psycopg.Connection, stream: Stream, book: Book
) -> Iterator[tuple[int, str, float | None, float | None]]:
    energy, register = stream.columns[stream.energy_key], stream.columns[stream.register_key]
    query = sql.SQL("SELECT {}, ts, {}, {} FROM {}").format(
        *map(sql.Identifier, (stream.id_column, energy, register, stream.history))
    )
    with connection.cursor(name="history") as cursor:
        cursor.itersize = PAGE
        cursor.execute(query)
        for device, timestamp, interval, total in cursor:
            yield book.number_at(timestamp), device, interval, total


def _devices(connection: psycopg.Connection, query: sql.SQL, stream: Stream) -> list[str]:
    return [device for (device,) in connection.execute(for_stream(query, stream))]


_STALE_LIVE: Final = sql.SQL("""
    SELECT {id} FROM (SELECT {id}, max(ts) AS newest FROM {history} GROUP BY {id}) AS history
    LEFT JOIN {live} AS live USING ({id}) WHERE live.ts IS DISTINCT FROM newest
""")
_TOTALS: Final = sql.SQL(
    "SELECT (SELECT count(*) FROM running_total WHERE stream = {stream}), (SELECT count(*) FROM {belated})"
)
_UNTRUE_TOTALS: Final = sql.SQL("""
    WITH counted AS (
        SELECT min(until) AS since, max(until) AS until FROM running_total WHERE stream = {stream}
    ), total AS (
        SELECT unnest(ids) AS id, unnest(kwh) AS kwh, unnest(samples) AS samples, unnest(registers) AS registers
        FROM running_total JOIN roster USING (stream) JOIN counted USING (until)
        WHERE stream = {stream}
    ), said AS (
        SELECT id, sum(kwh) AS kwh, sum(samples) AS samples, sum(registers) AS registers
        FROM (
            SELECT * FROM total
            UNION ALL
            SELECT {id}, kwh, 1, (kwh IS NULL)::integer FROM {belated}, counted WHERE ts >= since AND ts < until
        ) AS part
        GROUP BY id
    ), known AS (
        SELECT {id} AS id, sum({energy}) AS kwh, count(*) AS samples, count({register}) AS registers
        FROM {history}, counted
        WHERE ts >= since AND ts < until
        GROUP BY {id}
    )
    SELECT id
    FROM said FULL JOIN known USING (id)
    WHERE coalesce(said.samples, 0) <> coalesce(known.samples, 0)
       OR coalesce(said.registers, 0) <> coalesce(known.registers, 0)
       OR abs(coalesce(said.kwh, 0) - coalesce(known.kwh, 0)) > 1e-6
""")
