"""Divides a window into what is in the archive and what is not."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

from ingestd.model.periods import TimeRange

_DAY: Final = timedelta(days=1)


def pieces(
    window: TimeRange, archived: Mapping[date, Sequence[Path]], *, by_day: bool
) -> Iterator[tuple[TimeRange, Sequence[Path]]]:
    """The window in order of time: each archived day in it with its files, and what lies between without.

    `by_day`: that is divided into days, too.
    """
    begin, end = window.start.astimezone(UTC), window.end.astimezone(UTC)
    midnights = [_midnight(day) for day in archived]
    while begin < end:
        files = archived.get(begin.date(), ())
        if files or by_day:
            until = min(end, _midnight(begin.date()) + _DAY)
        else:
            until = min((at for at in midnights if begin < at < end), default=end)
        yield TimeRange(start=begin, end=until), files
        begin = until


def archive_end(window: TimeRange, archived: Mapping[date, Sequence[Path]]) -> datetime | None:
    """The end of the last archived day that has a part in the window; None if there is none."""
    days = (_midnight(day) for day in archived)
    return max((day + _DAY for day in days if day < window.end and day + _DAY > window.start), default=None)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
