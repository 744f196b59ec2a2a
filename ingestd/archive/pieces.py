"""Divides a window into what is in the archive and what is not."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final

from ingestd.model.periods import TimeRange

_DAY: Final = timedelta(days=1)


def pieces(
    window: TimeRange, archived: Mapping[date, Sequence[Path]], divided: Collection[datetime]
) -> Iterator[tuple[TimeRange, Sequence[Path]]]:
    """The window in order of time: each archived day in it with its files, and what lies between without.

    It is divided at the times of `divided`, too.
    """
    begin, end = window.start.astimezone(UTC), window.end.astimezone(UTC)
    days = [_midnight(day) for day in archived]
    edges = {*days, *(day + _DAY for day in days), *divided}
    for start, until in pairwise([begin, *sorted(edge for edge in edges if begin < edge < end), end]):
        yield TimeRange(start=start, end=until), archived.get(start.astimezone(UTC).date(), ())


def archive_end(window: TimeRange, archived: Mapping[date, Sequence[Path]]) -> datetime | None:
    """The end of the last archived day that has a part in the window; None if there is none."""
    days = (_midnight(day) for day in archived)
    return max((day + _DAY for day in days if day < window.end and day + _DAY > window.start), default=None)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
