# ruff: noqa: SIM300 - expected == actual
"""Days of history go into the archive before they are dropped."""

from __future__ import annotations

import csv
import io
from contextlib import aclosing
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from pyarrow import parquet
from structlog.testing import capture_logs

from ingestd.archive.archive import Archive
from ingestd.errors import ArchiveError, IngestdError, TransientStoreError
from ingestd.model.periods import TimeRange
from ingestd.model.stream import METER, STREAMS
from ingestd.store import archiving, queries
from ingestd.store.archiving import Archiving
from ingestd.store.exports import Exports
from ingestd.store.partitions import Partitions
from tests.support.daemon import Daemon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ingestd.demo.servers import PrivateMosquitto
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


# What goes wrong


async def test_readings_that_come_late_go_into_a_further_file(
    history: History, partitions: Partitions, tmp_path: Path
) -> None:
    history.add(METER, DAY, rows=2)
    await partitions.drop_days(METER, older_than=RETENTION)
    before = (tmp_path / "meters-2020-01-01.parquet").read_bytes()
    history.add(METER, DAY, rows=1, device="late")

    await partitions.drop_days(METER, older_than=RETENTION)

    assert [] == history.partitions(METER)
    assert ["meters-2020-01-01-2.parquet", "meters-2020-01-01.parquet"] == files(tmp_path)
    assert before == (tmp_path / "meters-2020-01-01.parquet").read_bytes()
    assert ["late"] == [row["meterId"] for row in rows_in(tmp_path / "meters-2020-01-01-2.parquet")]


async def test_a_day_that_is_in_the_archive_is_not_written_again(
    history: History, partitions: Partitions, tmp_path: Path
) -> None:
    history.add(METER, DAY, rows=2)
    await partitions.archive_day(METER, DAY)
    assert ["meter_history_20200101"] == history.partitions(METER)

    await partitions.archive_day(METER, DAY)
    await partitions.drop_days(METER, older_than=RETENTION)

    assert [] == history.partitions(METER)
    assert ["meters-2020-01-01.parquet"] == files(tmp_path)


async def test_a_day_without_readings_needs_no_file(history: History, partitions: Partitions, tmp_path: Path) -> None:
    history.add(METER, DAY, rows=0)

    await partitions.drop_days(METER, older_than=RETENTION)

    assert ([], []) == (history.partitions(METER), files(tmp_path))


async def test_a_reading_that_comes_between_archiving_and_detaching_is_archived_too(
    history: History, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.add(METER, DAY, rows=2)
    partitions = Partitions(database_url, archiving=Archiving(Archive(tmp_path), database_url))

    def reach(name: str) -> None:
        if name == "before-detach":
            history.add(METER, DAY, rows=1, device="just in time")

    monkeypatch.setattr("ingestd.store.partitions.failpoints.reach", reach)
    await partitions.drop_days(METER, older_than=RETENTION)

    assert [] == history.partitions(METER)
    assert {"d", "just in time"} == {row["meterId"] for row in rows_in(tmp_path / "meters-2020-01-01-2.parquet")}


@pytest.mark.parametrize("column", ["voltage", "ts", "meter_id"])
async def test_a_file_that_differs_from_the_table_gets_no_name(
    history: History, partitions: Partitions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: str
) -> None:
    history.add(METER, DAY, rows=2)
    changed = {"voltage": "voltage + 1e-3", "ts": "ts + interval '1 us'", "meter_id": "'e'"}
    columns = ", ".join(f"{changed[name]} AS {name}" if name == column else name for name in METER.row_columns)
    other = f"CREATE TABLE other AS SELECT {columns} FROM meter_history"  # noqa: S608
    history.connection.execute(other.encode())
    sums = queries.for_stream(queries.load("archive.sql")["sums"], METER, history="other")
    monkeypatch.setattr(archiving, "_SQL", {"sums": sql.SQL(sums.as_string())})

    with pytest.raises(ArchiveError, match="does not have the same count and sums"):
        await partitions.drop_days(METER, older_than=RETENTION)

    assert (["meter_history_20200101"], []) == (history.partitions(METER), files(tmp_path))


async def test_a_full_disk_leaves_the_day_in_the_database(history: History, database_url: str, tmp_path: Path) -> None:
    history.add(METER, DAY, rows=2)
    part = tmp_path / "meters-2020-01-01.parquet.part"
    part.symlink_to("/dev/full")
    archive = Archiving(Archive(tmp_path), database_url)
    partitions = Partitions(database_url, archiving=archive)

    with capture_logs() as logs, pytest.raises(ArchiveError, match="No space left on device"):
        await partitions.drop_days(METER, older_than=RETENTION)

    failed = archive.reason or ""
    assert (["meter_history_20200101"], []) == (history.partitions(METER), files(tmp_path))
    assert "No space left on device" in failed
    assert [("archive_failed", failed)] == [(line["event"], line["reason"]) for line in logs]
    assert [(2,)] == history.connection.execute("SELECT count(*) FROM meter_history").fetchall()

    await partitions.drop_days(METER, older_than=RETENTION)

    assert ([], ["meters-2020-01-01.parquet"]) == (history.partitions(METER), files(tmp_path))
    assert archive.reason is None


@pytest.mark.parametrize("wrong", ["missing", "a file", "pyarrow"])
async def test_what_is_missing_is_named_before_anything_is_due(
    history: History, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    history.add(METER, DAY, rows=0)
    directory = tmp_path / "archive"
    if wrong == "a file":
        directory.touch()
    if wrong == "pyarrow":
        directory.mkdir()
        monkeypatch.setattr("ingestd.archive.archive.find_spec", lambda _: None)
    partitions = Partitions(database_url, archiving=Archiving(Archive(directory), database_url))

    with pytest.raises(ArchiveError, match="pip install" if wrong == "pyarrow" else f"{directory} is no directory"):
        await partitions.drop_days(METER, older_than=RETENTION)

    assert ["meter_history_20200101"] == history.partitions(METER)


async def test_a_damaged_file_is_no_copy(history: History, partitions: Partitions, tmp_path: Path) -> None:
    history.add(METER, DAY, rows=2)
    (tmp_path / "meters-2020-01-01.parquet").write_bytes(b"PAR1 and nothing else")

    with pytest.raises(ArchiveError, match=r"meters-2020-01-01\.parquet"):
        await partitions.drop_days(METER, older_than=RETENTION)

    assert ["meter_history_20200101"] == history.partitions(METER)


async def test_a_day_that_has_not_ended_or_is_not_there_is_not_archived(
    history: History, partitions: Partitions
) -> None:
    today = datetime.now(UTC).date()
    history.add(METER, today, rows=1)

    with pytest.raises(IngestdError, match="has not ended yet"):
        await partitions.archive_day(METER, today)
    with pytest.raises(IngestdError, match="there is no 2020-01-01 in meter_history"):
        await partitions.archive_day(METER, DAY)


async def test_one_at_a_time_archives(history: History, partitions: Partitions, database_url: str) -> None:
    history.add(METER, DAY, rows=1)

    with psycopg.connect(database_url) as other:
        other.execute("SELECT pg_advisory_lock(hashtext('ingestd-partitions'), hashtext('meter_history'))")
        with pytest.raises(TransientStoreError, match="another ingestd"):
            await partitions.drop_days(METER, older_than=RETENTION)

    assert ["meter_history_20200101"] == history.partitions(METER)


# Exports


async def exported(
    url: str, archive: Path, window: TimeRange, device: str | None = None, **how: bool
) -> list[list[str]]:
    """Lines without the names."""
    chunks = [chunk async for chunk in Exports(url, archive=Archive(archive)).csv(METER, window, device, **how)]
    lines = list(csv.reader(io.StringIO(b"".join(chunks).decode())))
    assert ["meterId", "timestamp", *METER.columns, "receivedAt"] == lines[0]
    return lines[1:]


@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize("kept", [0, 1, 2, 3])
async def test_an_export_is_the_same_whatever_of_it_is_in_the_archive(
    history: History, partitions: Partitions, database_url: str, tmp_path: Path, kept: int, *, in_order: bool
) -> None:
    days = [DAY + timedelta(days=n) for n in range(3)]
    for day in days:
        for device in ("b", "a"):
            history.add(METER, day, rows=3, device=device, figure=1 / 3)
    window = TimeRange(start=midnight(DAY) + A_SECOND, end=midnight(days[2]) + 2 * A_SECOND)
    before = await exported(database_url, tmp_path, window, in_order=in_order)

    for number, day in enumerate(days):
        await partitions.archive_day(METER, day)
        if number >= kept:
            history.connection.execute(f"DROP TABLE meter_history_{day:%Y%m%d}".encode())

    after = await exported(database_url, tmp_path, window, in_order=in_order)
    assert 14 == len(before)
    assert [values(line) for line in sorted(before)] == [values(line) for line in sorted(after)]
    assert sorted(line[1] for line in after) == [line[1] for line in after], "in order of time"
    assert midnight(days[2]) + timedelta(days=1) == await Exports(database_url, archive=Archive(tmp_path)).archive_end(
        METER, window
    )


def values(line: list[str]) -> list[Any]:
    """The lines of PostgreSQL and of the archive may write the same number differently."""
    return [line[0], line[1], *(float(figure) if figure else None for figure in line[2:-1]), line[-1]]


async def test_late_readings_are_in_the_export_once(
    history: History, partitions: Partitions, database_url: str, tmp_path: Path
) -> None:
    history.add(METER, DAY, rows=3)
    await partitions.drop_days(METER, older_than=RETENTION)
    history.add(METER, DAY, rows=1)  # sent again
    history.add(METER, DAY, rows=2, device="late")
    window = TimeRange(start=midnight(DAY), end=midnight(DAY) + timedelta(days=1))
    wanted = [["d", 0], ["late", 0], ["d", 1], ["late", 1], ["d", 2]]

    def found(lines: list[list[str]]) -> list[list[Any]]:
        return [[line[0], datetime.fromisoformat(line[1]).second] for line in lines]

    assert wanted == found(await exported(database_url, tmp_path, window))
    await partitions.drop_days(METER, older_than=RETENTION)
    assert wanted == found(await exported(database_url, tmp_path, window))
    history.connection.execute(
        "INSERT INTO meter_live (meter_id, ts, voltage, received_at) VALUES ('late', now(), 1, now())"
    )
    assert [["late", 0], ["late", 1]] == found(await exported(database_url, tmp_path, window, "late"))


async def test_a_day_that_is_archived_and_due_while_an_export_runs_is_not_missed(
    history: History, partitions: Partitions, database_url: str, tmp_path: Path
) -> None:
    history.add(METER, DAY, rows=3)
    window = TimeRange(start=midnight(DAY), end=midnight(DAY) + timedelta(days=1))
    export = Exports(database_url, archive=Archive(tmp_path)).csv(METER, window, None)
    async with aclosing(export):
        first = await anext(export)
        with pytest.raises(TransientStoreError, match="in use"):
            await partitions.drop_days(METER, older_than=RETENTION)
    assert 4 == first.count(b"\n")

    assert 3 == len(await exported(database_url, tmp_path, window)), "half detached, and in the archive"
    await partitions.drop_days(METER, older_than=RETENTION)
    assert 3 == len(await exported(database_url, tmp_path, window))
    assert ["meters-2020-01-01.parquet"] == files(tmp_path)


async def test_the_route_of_exports_says_up_to_when_readings_are_from_the_archive(
    history: History, partitions: Partitions, broker: PrivateMosquitto, database_url: str, tmp_path: Path
) -> None:
    next_day = DAY + timedelta(days=1)
    history.add(METER, DAY, rows=3)
    history.add(METER, next_day, rows=2)
    await partitions.drop_days(METER, older_than=datetime.now(UTC) - midnight(next_day) - A_SECOND)
    window = "startTime=2020-01-01T00:00:00Z&endTime=2020-01-03T00:00:00Z"

    with Daemon(mqtt_url=broker.url, database_url=database_url, archive_dir=str(tmp_path)) as daemon:
        daemon.wait_healthy()
        whole = daemon.request("GET", f"/v1/export/meters.csv?{window}")
        (tmp_path / "meters-2020-01-01.parquet").write_bytes(b"no Parquet")
        damaged = daemon.request("GET", f"/v1/export/meters.csv?{window}")

    assert (200, "2020-01-02T00:00:00Z") == (whole.status, whole.headers["archive-end"])
    assert [f"{day}T00:00:0{n}" for day, rows in ((DAY, 3), (next_day, 2)) for n in range(rows)] == [
        line["timestamp"].removesuffix("Z") for line in csv.DictReader(io.StringIO(whole.body.decode()))
    ]
    assert (503, "the archive cannot be read") == (damaged.status, damaged.json()["detail"])
