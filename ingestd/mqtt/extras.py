"""The probe and `$SYS`: they are left out if the broker ends connections because of them."""

from collections import Counter
from collections.abc import Collection
from typing import Final, Literal, TypeAlias

import structlog

log = structlog.get_logger(__name__)

Extra: TypeAlias = Literal["probe", "$SYS"]

LEFT_OUT_AFTER: Final = 2
"""An extra is left out after this many connections in a row that ended right after the request for it."""


class Extras:
    """The extras of one session.

    One that was left out is requested again after a stable connection, or after an hour.
    """

    def __init__(self, *, wanted: Collection[Extra], soon: float) -> None:
        """A connection that ends within `soon` seconds of a request may have ended because of it."""
        self._wanted = frozenset(wanted)
        self._soon = soon
        self._left_out: set[Extra] = set()
        self._ends: Counter[Extra] = Counter()
        self._asked: tuple[Extra, float] | None = None

    @property
    def complete(self) -> bool:
        """Whether nothing is left out."""
        return not self._left_out

    def ask_again(self) -> None:
        """Request again what is left out. If a connection ends because of it again, it is left out at once."""
        self._left_out.clear()

    def ask(self, extra: Extra, now: float) -> bool:
        """Whether to request this extra on this connection. If so, the request is noted as sent now."""
        if extra not in self._wanted or extra in self._left_out:
            return False
        self._asked = (extra, now)
        return True

    def answered(self) -> None:
        """The broker has answered the latest request."""
        self._asked = None

    def ended(self, now: float, *, stable: bool, taken_over: bool) -> None:
        """A connection ended. `stable`: it had lived for 30 s."""
        asked, self._asked = self._asked, None
        if asked is not None and now - asked[1] <= self._soon and not taken_over:
            self._count_end(asked[0])
            return
        if stable:
            self._left_out.clear()
            self._ends.clear()
            return
        if self._left_out:
            log.warning("extras_restored", extras=sorted(self._left_out))
        self._left_out.clear()
        self._ends.clear()

    def _count_end(self, extra: Extra) -> None:
        self._ends[extra] += 1
        if self._ends[extra] >= LEFT_OUT_AFTER:
            self._left_out.add(extra)
            log.warning("extra_left_out", extra=extra, times=self._ends[extra])
