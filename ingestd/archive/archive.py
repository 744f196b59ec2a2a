"""The directory of the archive: which file is which day."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from ingestd.errors import ArchiveError
from ingestd.model.stream import Stream

SETTING: Final = "INGESTD_ARCHIVE_DIR"
_match_name: Final = re.compile(
    r"(?P<stream>.+)-(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})(?:-(?P<number>[0-9]+))?\.parquet"
).fullmatch


class Archive:
    """Its methods wait for the disk: call them in threads. They raise ArchiveError."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def check(self) -> None:
        """Raises ArchiveError unless a day could be archived."""
        need_pyarrow()
        with translated(self.directory):
            if not self.directory.is_dir():
                raise ArchiveError(f"{SETTING}: {self.directory} is no directory")
            if not os.access(self.directory, os.R_OK | os.W_OK | os.X_OK):
                raise ArchiveError(f"{SETTING}: {self.directory} is not writable")

    def days(self, stream: Stream) -> dict[date, list[Path]]:
        """The files of each day that has any, in the order in which they were made."""
        found: dict[date, dict[int, Path]] = {}
        with translated(self.directory):
            for path in self.directory.iterdir():
                if (match := _match_name(path.name)) and match["stream"] == stream.topic_root:
                    with suppress(ValueError):  # such as the 31st of February, which is not ours
                        found.setdefault(date.fromisoformat(match["day"]), {})[int(match["number"] or 1)] = path
        return {day: [of_day[number] for number in sorted(of_day)] for day, of_day in sorted(found.items())}

    def next_file(self, stream: Stream, day: date) -> Path:
        """A name that no file has: the day, from the second file on with a number."""
        name = f"{stream.topic_root}-{day:%Y-%m-%d}"
        files = self.days(stream).get(day)
        if not files:
            return self.directory / f"{name}.parquet"
        last = _match_name(files[-1].name)
        return self.directory / f"{name}-{int(last['number'] or 1) + 1 if last else 2}.parquet"


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raises OSError as ArchiveError."""
    try:
        yield
    except OSError as error:
        raise ArchiveError(f"{SETTING}: {error.filename or path}: {error.strerror or error}") from error


def need_pyarrow() -> None:
    """Raises ArchiveError where pyarrow is missing."""
    if find_spec("pyarrow") is None:
        raise ArchiveError("Parquet needs pyarrow: pip install 'ingestd[parquet]'")
