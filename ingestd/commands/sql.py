"""`ingestd sql`: the statements of sql/queries, to be read, and to be pasted into psql."""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import takewhile
from typing import Final

import click

from ingestd.store import queries

_HINT: Final = (
    "-- Set each to a value as SQL writes it: 15, $$meter-001$$, $$2026-11-20T10:30Z$$, $${a,b}$$, true, NULL."
)


_changes_data: Final = re.compile(r"\b(INSERT INTO|UPDATE|DELETE FROM|MERGE INTO|FROM STDIN)\b").search


@click.command(name="sql", short_help="Print a SQL statement, ready for psql.")
@click.argument("name", required=False)
def sql_command(name: str | None) -> None:
    """Print a statement whole, to be read or pasted into psql; without NAME, list them all."""
    if name is None:
        click.echo(as_text())
    elif statement := find(name):
        click.echo(statement.script)
    else:
        raise click.BadParameter(no_such(name), param_hint="NAME")


@dataclass(frozen=True, slots=True, kw_only=True)
class PrintedStatement:
    """A block of sql/queries, filled in for one stream where it is of both."""

    file: str
    """Without .sql."""
    block: str
    """`block`, or `block:stream`."""
    comment: str
    text: str
    """Parameters are psql's variables: `:name`."""
    parameters: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.file}.{self.block}"

    @property
    def script(self) -> str:
        """The statement for psql. Changes are rolled back, because a filter that is NULL may select all rows."""
        lines = [self.comment]
        if self.parameters:
            lines += [_HINT, *(rf"\set {name} NULL" for name in self.parameters)]
        lines += ["BEGIN;", f"{self.text};", "ROLLBACK;"] if _changes_data(self.text) else [f"{self.text};"]
        return "\n".join(lines)


def all_statements() -> list[PrintedStatement]:
    """All statements, ordered by file, and by position in the file."""
    return [
        _statement(filename, block, source)
        for filename in queries.filenames()
        for block, source in queries.texts(filename).items()
    ]


def find(name: str) -> PrintedStatement | None:
    """Find a statement by `file.block` or by `block`. Names of blocks are unique over all files."""
    return next((one for one in all_statements() if name in {one.name, one.block}), None)


def no_such(name: str) -> str:
    """The error for a name that does not exist, with similar names."""
    wanted = name.rpartition(".")[2]
    blocks = [one.block for one in all_statements()]
    near = [block for block in blocks if block.startswith(f"{wanted}:")] or get_close_matches(wanted, blocks, n=4)
    hint = f"did you mean {', '.join(near)}?" if near else "`ingestd sql` lists them all"
    return f"there is no statement {name!r}; {hint}"


def as_text() -> str:
    """All names, each with the first line of its comment."""
    found = all_statements()
    width = max(len(one.name) for one in found)
    return "\n".join(f"{one.name:<{width}}  {one.comment.splitlines()[0].removeprefix('-- ')}" for one in found)


def _statement(filename: str, block: str, source: str) -> PrintedStatement:
    lines = source.splitlines()
    comment = list(takewhile(lambda line: line.startswith("--"), lines))
    text = "\n".join(lines[len(comment) :]).rstrip(";")
    return PrintedStatement(
        file=filename.removesuffix(".sql"),
        block=block,
        comment="\n".join(comment),
        text=queries.PARAMETER.sub(lambda match: "%" if match[2] else f":{match[1]}", text),
        parameters=tuple(dict.fromkeys(match[1] for match in queries.PARAMETER.finditer(text) if match[1])),
    )
