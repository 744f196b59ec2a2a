"""What is to be done next to the ledger of a stream: told of how far it is, without a database.

Times are microseconds since 2000-01-01T00:00Z.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

from ingestd.model.energy import HOUR, QUARTER
from ingestd.model.ledger import LOOK_AHEAD

MOST_AT_ONCE: Final = HOUR
"""So much is closed in one step where much is left to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the ledger of one stream is; None: nothing is closed, or made, yet."""

    closed_until: int | None
    made_until: tuple[int | None, ...]
    """Of each share of the devices."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Nothing is closed yet: begin at the first day of history."""


@dataclass(frozen=True, slots=True)
class Close:
    """Readings up to this moment mark what they change from now on."""

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
    """The next step; None: all is done. Readings up to `closable` are thought to be there.

    The share that is furthest behind comes first. Those left out are being made by others. A step goes on up to where
    history resumes, where it is known that there is nothing before.
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
