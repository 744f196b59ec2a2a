# ruff: noqa: SIM300 - expected == actual
"""`ingestd replay --stored` publishes what the archive and the database have, each reading once, in order of time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from tests.support.commands import finished

if TYPE_CHECKING:
    from pathlib import Path

    from ingestd.demo.servers import PrivateMosquitto


def test_readings_of_the_archive_and_of_the_database_are_published(
    broker: PrivateMosquitto, database_url: str, tmp_path: Path
) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    with psycopg.connect(database_url, autocommit=True) as connection:
        for day in ("2020-01-01", "2020-01-02"):
            connection.execute("SELECT ingestd_make_partition(%s, %s)", ("vehicle_history", day))
            connection.execute("SELECT ingestd_make_partition(%s, %s)", ("meter_history", day))
            connection.execute(
                "INSERT INTO meter_history (meter_id, ts, voltage, received_at)"
                " SELECT 'm', %s::timestamp AT TIME ZONE 'UTC' + n * interval '1 minute', 230, now()"
                " FROM generate_series(0, 9) AS n",
                (day,),
            )
    settings = {"database_url": database_url, "mqtt_url": broker.url, "archive_dir": str(archive)}
    window = ("--start", "2020-01-01T00:00Z", "--end", "2020-01-03T00:00Z")

    archived = finished(tmp_path, "archive", "2020-01-01", **settings)
    replayed = finished(tmp_path, "replay", "--stored", "meters", *window, **settings)
    exported = finished(tmp_path, "export", "meters", *window, **settings)

    assert (0, ["meters-2020-01-01.parquet"]) == (archived.returncode, [path.name for path in archive.iterdir()])
    assert "20 messages published and acknowledged by the broker\n" == replayed.stdout, replayed.stderr
    assert 21 == len(exported.stdout.splitlines())
    for done in (replayed, exported):
        assert "up to 2020-01-02T00:00:00Z from the archive, from then on from the database" in done.stderr
