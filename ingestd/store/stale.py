"""Makes the stale rows of one device anew: from the last row before them on, until a new row equals the stored one."""

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Final

from ingestd.model.energy import HOUR, QUARTER
from ingestd.model.ledger import LOOK_AHEAD, Base, Made, Readings, Row, changed, make
from ingestd.model.quarters import quarter_of
from ingestd.model.register import Rule
from ingestd.store.behind import Behind
from ingestd.store.ledger import BEGINNING, LedgerTables

FIRST_MARGIN: Final = 2 * HOUR
"""Rows later than this after the last stale quarter rarely change. If they do, more rows are made."""
READINGS_AT_ONCE: Final = 20_000
"""Readings in one step. A quarter is never divided, however many readings it has."""
MAX_ON_EVENT_LOOP: Final = 500
"""Readings. This many take a millisecond or two; more are counted in a thread."""


async def make_anew(
    tables: LedgerTables, behind: Behind, device: str, *, made_until: int, closed_until: int, now: int
) -> None:
    """Make the rows of a device's due marks anew, up to `made_until`. What is too much for one step is marked again.

    Errors are psycopg's.
    """
    starts = await tables.take_marks(device, now=now, until=made_until)
    if not starts:
        return
    rule = behind.rule_of(device)
    last = made_until - QUARTER if BEGINNING in starts else max(starts)
    base = await behind.base(device, until=max(min(starts) - QUARTER, BEGINNING))
    margin, most = FIRST_MARGIN, READINGS_AT_ONCE
    while True:
        until = min(last + QUARTER + margin, made_until)
        read_until = closed_until if until == made_until else until + LOOK_AHEAD
        readings = await tables.readings_of_device(device, since=_since(base), until=read_until, most=most)
        is_cut = len(readings) == most
        if is_cut:
            until = min(until, (readings.at[-1] - LOOK_AHEAD) // QUARTER * QUARTER)
        states = await tables.states_of_device(device, since=base.at, until=until)
        made = await made_of(readings, base, until=until, rule=rule, now=now, stored=states)
        rows = changed(made.rows, states, marked_until=last + QUARTER)
        if rows is None and until == made_until and not is_cut:
            rows = made.rows
        is_left = rows is None and is_cut
        if is_left:
            rows = _final(made)
        if rows is not None:
            break
        margin, most = (margin, 8 * most) if is_cut else (8 * margin, most)
    await tables.store([(device, row) for row in rows], made_until=made_until)
    marks = undecided(device, made, rule)
    if is_left:
        marks += [(device, start, BEGINNING) for start in (rows[-1].end, max(last, rows[-1].end))]
    await tables.mark(marks)


async def made_of(
    readings: Readings,
    base: Base,
    *,
    until: int,
    rule: Rule,
    now: int,
    stored: Iterable[int],
) -> Made:
    """Make rows; if there are many readings, in a thread."""
    work = partial(make, readings, base, until=until, rule=rule, now=now, stored=stored)
    return work() if len(readings) <= MAX_ON_EVENT_LOOP else await asyncio.to_thread(work)


def undecided(device: str, made: Made, rule: Rule) -> list[tuple[str, int, int]]:
    """The mark (device, start, due) for a reading that is decided when MAX_GAP has passed without others."""
    if made.undecided_since is None:
        return []
    return [(device, quarter_of(made.undecided_since), made.undecided_since + rule.max_gap)]


def _since(base: Base) -> int:
    return BEGINNING if base.state is None else base.state.previous_at


def _final(made: Made) -> list[Row] | None:
    """The rows that no later reading can change; None if there are none."""
    final = made.rows[-1].final_until if made.rows else BEGINNING
    return [row for row in made.rows if row.end <= final] or None
