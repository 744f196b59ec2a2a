"""How many dead letters are stored. What is beyond is counted, and not stored, so that no device fills the database."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from ingestd.model.dead_letter import DeadLetter, Reason

log = structlog.get_logger(__name__)

WINDOW_SECONDS: Final = 3600.0
MOST_UNKNOWN: Final = 100
"""So many devices without a live row are counted one by one in a window, and all others of them as one: who may send
for any device could invent devices without end."""
LOG_SECONDS: Final = 60.0
"""The shortest time between two log lines of a kind."""
NAMED: Final = 5
"""A log line names at most this many devices."""
MOST_TAKEN: Final = 100
ROW_BYTES: Final = 150
"""What a dead letter takes in the database beside its texts: the other columns, the row's header, three indexes."""
NO_DEVICE: Final = "no device"
"""Stands for all messages whose topic names no device."""
OTHERS: Final = "other devices without a live row"

NOT_LIMITED: Final[Reason] = "database"
"""Valid readings that the database refuses, as those of a day that was detached. They can be replayed later, so they
are not limited by device."""


class LetterLimits:
    """Decides of each dead letter whether it is stored.

    The limit for a device holds for an hour (a window), and then counts anew. The limit in bytes is of the whole table.
    """

    def __init__(
        self,
        *,
        most_per_device: int,
        most_bytes: int,
        is_known: Callable[[str, str], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`is_known`: whether a device has a live row, by the name of its stream and its id."""
        self._most_per_device = most_per_device
        self._most_bytes = most_bytes
        self._is_known = is_known
        self._clock = clock
        self._window_ends = clock() + WINDOW_SECONDS
        self._letters: Counter[str] = Counter()  # in this window, by sender
        self._unknown: set[str] = set()
        self._since_taken: Counter[str] = Counter()
        self._measured_bytes = 0
        self.added_bytes = 0
        """The sizes of all letters that this process has stored."""
        self._lines = _Lines(clock)

    def admit(self, stream: str, device: str | None, reason: Reason) -> bool:
        """Count a letter of a device (None: its topic names none). Returns whether it is to be stored."""
        sender = self._sender(stream, device)
        self._since_taken[sender] += 1
        if reason != NOT_LIMITED:
            self._letters[sender] += 1
            if self._letters[sender] > self._most_per_device:
                if self._letters[sender] == self._most_per_device + 1:
                    self._lines.suppressed(sender)
                return False
        if self._measured_bytes + self.added_bytes >= self._most_bytes:
            self._lines.full(self._most_bytes)
            return False
        return True

    def kept(self, letters: Iterable[DeadLetter], suppressed: Counter[tuple[str, str, str]]) -> list[DeadLetter]:
        """The letters that are to be stored; the others are added to `suppressed` by stream, source and reason."""
        self._begin_window()
        kept = []
        for letter in letters:
            if self.admit(letter.stream, letter.device, letter.reason):
                self.note(letter)
                kept.append(letter)
            else:
                suppressed[letter.stream, letter.source, letter.reason] += 1
        return kept

    def note(self, letter: DeadLetter) -> None:
        """A letter is stored."""
        self.added_bytes += ROW_BYTES + len(letter.payload) + len(letter.topic) + len(letter.detail)

    def measured(self, size: int, *, added_before: int) -> None:
        """The table had `size` bytes when `added_bytes` was `added_before`."""
        self._measured_bytes = size - added_before

    def restore(self, letters: Iterable[tuple[str, str | None, int]]) -> None:
        """Letters of the last hour, from before the start: stream, device, number."""
        for stream, device, number in letters:
            self._letters[self._sender(stream, device)] += number

    def take_counts(self) -> dict[str, int]:
        """The number of letters, stored or not, since this was last called: of the senders with the most."""
        taken, self._since_taken = self._since_taken, Counter()
        return dict(taken.most_common(MOST_TAKEN))

    def _begin_window(self) -> None:
        self._lines.write()
        if self._clock() >= self._window_ends:
            self._letters.clear()
            self._unknown.clear()
            self._window_ends = self._clock() + WINDOW_SECONDS

    def _sender(self, stream: str, device: str | None) -> str:
        """What a device is counted as."""
        if device is None:
            return NO_DEVICE
        sender = f"{stream} {device}"
        if sender in self._unknown or self._is_known(stream, device):
            return sender
        if len(self._unknown) >= MOST_UNKNOWN:
            return OTHERS
        self._unknown.add(sender)
        return sender


class _Lines:
    """The log lines: at most one of a kind in LOG_SECONDS."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._suppressed: list[str] = []
        self._next_suppressed = self._next_full = clock()

    def suppressed(self, sender: str) -> None:
        """From now on letters of this sender are not stored."""
        self._suppressed.append(sender)
        self.write()

    def write(self) -> None:
        """Log what was held back, if it is time."""
        if self._suppressed and self._clock() >= self._next_suppressed:
            log.warning("dead_letters_suppressed", count=len(self._suppressed), senders=self._suppressed[:NAMED])
            self._suppressed = []
            self._next_suppressed = self._clock() + LOG_SECONDS

    def full(self, most_bytes: int) -> None:
        if self._clock() >= self._next_full:
            log.warning("dead_letters_full", max_bytes=most_bytes)
            self._next_full = self._clock() + WINDOW_SECONDS
