"""Loads the named SQL blocks of sql/queries/*.sql.

A block starts with `-- name: <name>`; comment lines that follow say what it is for. `{identifier}` stands
for a table or column of a stream, filled in once at start; `%(parameter)s` is bound by psycopg at each call.
"""

import re
from importlib.resources import files
from typing import Final, LiteralString, cast

from psycopg import sql

from ingestd.telemetry import Stream

_BLOCK: Final = re.compile(r"^-- name: (\w+)\n(.*?)(?=^-- name: |\Z)", re.MULTILINE | re.DOTALL)


def load(filename: str) -> dict[str, sql.SQL]:
    """Name -> statement, for one file of sql/queries."""
    text = (files("ingestd") / "sql" / "queries" / filename).read_text(encoding="utf-8")
    # psycopg takes only literal strings as SQL, to keep data out of it; this text is ours, shipped in the wheel.
    return {name: sql.SQL(cast("LiteralString", body.strip())) for name, body in _BLOCK.findall(text)}


def for_stream(statement: sql.SQL, stream: Stream, **others: sql.Composable) -> sql.Composed:
    """Fill in the names of a stream's tables and columns, and whatever else the statement leaves open."""
    columns = [sql.Identifier(name) for name in stream.row_columns]
    return statement.format(
        stream=sql.Literal(stream.name),
        stream_name=sql.SQL(stream.name),
        history=sql.Identifier(stream.history),
        live=sql.Identifier(stream.live),
        day=sql.Identifier(f"{stream.name}_day"),
        late=sql.Identifier(f"{stream.name}_late"),
        energy=sql.Identifier(stream.columns[stream.energy_key]),
        register=sql.Identifier(stream.columns[stream.register_key]),
        averaged=sql.Identifier(stream.columns[stream.averaged_key]),
        soc=sql.Identifier("soc") if "soc" in stream.columns else sql.SQL("NULL::double precision"),
        staged=sql.Identifier(f"staged_{stream.name}"),
        newest=sql.Identifier(f"newest_{stream.name}"),
        id=sql.Identifier(stream.id_column),
        id_key=sql.Identifier(stream.id_key),
        figures=sql.SQL(", ").join(
            sql.SQL("{} AS {}").format(sql.Identifier(column), sql.Identifier(key))
            for key, column in stream.columns.items()
        ),
        columns=sql.SQL(", ").join(columns),
        values=sql.SQL(", ").join(sql.SQL("newest.{}").format(column) for column in columns),
        merged=sql.SQL(", ").join(sql.SQL("{0} = newest.{0}").format(column) for column in columns[1:]),
        assignments=sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(column) for column in columns[1:]),
        **others,
    )
