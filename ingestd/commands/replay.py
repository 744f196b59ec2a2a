"""`ingestd replay`."""

from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from ingestd.commands.export import exports_of
from ingestd.commands.invocation import run_to_end, settings_of
from ingestd.commands.options import progress_bar, timestamp
from ingestd.config import Settings
from ingestd.demo.replay import Recording
from ingestd.demo.stored import batches
from ingestd.errors import IngestdError
from ingestd.model.periods import TimeRange
from ingestd.model.stream import STREAMS, Stream
from ingestd.mqtt.publisher import connected


@click.command(short_help="Publish the messages of a file, or stored readings.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
@click.option(
    "--stored", type=click.Choice([stream.topic_root for stream in STREAMS]), help="Stored readings, no file."
)
@click.option("--start", callback=timestamp, help="With --stored: from this time on; a day before the end if left out.")
@click.option("--end", callback=timestamp, help="With --stored: up to but not including this time; now if left out.")
@click.option("--shift-to-now", is_flag=True, help="Shift all timestamps so that the newest, or --end, is of now.")
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), help="Messages a second; as fast as possible if left out."
)
@click.pass_context
def replay(
    context: click.Context,
    *,
    file: Path | None,
    stored: str | None,
    start: datetime | None,
    end: datetime | None,
    shift_to_now: bool,
    rate: float | None,
) -> None:
    """Publish recorded messages: lines of {"topic": ..., "payload": {...}}; or readings of database and archive.

    \b
    ingestd replay day.jsonl --shift-to-now --rate 500
    ingestd replay --stored meters --start 2026-10-01T00:00Z --end 2026-10-02T00:00Z
    """
    if (file is None) is (stored is None) or (file is not None and (start or end)):
        raise click.UsageError("give either a FILE, or --stored with --start and --end")
    settings = settings_of(context)
    if file is not None:
        _play_file(settings, file, shift_to_now=shift_to_now, rate=rate)
        return
    (stream,) = (stream for stream in STREAMS if stream.topic_root == stored)
    now = datetime.now(UTC)
    end = end or now
    window = TimeRange(start=start or end - timedelta(days=1), end=end)
    if window.start >= end:
        raise IngestdError("the end must be later than the start")
    run_to_end(
        lambda: _play_stored(settings, stream, window, shift=now - end if shift_to_now else timedelta(0), rate=rate)
    )


def _play_file(settings: Settings, file: Path, *, shift_to_now: bool, rate: float | None) -> None:
    recording = Recording(file)

    async def play() -> None:
        messages = recording.play(shift_to_now=shift_to_now)
        async with connected(settings, client_id="ingestd-replay") as publisher:
            with progress_bar(length=recording.messages, label=f"Replaying {file.name}") as bar:
                published = await publisher.publish(messages, rate=rate, progress=bar.update)
        _echo(published)

    run_to_end(play)


async def _play_stored(
    settings: Settings, stream: Stream, window: TimeRange, *, shift: timedelta, rate: float | None
) -> None:
    """In order of time, each reading once."""
    exports = exports_of(settings)
    published = 0
    async with (
        connected(settings, client_id="ingestd-replay") as publisher,
        aclosing(exports.csv(stream, window, None, in_order=True)) as chunks,
    ):
        async for messages in batches(chunks, stream, shift=shift):
            published += await publisher.publish(messages, rate=rate)
    _echo(published)
    if (archive_end := await exports.archive_end(stream, window)) is not None:
        click.echo(f"up to {archive_end:%FT%TZ} from the archive, from then on from the database", err=True)


def _echo(published: int) -> None:
    click.echo(f"{published} messages published and acknowledged by the broker")
