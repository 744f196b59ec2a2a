# ruff: noqa: SIM300 - expected == actual
"""Days of history go into the archive before they are dropped."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from pyarrow import parquet

from ingestd.archive.archive import Archive
from ingestd.model.stream import STREAMS
from ingestd.store.archiving import Archiving
from ingestd.store.partitions import Partitions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ingestd.model.stream import Stream

DAY = date(2020, 1, 1)
"""Past every retention."""
RETENTION = timedelta(days=3)
A_SECOND = timedelta(seconds=1)


class History:
    """The history of the test's own database."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self.connection = connection

    def add(self, stream: Stream, day: date, *, rows: int, device: str = "d", figure: float = 0.1) -> None:
        """Readings a second apart, from midnight on; a partition where there is none."""
        self.connection.execute("SELECT ingestd_make_partition(%s, %s)", (stream.history, day))
        self.connection.execute(
            f"INSERT INTO {stream.history} ({', '.join(stream.row_columns)})"  # noqa: S608
            " SELECT %(device)s, %(day)s::timestamp AT TIME ZONE 'UTC' + n * interval '1 second'"
            f"{', %(figure)s + n' * len(stream.columns)}, now() FROM generate_series(0, %(rows)s - 1) AS n".encode(),
            {"device": device, "day": day, "rows": rows, "figure": figure},
        )

    def partitions(self, stream: Stream) -> list[str]:
        """All tables with the name of a day, attached or not."""
        found = self.connection.execute(
            "SELECT relname FROM pg_class WHERE relname ~ %s ORDER BY 1", (rf"^{stream.history}_\d+$",)
        )
        return [name for (name,) in found]


@pytest.fixture
def history(database_url: str) -> Iterator[History]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE ledger SET closed_until = now()")  # as where the daemon is at work
        connection.execute("UPDATE ledger_share SET made_until = now()")
        yield History(connection)


@pytest.fixture
def partitions(database_url: str, tmp_path: Path) -> Partitions:
    return Partitions(database_url, archiving=Archiving(Archive(tmp_path), database_url))


def files(path: Path) -> list[str]:
    return sorted(file.name for file in path.iterdir())


def midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def rows_in(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return found


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
async def test_a_day_past_its_retention_is_in_the_archive_before_it_is_dropped(
    history: History, partitions: Partitions, tmp_path: Path, stream: Stream
) -> None:
    history.add(stream, DAY, rows=3)

    await partitions.drop_days(stream, older_than=RETENTION)

    assert [] == history.partitions(stream)
    assert [f"{stream.topic_root}-2020-01-01.parquet"] == files(tmp_path)
    assert [("d", midnight(DAY) + n * A_SECOND, *[0.1 + n] * len(stream.columns)) for n in range(3)] == [
        tuple(row.values())[:-1] for row in rows_in(tmp_path / files(tmp_path)[0])
    ]
