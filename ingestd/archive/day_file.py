"""The file of a day while it is written: it gets its name only when it is whole, checked, and on the disk."""

import os
from contextlib import suppress
from datetime import date

from ingestd import failpoints
from ingestd.archive.archive import Archive, translated
from ingestd.archive.digest import Digest
from ingestd.archive.parquet import Writer, digest_of
from ingestd.errors import ArchiveError
from ingestd.model.stream import Stream


class DayFile:
    """Its methods wait for the disk: call them in threads, one after the other. They raise ArchiveError."""

    def __init__(self, archive: Archive, stream: Stream, day: date) -> None:
        """Open it under a temporary name. A crash may leave that behind; the next attempt overwrites it."""
        self.path = archive.next_file(stream, day)
        self._part = self.path.with_name(f"{self.path.name}.part")
        self._stream = stream
        with translated(self._part):
            self._file = self._part.open("wb")
        self._writer = Writer(self._file, stream)

    def take(self, chunk: bytes) -> None:
        """A chunk of CSV."""
        with translated(self._part):
            self._writer.take(chunk)

    def finish(self, expected: Digest) -> None:
        """Complete it, read it back, and give it its name. Then it survives a power cut."""
        with translated(self._part):
            self._writer.finish()
            self._file.flush()
            os.fsync(self._file.fileno())
        failpoints.reach("archive-written")
        if not digest_of(self._part, self._stream).agrees_with(expected):
            raise ArchiveError(f"{self._part} does not have the same count and sums as the day in the database")
        with translated(self.path):
            self._part.rename(self.path)
            failpoints.reach("archive-renamed")
            directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    def close(self) -> None:
        """Remove what has not got its name."""
        self._writer.abandon()
        with suppress(OSError):  # writes what is left of a file that is removed here
            self._file.close()
        with suppress(OSError):
            self._part.unlink(missing_ok=True)
