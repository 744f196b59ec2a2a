"""`ingestd export`: history from the database to a file, CSV as it comes or Parquet.

In constant memory, and a file gets its name only when it is whole.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias

import click

from ingestd.archive.archive import Archive, need_pyarrow
from ingestd.commands.invocation import run_to_end, settings_of
from ingestd.commands.options import timestamp
from ingestd.config import Settings
from ingestd.errors import IngestdError
from ingestd.model.periods import TimeRange
from ingestd.model.stream import STREAMS, Stream
from ingestd.store.exports import Exports

Take: TypeAlias = Callable[[bytes], object]
"""Takes a chunk of CSV: whole lines. It may block, because no other task needs the event loop."""


STDOUT: Final = Path("-")


_SECOND: Final = timedelta(seconds=1)


@click.command(name="export", short_help="Write history to a CSV or Parquet file.")
@click.argument("what", type=click.Choice([stream.topic_root for stream in STREAMS]))
@click.option("--start", callback=timestamp, help="From this time on; a day before the end if left out.")
@click.option("--end", callback=timestamp, help="Up to but not including this time; now if left out.")
@click.option("--id", "device_id", help="Only this device, in order of time.")
@click.option("--output", type=click.Path(path_type=Path), default="-", show_default=True, help="-: standard output.")
@click.option("--format", "file_format", type=click.Choice(["csv", "parquet"]), default="csv", show_default=True)
@click.pass_context
def export_command(context: click.Context, /, *, output: Path, file_format: str, **wanted: Any) -> None:  # noqa: ANN401 - click's
    """Write the history of meters or vehicles to a file, straight from the database.

    \b
    ingestd export vehicles --start 2026-10-01T00:00Z --end 2026-11-01T00:00Z --output october.csv
    ingestd export meters --id meter-001 | gzip >meter-001.csv.gz
    """
    settings = settings_of(context)
    export = Export(**wanted)
    hidden = not sys.stderr.isatty() or (output == STDOUT and sys.stdout.isatty())
    bar = click.progressbar(length=export.seconds, label=f"Exporting {wanted['what']}", file=sys.stderr, hidden=hidden)
    with export.file(output, file_format) as take, bar:
        run_to_end(lambda: export.run(exports_of(settings), take=take, progress=bar.update))
    if export.archive_end is not None:
        click.echo(f"up to {export.archive_end:%FT%TZ} from the archive, from then on from the database", err=True)
    if output != STDOUT:
        click.echo(f"{export.readings} readings written to {output}")


def exports_of(settings: Settings) -> Exports:
    """From the database of the settings, and from their archive."""
    archive = Archive(settings.archive_dir) if settings.archive_dir else None
    return Exports(settings.read_dsn, archive=archive)


class Export:
    """The readings of one stream in a window, by default the last day, of one device or of all."""

    def __init__(self, *, what: str, start: datetime | None, end: datetime | None, device_id: str | None) -> None:
        """`what` is the first level of the topic, such as `meters`. Raises IngestdError if the window is empty."""
        (self._stream,) = (stream for stream in STREAMS if stream.topic_root == what)
        end = end or datetime.now(UTC)
        self._window = TimeRange(start=start or end - timedelta(days=1), end=end)
        self._device_id = device_id
        self.readings = 0
        """How many have been written."""
        self.archive_end: datetime | None = None
        """Up to when they are from the archive; None if none are."""
        if self._window.start >= end:
            raise IngestdError("the end must be later than the start")

    @property
    def seconds(self) -> int:
        """The length of the window."""
        return (self._window.end - self._window.start) // _SECOND

    async def run(self, exports: Exports, *, take: Take, progress: Callable[[int], None]) -> None:
        """Pass all chunks to `take`. Raises IngestdError.

        `progress` is called with the seconds of the window that were exported since its last call. Readings come in the
        order of their days, and nearly in order within a day.
        """
        lines = gone_through = 0
        self.archive_end = await exports.archive_end(self._stream, self._window)
        async with aclosing(exports.csv(self._stream, self._window, self._device_id)) as chunks:
            async for chunk in chunks:
                take(chunk)
                lines += chunk.count(b"\n")
                self.readings = lines - 1  # the first has the names
                if self.readings:
                    seconds = (_last_timestamp(chunk) - self._window.start) // _SECOND
                    progress(max(0, seconds - gone_through))
                    gone_through = max(gone_through, seconds)
        if not lines:
            raise IngestdError(f"no {self._stream.name} {self._device_id} is known")
        progress(self.seconds - gone_through)

    @contextmanager
    def file(self, output: Path, file_format: str) -> Iterator[Take]:
        """Open what `run` writes to; `-` is standard output. Raises IngestdError."""
        with _opened(output) as file:
            if file_format == "parquet":
                with _parquet(file, self._stream) as take:
                    yield take
            else:
                yield file.write


def _last_timestamp(chunk: bytes) -> datetime:
    last = chunk[chunk.rfind(b"\n", 0, -1) + 1 :]
    return datetime.fromisoformat(last.split(b",", 2)[1].decode())


@contextmanager
def _parquet(file: BinaryIO, stream: Stream) -> Iterator[Take]:
    """Makes Parquet of the CSV that it takes."""
    need_pyarrow()
    from ingestd.archive.parquet import writing  # noqa: PLC0415 - an extra, and slow to load

    with writing(file, stream) as take:
        yield take


@contextmanager
def _opened(output: Path) -> Iterator[BinaryIO]:
    """Standard output; or a temporary file, which at the end gets the name and replaces an older file."""
    if output == STDOUT:
        yield sys.stdout.buffer
        return
    target = output.resolve()  # what a link points to
    if target.exists() and not target.is_file():
        raise IngestdError(f"{output} is not a file")
    part = target.with_name(f"{target.name}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except OSError as error:
        raise IngestdError(f"{output}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
