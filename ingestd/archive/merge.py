"""Merges readings of several sources: in order of time, and each reading once."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, Final

import pyarrow as pa
from pyarrow import compute

from ingestd.archive.parquet import Table
from ingestd.archive.threads import in_thread

_AT: Final = "timestamp"


async def merged(sources: Sequence[AsyncIterator[Table]]) -> AsyncGenerator[Table]:
    """The rows of all sources, each of which is in order of time. One table of each source is in memory.

    Rows of one device and one timestamp are one reading; the first source that has it counts.
    """
    heads = [_Head(source) for source in sources]
    while True:
        for head in heads:
            await head.fill()
        if all(head.is_empty for head in heads):
            return
        bound = min((head.last for head in heads if not head.has_ended), default=None)
        parts = [head.take_before(bound) for head in heads]
        if any(part.num_rows for part in parts):
            yield parts[0] if len(parts) == 1 else await in_thread(_united, parts)
        else:
            # All rows at hand have the last timestamp of a source, and its next table may have more of them.
            for head in heads:
                if not head.has_ended and head.last == bound:
                    await head.extend()


class _Head:
    """The rows of a source that were read and not taken yet."""

    def __init__(self, source: AsyncIterator[Table]) -> None:
        self._source = source
        self._table: Table = None
        self.has_ended = False

    @property
    def is_empty(self) -> bool:
        return self._table is None or self._table.num_rows == 0

    @property
    def last(self) -> Any:  # noqa: ANN401 - pyarrow has no types
        return self._table[_AT][-1].value

    async def fill(self) -> None:
        """Have at least one row, unless there is none."""
        while self.is_empty and not self.has_ended:
            await self.extend()

    async def extend(self) -> None:
        """Read the next table."""
        following = await anext(self._source, None)
        if following is None:
            self.has_ended = True
        else:
            self._table = following if self.is_empty else pa.concat_tables([self._table, following])

    def take_before(self, bound: int | None) -> Table:
        """The rows before a time, in microseconds since 1970; all if it is None."""
        if self._table is None:
            return pa.table({})
        begin, rows = 0, self._table.num_rows
        if bound is not None:
            times = self._table[_AT].cast(pa.int64())
            rows = compute.sum(compute.less(times, bound)).as_py() or 0
        taken, self._table = self._table.slice(begin, rows), self._table.slice(rows)
        return taken


def _united(parts: Sequence[Table]) -> Table:
    """One table in order of time."""
    filled = [part for part in parts if part.num_rows]
    if len(filled) == 1:
        return filled[0]
    identity = filled[0].column_names[0]
    # The sort is stable (Arrow, "Sorts and partitions"): of equal rows those of the first part come first.
    table = pa.concat_tables(filled).sort_by([(_AT, "ascending"), (identity, "ascending")]).combine_chunks()
    before, after = table.slice(0, table.num_rows - 1), table.slice(1)
    same = compute.and_(
        compute.equal(before[_AT], after[_AT]), compute.equal(before[identity], after[identity])
    ).combine_chunks()
    is_first = pa.concat_arrays([pa.array([True]), compute.invert(same)])
    return table.filter(is_first)
