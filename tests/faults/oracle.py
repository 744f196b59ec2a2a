"""Compares what was acknowledged with what is in the database.

What is asserted, and for which acknowledgements:

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

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import psycopg
from psycopg import sql
from psycopg.rows import namedtuple_row

from ingestd.model.energy import Reading, count
from ingestd.model.quarters import Quarter, quarters
from ingestd.model.register import Rule
from ingestd.model.stream import METER, STREAMS, VEHICLE
from ingestd.model.timestamps import to_microseconds
from ingestd.store.closing import Closing
from ingestd.store.ledger import BEGINNING, quarter_of_row
from ingestd.store.queries import for_stream
from tests.faults.numbered import SentReadings, expected, is_poison
from tests.support.polling import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from ingestd.model.stream import Stream

Figures: TypeAlias = tuple[float, int, int, int, float, int, int]

RULES: Final = {METER: Rule(max_kw=2000), VEHICLE: Rule(max_kw=400)}
"""The rules of the default settings."""
CLOSING_SECONDS: Final = 60.0
HALF_AN_HOUR: Final = timedelta(minutes=30)
PAGE: Final = 20_000
SHOWN: Final = 10


@dataclass(slots=True, kw_only=True)
class Verdict:
    """The result of a comparison. Lists hold numbers of readings, or devices."""

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
    made: int = 0
    """Rows of the ledger."""
    stale: int = 0
    """Quarters that were stale when the campaign was over."""
    untrue_rows: list[str] = field(default_factory=list)
    """Devices whose rows of the ledger differ from what the rule makes of their history, when nothing is stale."""

    @property
    def good(self) -> bool:
        return not (self.lost or self.doubled or self.altered or self.stale_live or self.untrue_rows)

    def complaints(self) -> Iterator[str]:
        for name in ("lost", "doubled", "altered", "stale_live", "untrue_rows"):
            if found := getattr(self, name):
                yield f"{name}: {len(found)}, such as {found[:SHOWN]}"


def compare(sent: SentReadings, database_url: str) -> Verdict:
    """Look at every row and every dead letter, from a snapshot of the database."""
    promised = bytes(sent.promised)
    verdict = Verdict(acknowledged=promised.count(1))
    rows = bytearray(len(promised))
    letters: Counter[int] = Counter()
    with psycopg.connect(database_url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        for stream in STREAMS:
            for number, device, *energy in _history(connection, stream, sent):
                verdict.rows += 1
                rows[number] = min(rows[number] + 1, 255)
                if (stream, device, *energy) != expected(number) or is_poison(number):
                    verdict.altered.append(number)
            verdict.stale_live += _devices(connection, _STALE_LIVE, stream)
            ((made, stale),) = connection.execute(for_stream(_MADE, stream)).fetchall()
            verdict.made += made
            verdict.stale += stale
        for (payload,) in connection.execute("SELECT payload FROM dead_letter"):
            letters[sent.number(payload)] += 1
    verdict.dead_letters = letters.total()
    verdict.repeated_dead_letters = letters.total() - len(letters)
    verdict.doubled = [number for number, times in enumerate(rows) if times > 1]
    verdict.lost = [n for n, wanted in enumerate(promised) if wanted and not rows[n] and n not in letters]
    return verdict


def _history(
    connection: psycopg.Connection, stream: Stream, sent: SentReadings
) -> Iterator[tuple[int, str, float | None, float | None]]:
    energy, register = stream.columns[stream.energy_key], stream.columns[stream.register_key]
    query = sql.SQL("SELECT {}, ts, {}, {} FROM {}").format(
        *map(sql.Identifier, (stream.id_column, energy, register, stream.history))
    )
    with connection.cursor(name="history") as cursor:
        cursor.itersize = PAGE
        cursor.execute(query)
        for device, timestamp, interval, total in cursor:
            yield sent.number_at(timestamp), device, interval, total


def _devices(connection: psycopg.Connection, query: sql.SQL, stream: Stream) -> list[str]:
    return [device for (device,) in connection.execute(for_stream(query, stream))]


_STALE_LIVE: Final = sql.SQL("""
    SELECT {id} FROM (SELECT {id}, max(ts) AS newest FROM {history} GROUP BY {id}) AS history
    LEFT JOIN {live} AS live USING ({id}) WHERE live.ts IS DISTINCT FROM newest
""")
_MADE: Final = sql.SQL("SELECT (SELECT count(*) FROM {quarter}), (SELECT count(*) FROM {stale})")
_LEDGER: Final = sql.SQL("""
    SELECT
        {id} AS id, ingestd_microseconds(start) AS start, kwh, samples, parts, (known_seconds * 1e6)::bigint AS known,
        averaged_sum AS averaged, resets, excluded
    FROM {quarter}
""")
_READINGS: Final = sql.SQL("""
    SELECT {id}, ingestd_microseconds(ts), {energy}, {register}, {averaged} FROM {history} ORDER BY 1, 2
""")


async def close(database_url: str, now: datetime) -> None:
    """Close every quarter that has ended at `now`, and make stale rows anew, while the daemon runs."""
    closing = Closing(database_url, rules=RULES)
    try:
        await eventually(partial(_is_closed, closing, database_url, now), within=CLOSING_SECONDS)
    finally:
        await closing.close()


async def _is_closed(closing: Closing, database_url: str, now: datetime) -> bool:
    await closing.catch_up(now)
    with psycopg.connect(database_url) as connection:
        stale = [connection.execute(for_stream(_MADE, stream)).fetchall()[0][1] for stream in STREAMS]
        ((made,),) = connection.execute(
            "SELECT min(made_until) > %s FROM ledger_share", [now - HALF_AN_HOUR]
        ).fetchall()
        return made and not any(stale)


def untrue_rows(database_url: str, now: datetime) -> list[str]:
    """Devices whose rows differ from what the rule makes of their readings. Needs a ledger without stale quarters."""
    untrue: list[str] = []
    with psycopg.connect(database_url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        for stream in STREAMS:
            rows: defaultdict[str, dict[int, Figures]] = defaultdict(dict)
            with connection.cursor(row_factory=namedtuple_row) as cursor:
                stored: list[Any] = cursor.execute(for_stream(_LEDGER, stream)).fetchall()
            for row in stored:
                rows[row.id][row.start] = figures(quarter_of_row(row))
            readings: defaultdict[str, list[Reading]] = defaultdict(list)
            for device, *reading in connection.execute(for_stream(_READINGS, stream)):
                readings[device].append(Reading(*reading))
            made = "SELECT ingestd_microseconds(min(made_until)) FROM ledger_share WHERE stream = %s"
            ((made_until,),) = connection.execute(made, [stream.name]).fetchall()
            for device in readings.keys() | rows.keys():
                counted = count(readings[device], rule=RULES[stream], now=to_microseconds(now))
                said = quarters(counted, BEGINNING, made_until)
                expected_rows = {at: figures(row) for at, row in said.items()}
                if not_empty(expected_rows) != not_empty(rows[device]):
                    untrue.append(device)
    return untrue


def figures(row: Quarter) -> Figures:
    """The figures of a row, rounded: sums of doubles differ in the last digits."""
    return (round(row.kwh, 6), row.samples, row.parts, row.known, round(row.averaged, 6), row.resets, row.excluded)


def not_empty(rows: Mapping[int, Figures]) -> dict[int, Figures]:
    return {start: row for start, row in rows.items() if any(row)}
