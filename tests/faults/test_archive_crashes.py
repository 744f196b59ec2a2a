# ruff: noqa: SIM300 - expected == actual
"""A daemon that is killed between any two steps of archiving leaves nothing half, and the next one finishes."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import psycopg
import pytest
from pyarrow import parquet

from tests.support.daemon import Daemon
from tests.support.polling import until

if TYPE_CHECKING:
    from pathlib import Path

    from ingestd.demo.servers import PrivateMosquitto

DAY = date(2020, 1, 1)
ROWS = 1000


def partitions(database_url: str) -> list[str]:
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT relname FROM pg_class WHERE relname = 'meter_history_20200101'").fetchall()
    return [name for (name,) in rows]


@pytest.mark.parametrize("failpoint", ["archive-written", "archive-renamed", "before-detach", "before-drop"])
def test_a_kill_leaves_the_day_in_the_table_or_whole_in_the_archive(
    broker: PrivateMosquitto, database_url: str, tmp_path: Path, failpoint: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SELECT ingestd_make_partition('meter_history', %s)", (DAY,))
        connection.execute(
            "INSERT INTO meter_history (meter_id, ts, voltage, kwh_consumed_ac, received_at)"
            " SELECT 'm', timestamptz '2020-01-01Z' + n * interval '1 minute', 230 + n * 0.1, 1.0 / (n + 3), now()"
            " FROM generate_series(0, %s) AS n",
            (ROWS - 1,),
        )
        connection.execute("UPDATE ledger SET closed_until = now()")
        connection.execute("UPDATE ledger_share SET made_until = now()")
    file = tmp_path / "meters-2020-01-01.parquet"
    with Daemon(
        mqtt_url=broker.url,
        database_url=database_url,
        retention="90d",
        archive_dir=str(tmp_path),
        failpoints=f"{failpoint}=kill",
    ) as daemon:
        until(lambda: daemon.exit_code is not None)
        assert ["meter_history_20200101"] == partitions(database_url)
        assert (failpoint != "archive-written") is file.exists()

        daemon.start(failpoints="")
        daemon.wait_healthy()
        until(lambda: not partitions(database_url), within=120)  # the lock of the killed one may cost a minute

        assert [file] == list(tmp_path.iterdir())
        assert ROWS == parquet.read_metadata(file).num_rows
        assert "ready" == daemon.request("GET", "/health").json()["archive"]
        assert 0 == daemon.metric("ingestd_archive_failing")


def test_without_a_directory_the_daemon_is_healthy_and_says_so(
    broker: PrivateMosquitto, database_url: str, tmp_path: Path
) -> None:
    directory = tmp_path / "missing"
    with Daemon(mqtt_url=broker.url, database_url=database_url, retention="90d", archive_dir=str(directory)) as daemon:
        daemon.wait_healthy()
        until(lambda: daemon.metric("ingestd_archive_failing") == 1)

        health = daemon.request("GET", "/health").json()

        assert ("healthy", f"INGESTD_ARCHIVE_DIR: {directory} is no directory") == (health["status"], health["archive"])
