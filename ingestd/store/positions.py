"""When the write-ahead log of the primary had reached which position. So a replica's position becomes a time."""

from bisect import bisect_right
from datetime import datetime
from operator import itemgetter
from typing import Final

KEPT: Final = 3600
"""Positions; one a second while something is written, so at least the last hour."""

_position: Final = itemgetter(0)


class Positions:
    """The last positions, in order. A time is taken before the position is asked for."""

    def __init__(self) -> None:
        self._noted: list[tuple[int, datetime]] = []

    def note(self, position: int, at: datetime) -> None:
        """All that was committed before `at` lies before `position`."""
        if self._noted and position < self._noted[-1][0]:
            self._noted.clear()  # another primary, which has less than the one before
        if self._noted and position == self._noted[-1][0]:
            self._noted.pop()
        self._noted.append((position, at))
        del self._noted[:-KEPT]

    def reached_at(self, position: int) -> datetime | None:
        """All that was committed before this time lies before `position`; None: it is not known."""
        number = bisect_right(self._noted, position, key=_position)
        return self._noted[number - 1][1] if number else None
