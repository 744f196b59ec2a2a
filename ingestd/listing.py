"""How `ingestd partitions` shows the days of history, to programs and to people."""

from collections.abc import Iterable
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

from ingestd.store.partitions import Partition

_MIB: Final = 2**20
_LINE: Final = "{:<16} {:<10} {:>6} {:>10} {:>14}  {}"


def as_json(days: Iterable[Partition]) -> dict[str, Any]:
    """Days in order of their tables, and each table's totals; rows as far as they are known."""
    partitions: list[dict[str, Any]] = []
    totals: list[dict[str, Any]] = []
    for table, group in groupby(days, key=attrgetter("table")):
        of_table = list(group)
        partitions += map(_fields, of_table)
        totals.append(
            {
                "table": table,
                "partitions": len(of_table),
                "bytes": sum(day.bytes for day in of_table),
                "rows": sum(day.rows or 0 for day in of_table),
            }
        )
    return {"partitions": partitions, "totals": totals}


def as_text(days: Iterable[Partition]) -> str:
    """The same as a table; rows that nobody has counted yet are `?`."""
    shown = as_json(days)
    lines = [_LINE.format("table", "day", "age", "MiB", "rows", "state")]
    for one in shown["partitions"]:
        rows = "?" if one["rows"] is None else f"{one['rows']:,}"
        age, size = f"{one['ageDays']}d", f"{one['bytes'] / _MIB:,.1f}"
        lines.append(_LINE.format(one["table"], one["day"], age, size, rows, one["state"]))
    for total in shown["totals"]:
        number, size = f"{total['partitions']} days", f"{total['bytes'] / _MIB:,.1f}"
        lines.append(_LINE.format(total["table"], number, "", size, f"{total['rows']:,}", "total"))
    return "\n".join(lines)


def _fields(day: Partition) -> dict[str, Any]:
    return {
        "table": day.table,
        "partition": day.name,
        "day": day.day.isoformat(),
        "ageDays": day.age_days,
        "bytes": day.bytes,
        "rows": day.rows,
        "state": day.state,
    }
