"""`ingestd partitions`: the days of history, as programs and people read them."""

import json
from collections.abc import Iterable
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

import click

from ingestd.commands.invocation import run_to_end, settings_of
from ingestd.store.partitions import Partition, Partitions


@click.command(name="partitions", short_help="List the days of history with their sizes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.pass_context
def list_partitions(context: click.Context, *, as_json: bool) -> None:
    """List the days of history with their sizes, and the totals."""
    settings = settings_of(context)

    async def show() -> None:
        days = await Partitions(settings.database_url.get_secret_value()).days()
        click.echo(json.dumps(json_of(days)) if as_json else text_of(days))

    run_to_end(show)


_MIB: Final = 2**20


_LINE: Final = "{:<16} {:<10} {:>6} {:>10} {:>14}  {}"


def json_of(days: Iterable[Partition]) -> dict[str, Any]:
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


def text_of(days: Iterable[Partition]) -> str:
    """The same as a table for people. `?`: PostgreSQL has not estimated the rows yet. `-`: the day has not begun."""
    shown = json_of(days)
    lines = [_LINE.format("table", "day", "age", "MiB", "rows", "state")]
    for one in shown["partitions"]:
        rows = "?" if one["rows"] is None else f"{one['rows']:,}"
        age = f"{one['ageDays']}d" if one["ageDays"] >= 0 else "-"
        size = f"{one['bytes'] / _MIB:,.1f}"
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
