"""Decides the next step for the ledger of a stream, from its progress. No database here.

Times are microseconds since 2000-01-01T00:00Z.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

from ingestd.model.energy import HOUR, QUARTER
from ingestd.model.ledger import LOOK_AHEAD

MOST_AT_ONCE: Final = HOUR
"""The most time that is closed in one step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The progress of one stream's ledger; None: nothing is closed, or made, yet."""

    closed_until: int | None
    made_until: tuple[int | None, ...]
    """For each share of the devices."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Nothing is closed yet: begin the ledger at the first day of history."""


@dataclass(frozen=True, slots=True)
class Close:
    """Close quarters: a reading up to this time that is stored from now on marks its quarter as stale."""

    until: int


@dataclass(frozen=True, slots=True)
class Make:
    """Make the rows of a share up to the end of this quarter."""

    share: int
    until: int


Step: TypeAlias = Begin | Close | Make


def plan(
    progress: Progress, *, closable: int, left_out: frozenset[int] = frozenset(), resumes_at: int | None = None
) -> Step | None:
    """The next step; None: nothing is left to do. Quarters that end by `closable` may be closed.

    The share that is furthest behind comes first. Shares in `left_out` are being made by other daemons. `resumes_at` is
    the time of the next reading if it is known that there is none before: the step reaches up to there.
    """
    if progress.closed_until is None or None in progress.made_until:
        return Begin()
    made = {share: until for share, until in enumerate(progress.made_until) if until is not None}
    last = (closable - LOOK_AHEAD) // QUARTER * QUARTER
    behind = [(until, share) for share, until in made.items() if until < last and share not in left_out]
    if not behind:
        return None
    made_until, share = min(behind)
    resumes_at = made_until if resumes_at is None else (resumes_at - 1) // QUARTER * QUARTER
    until = min(max(made_until + MOST_AT_ONCE, resumes_at), last)
    if progress.closed_until < until + LOOK_AHEAD:
        return Close(until + LOOK_AHEAD)
    return Make(share, until)
