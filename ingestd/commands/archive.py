"""`ingestd archive`."""

from datetime import date, datetime

import click

from ingestd.archive.archive import SETTING, Archive
from ingestd.commands.invocation import run_to_end, settings_of
from ingestd.config import Settings
from ingestd.errors import IngestdError
from ingestd.model.stream import STREAMS
from ingestd.store.archiving import Archiving
from ingestd.store.clocks import Clocks
from ingestd.store.partitions import Partitions
from ingestd.store.pool import Pool


@click.command(short_help="Put days of history into the archive.")
@click.argument("days", nargs=-1, type=click.DateTime(["%Y-%m-%d"]), metavar="[DAY]...")
@click.pass_context
def archive(context: click.Context, *, days: tuple[datetime, ...]) -> None:
    """Put days of history (UTC) into the archive, and check them. They stay in the database until they are due.

    Without a day: archive what is past its retention and drop it, as the daemon does every hour.
    """
    settings = settings_of(context)
    if settings.archive_dir is None:
        raise IngestdError(f"{SETTING} is not set: it names the directory of the archive")
    archiving = Archiving(Archive(settings.archive_dir), settings.owner_dsn)
    partitions = Partitions(settings.database_url.get_secret_value(), owner=settings.owner_dsn, archiving=archiving)
    run_to_end(lambda: _given(partitions, [day.date() for day in days]) if days else _due(settings, partitions))


async def _given(partitions: Partitions, days: list[date]) -> None:
    for day in days:
        for stream in STREAMS:
            await partitions.archive_day(stream, day)


async def _due(settings: Settings, partitions: Partitions) -> None:
    if settings.retention is None:
        raise IngestdError("nothing is ever due: INGESTD_RETENTION is not set. Name a day")
    async with Pool(settings.database_url.get_secret_value(), connections=1) as pool:
        if not await Clocks(pool).agree():
            raise IngestdError("nothing is dropped while the clocks differ")
    for stream in STREAMS:
        await partitions.drop_days(stream, older_than=settings.retention)
