"""Bytes of a reading in the table and in the archive: `python -m bench.archive`. A day of the simulated fleet."""

from __future__ import annotations

import asyncio
import json
import random
import resource
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click
import psycopg

from bench.history import make_partitions
from ingestd.archive.archive import Archive
from ingestd.demo.fleet import Fleet
from ingestd.demo.servers import PrivatePostgres
from ingestd.model.stream import STREAMS
from ingestd.store.archiving import Archiving
from ingestd.store.migrations import migrate
from ingestd.store.partitions import Partitions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingestd.model.stream import Stream

DAY = datetime(2026, 10, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SEED = 1


def readings(devices: int) -> Iterator[tuple[Stream, tuple[Any, ...]]]:
    """A day of a meter and a vehicle each, once a minute at a second of their own, received within a second."""
    fleet = Fleet(meters=devices, vehicles=devices, seed=SEED)
    chance = random.Random(SEED)  # noqa: S311 - the same figures every time
    offsets = {stream: [timedelta(milliseconds=chance.randrange(60_000)) for _ in range(devices)] for stream in STREAMS}
    for number in range(24 * 60):
        for place, (topic, payload) in enumerate(fleet.readings(DAY + number * MINUTE, MINUTE)):
            (stream,) = (stream for stream in STREAMS if topic.startswith(f"{stream.topic_root}/"))
            reading = json.loads(payload)
            at = DAY + number * MINUTE + offsets[stream][place // 2]
            received = at + timedelta(microseconds=chance.randrange(1_000_000))
            yield stream, (reading[stream.id_key], at, *map(reading.get, stream.columns), received)


@click.command()
@click.option("--devices", default=1000, show_default=True, help="Meters, and as many vehicles.")
def main(devices: int) -> None:
    """Store the day, archive it, and print the bytes of a reading."""
    with PrivatePostgres() as server, TemporaryDirectory() as directory:
        asyncio.run(migrate(server.dsn()))
        make_partitions(server.dsn(), since=DAY, until=DAY)
        _store(server.dsn(), devices)
        archiving = Archiving(Archive(Path(directory)), server.dsn())
        partitions = Partitions(server.dsn(), archiving=archiving)
        sizes = {day.table: day.bytes for day in asyncio.run(partitions.days())}
        rows = devices * 24 * 60
        for stream in STREAMS:
            begin, cpu = time.monotonic(), time.process_time()
            asyncio.run(partitions.archive_day(stream, DAY.date()))
            took, cpu = time.monotonic() - begin, time.process_time() - cpu
            (file,) = Path(directory).glob(f"{stream.topic_root}-*")
            table, archived = sizes[stream.history] / rows, file.stat().st_size / rows
            print(
                f"{stream.name}: {rows:,} readings, "
                f"{table:.1f} bytes each in the table with its indexes,"
                f" {archived:.2f} in the archive ({table / archived:.0f} times less),"
                f" archived in {took:.1f} s, {cpu:.1f} s of own CPU"
            )
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"peak memory of this process, with the simulated fleet: {peak:.0f} MiB")


def _store(dsn: str, devices: int) -> None:
    with psycopg.connect(dsn, autocommit=True) as meters, psycopg.connect(dsn, autocommit=True) as vehicles:
        connections = dict(zip(STREAMS, (meters, vehicles), strict=True))
        for connection in connections.values():
            connection.execute("SET timezone = 'UTC'")
        held: dict[Stream, list[tuple[Any, ...]]] = {stream: [] for stream in STREAMS}
        for stream, row in readings(devices):
            held[stream].append(row)
            if len(held[stream]) == devices:  # a minute, in order of time as it is stored by the second
                copying = f"COPY {stream.history} ({', '.join(stream.row_columns)}) FROM STDIN".encode()
                with connections[stream].cursor().copy(copying) as copy:
                    for one in sorted(held[stream], key=lambda row: row[1]):
                        copy.write_row(one)
                held[stream].clear()
        for stream, connection in connections.items():
            connection.execute(f"VACUUM ANALYZE {stream.history}".encode())


if __name__ == "__main__":
    main()
