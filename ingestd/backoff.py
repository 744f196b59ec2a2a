"""The pause between attempts that fail."""

import random


class Backoff:
    """Each pause is twice as long as the one before, from `first` to `longest` seconds.

    Each is multiplied by a random factor within `jitter`, so that several daemons do not try at the same time.
    """

    def __init__(self, *, first: float, longest: float, jitter: tuple[float, float]) -> None:
        self._first = first
        self._longest = longest
        self._jitter = jitter
        self._seconds = first

    def next(self) -> float:
        """Seconds to wait before the next attempt."""
        seconds = self._seconds
        self._seconds = min(seconds * 2, self._longest)
        return seconds * random.uniform(*self._jitter)  # noqa: S311 - not a secret

    def reset(self) -> None:
        """An attempt succeeded: the next pause is the shortest."""
        self._seconds = self._first

    def extend(self) -> None:
        """The error needs time or an operator: the next pause is the longest."""
        self._seconds = self._longest
