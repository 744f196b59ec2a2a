# ruff: noqa: SIM300 - expected == actual
"""What `ingestd export` leaves on the disk: the whole of it, or what was there before."""

from __future__ import annotations

import asyncio
import csv
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from pyarrow import parquet

from ingestd.archive.parquet import ROW_GROUP_BYTES
from ingestd.commands.export import Export
from ingestd.errors import IngestdError
from ingestd.model.stream import METER
from ingestd.store.exports import Exports
from tests.support.readings import rfc3339

if TYPE_CHECKING:
    from pathlib import Path

START = datetime(2026, 10, 20, tzinfo=UTC)
DAY = timedelta(days=1)
OLDER = "what was there before"
READINGS = [
    ("m-1", START + timedelta(microseconds=1), 0.1, 230.0),
    ("m-2", START + DAY - timedelta(seconds=1), 1 / 3, 231.5),
    ("m-1", START + DAY, None, 229.0),
]


@pytest.fixture(scope="module")
def url(shared_database_url: str) -> str:
    """Of a database with three readings of two meters, on two days."""
    with psycopg.connect(shared_database_url, autocommit=True) as connection:
        for day in (START, START + DAY):
            connection.execute("SELECT ingestd_make_partition('meter_history', %s::date)", (day,))
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO meter_history (meter_id, ts, kwh_consumed_ac, voltage, received_at)"
                " VALUES (%s, %s, %s, %s, '2026-10-22T00:00:00.5Z')",
                READINGS,
            )
        connection.execute(
            "INSERT INTO meter_live SELECT DISTINCT ON (meter_id) * FROM meter_history ORDER BY meter_id"
        )
    return shared_database_url


def meters(**wanted: Any) -> Export:  # noqa: ANN401 - whatever the test wants
    return Export(**{"what": "meters", "start": START, "end": START + 2 * DAY, "device_id": None, **wanted})


def export_to(path: Path, export: Export, url: str, file_format: str = "csv") -> list[int]:
    """The progress that was reported."""
    steps: list[int] = []
    with export.file(path, file_format) as take:
        asyncio.run(export.run(Exports(url), take=take, progress=steps.append))
    return steps


def test_a_file_has_all_readings_and_nothing_is_left_beside_it(tmp_path: Path, url: str) -> None:
    path = tmp_path / "meters.csv"
    path.write_text(OLDER)
    export = meters()

    export_to(path, export, url)

    with path.open() as file:
        written = [tuple(line.values())[:4] for line in csv.DictReader(file)]
    assert sorted(
        (device, rfc3339(at), "" if kwh is None else repr(kwh), f"{voltage:g}") for device, at, kwh, voltage in READINGS
    ) == sorted(written)
    assert (3, [path]) == (export.readings, list(tmp_path.iterdir()))


def test_progress_goes_through_the_window_from_end_to_end(tmp_path: Path, url: str) -> None:
    export = meters()

    steps = export_to(tmp_path / "meters.csv", export, url)

    assert 2 * 86_400 == export.seconds == sum(steps)
    assert min(steps) >= 0


def test_a_window_is_the_last_day_where_nothing_else_is_said(tmp_path: Path, url: str) -> None:
    before = meters(start=None, end=START + DAY)
    of_today = meters(start=None, end=None)

    export_to(tmp_path / "before.csv", before, url)
    export_to(tmp_path / "today.csv", of_today, url)

    assert (2, 0) == (before.readings, of_today.readings)
    assert 86_400 == before.seconds == of_today.seconds


def test_an_unknown_device_leaves_the_older_file_as_it_is(tmp_path: Path, url: str) -> None:
    path = tmp_path / "meters.csv"
    path.write_text(OLDER)

    with pytest.raises(IngestdError, match="no meter m-3 is known"):
        export_to(path, meters(device_id="m-3"), url)

    assert ([path], OLDER) == (list(tmp_path.iterdir()), path.read_text())


def test_what_a_link_points_to_is_replaced_and_not_the_link(tmp_path: Path, url: str) -> None:
    path, link = tmp_path / "meters.csv", tmp_path / "link"
    link.symlink_to(path)

    export_to(link, meters(), url)

    assert link.is_symlink()
    assert path.read_text().startswith("meterId,")


def test_what_is_no_file_is_left_alone(tmp_path: Path) -> None:
    """A device, for instance, would be replaced by a file."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    with pytest.raises(IngestdError, match="pipe is not a file"), meters().file(pipe, "csv"):
        pass

    assert pipe.is_fifo()


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "meters.csv"

    with pytest.raises(IngestdError, match=r"nowhere/meters.csv: No such file"), meters().file(path, "csv"):
        pass


def test_a_window_ends_after_it_starts() -> None:
    with pytest.raises(IngestdError, match="later than the start"):
        meters(end=START)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "meters.parquet"
    monkeypatch.setattr("ingestd.archive.archive.find_spec", lambda _: None)

    with pytest.raises(IngestdError, match=r"pip install 'ingestd\[parquet\]'"), meters().file(path, "parquet"):
        pass

    assert [] == list(tmp_path.iterdir())


def test_parquet_has_the_very_values(tmp_path: Path, url: str) -> None:
    path = tmp_path / "meters.parquet"
    export = meters()

    export_to(path, export, url, "parquet")

    # All devices are in no order within a day.
    table = parquet.read_table(path).sort_by([("meterId", "ascending"), ("timestamp", "ascending")])
    assert ["meterId", "timestamp", *METER.columns, "receivedAt"] == table.schema.names
    received = datetime(2026, 10, 22, 0, 0, 0, 500_000, tzinfo=UTC)
    assert [
        {"meterId": device, "timestamp": at, "kwhConsumedAc": kwh, "voltage": voltage, "receivedAt": received}
        for device, at, kwh, voltage in sorted(READINGS)
    ] == table.drop_columns(["kwhConsumedAcRegister"]).to_pylist()
    assert [None] * 3 == table["kwhConsumedAcRegister"].to_pylist()


def test_parquet_is_written_as_it_comes_in_groups_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "meters.parquet"
    line = b"m-1,2026-10-20T00:00:00Z,0.1,230,,2026-10-22T00:00:00.5Z\n"
    lines = ROW_GROUP_BYTES // len(line)

    with meters().file(path, "parquet") as take:
        take(b"meterId,timestamp,kwhConsumedAc,voltage,kwhConsumedAcRegister,receivedAt\n")
        for _ in range(2):
            take(line * lines)
            take(line)

    described = parquet.ParquetFile(path).metadata
    assert (2 * (lines + 1), 3) == (described.num_rows, described.num_row_groups)
