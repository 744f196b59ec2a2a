"""Loads the named SQL blocks of sql/queries/*.sql.

A block starts with `-- name: <name>`. The comment lines after it say what the statement is for. `{identifier}` stands
for a table or column of a stream and is replaced once at start; `%(parameter)s` is bound by psycopg at each call.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Final, LiteralString, cast

from psycopg import sql

from ingestd.model.stream import CHARGING, STREAMS, WITH_ENERGY, Stream

_BLOCK: Final = re.compile(r"^-- name: (\w+)\n(.*?)(?=^-- name: |\Z)", re.MULTILINE | re.DOTALL)
PARAMETER: Final = re.compile(r"%\((\w+)\)s|%(%)")
"""A parameter with its name, or a doubled percent sign."""
_SQL: Final = files("ingestd") / "sql"
_FOLDER: Final = _SQL / "queries"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A statement in PostgreSQL's own form, with $1, $2, ... for its parameters.

    It is made once at start. psycopg would parse a statement of more than 4 kB at each call, and for the statements of
    the analytics that takes longer than all else that psycopg does.
    """

    text: bytes
    """Parameters are $1, $2, ..."""
    parameters: tuple[str, ...]
    """Their names, in order."""


def filenames() -> list[str]:
    """All files of sql/queries."""
    return sorted(file.name for file in _FOLDER.iterdir())


def script(filename: str) -> str:
    """The text of a file of sql/ that has no named blocks."""
    return (_SQL / filename).read_text(encoding="utf-8")


def load(filename: str) -> dict[str, sql.SQL]:
    """Name -> statement, for one file of sql/queries."""
    text = (_FOLDER / filename).read_text(encoding="utf-8")
    # psycopg accepts only literal strings as SQL, to keep data out of it. This text is part of the release.
    return {name: sql.SQL(cast("LiteralString", body.strip())) for name, body in _BLOCK.findall(text)}


def for_stream(
    statement: sql.SQL, stream: Stream, *, history: str | None = None, **others: sql.Composable
) -> sql.Composed:
    """Fill in the names of a stream's tables and columns; `others` is for statements that are made by other modules.

    `history` names a single partition, in place of the whole history.
    """
    columns = [sql.Identifier(name) for name in stream.row_columns]
    return statement.format(
        stream=sql.Literal(stream.name),
        history=sql.Identifier(history or stream.history),
        live=sql.Identifier(stream.live),
        quarter=sql.Identifier(f"{stream.name}_quarter"),
        hour=sql.Identifier(f"{stream.name}_hour"),
        stale=sql.Identifier(f"{stream.name}_stale"),
        **_energy_columns(stream),
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
        sums=_sums(stream),
        **others,
    )


def _sums(stream: Stream) -> sql.Composable:
    """For each column of a row: count, sum, least, greatest."""
    time = "ingestd_microseconds({})"
    as_number = {stream.id_column: "octet_length({})", "ts": time, "received_at": time}
    as_compared = as_number | {stream.id_column: "{}"}
    return sql.SQL(", ").join(
        sql.SQL("count({}), sum({}), min({}), max({})").format(
            sql.Identifier(column),
            sql.SQL(as_number.get(column, "{}")).format(sql.Identifier(column)),
            *[sql.SQL(as_compared.get(column, "{}")).format(sql.Identifier(column))] * 2,
        )
        for column in stream.row_columns
    )


def _energy_columns(stream: Stream) -> dict[str, sql.Composable]:
    """The columns of a stream with energy."""
    if not stream.energy_key:
        return {}
    averaged = stream.columns.get(stream.averaged_key)
    return {
        "energy": sql.Identifier(stream.columns[stream.energy_key]),
        "register": sql.Identifier(stream.columns[stream.register_key]),
        "averaged": sql.SQL("0::double precision") if averaged is None else sql.Identifier(averaged),
    }


def texts(filename: str) -> dict[str, str]:
    """Name -> text, for people to read; `name:stream` if the statement has tables or columns of a stream."""
    found: dict[str, str] = {}
    for name, statement in load(filename).items():
        filled = {
            f"{name}:{stream.name}": for_stream(statement, stream).as_string() for stream in _streams_of(statement)
        }
        found |= filled if len(set(filled.values())) > 1 else {name: next(iter(filled.values()))}
    return found


def _streams_of(statement: sql.SQL) -> Iterable[Stream]:
    """The streams that have all tables and columns of the statement."""
    text = statement.as_string()
    if "vehicle_meter_mapping" in text:
        return CHARGING
    if any(f"{{{name}}}" in text for name in ("energy", "register", "quarter", "hour", "stale")):
        return WITH_ENERGY
    return STREAMS


def ready(source: sql.SQL | sql.Composed) -> Statement:
    """A statement whose identifiers are filled in; only its parameters are left."""
    names: dict[str, int] = {}

    def numbered(match: re.Match[str]) -> str:
        name, percent = match.groups()
        return percent or f"${names.setdefault(name, len(names) + 1)}"

    text = PARAMETER.sub(numbered, source.as_string())
    return Statement(text=text.encode(), parameters=tuple(names))


def of_streams(
    sources: Mapping[str, sql.SQL], streams: Iterable[Stream] = WITH_ENERGY
) -> dict[Stream, dict[str, Statement]]:
    """Name -> statement, for each stream; by default for each stream with a ledger."""
    return {stream: {name: ready(for_stream(source, stream)) for name, source in sources.items()} for stream in streams}


def all_ready(sources: dict[str, sql.SQL]) -> dict[str, Statement]:
    """Name -> statement, without the statements of a single stream."""
    return {name: ready(source) for name, source in sources.items() if "{" not in source.as_string()}
