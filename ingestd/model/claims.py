"""Which session of a group is claimed by which daemon, and which one a daemon shall take or hand over. Pure.

Daemons with the same client id are members of one group. A claim is an advisory lock; the database knows the members
and their claims, so that all members see the same.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

STRANDED_SECONDS: Final = 5.0
"""A session that nobody has held for longer is stranded: its messages wait in the broker."""

Holder: TypeAlias = Literal["this daemon", "another daemon", "nobody"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What the database says at one moment. A member is the process id of its backend."""

    me: int
    members: frozenset[int]
    holders: Mapping[str, int | None]
    """By session; None if nobody has claimed it."""
    existing: Mapping[str, str | None]
    """Sessions that the broker keeps, as far as the database knows, with the shared group that each subscribed to."""

    def holder(self, session: str) -> Holder:
        found = self.holders.get(session)
        return "nobody" if found is None else "this daemon" if found == self.me else "another daemon"

    def of(self, member: int, sessions: Collection[str]) -> list[str]:
        return [session for session in sessions if self.holders.get(session) == member]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionState:
    """One session, as this daemon sees it."""

    session: str
    holder: Holder
    is_left: bool
    """It is none of the sessions of the settings, but the broker keeps it, with a share of the messages."""
    reason: str | None
    """Why no telemetry arrives in it; None if it does, or if this daemon does not hold it."""
    in_flight: int
    """Messages that were received in it and are not settled yet."""
    free_seconds: float
    """For how long nobody has held it; 0 if somebody does."""

    @property
    def is_stranded(self) -> bool:
        return self.free_seconds > STRANDED_SECONDS


def quota(sessions: Sequence[str], claims: Claims) -> int:
    """How many sessions a member may take while others are free."""
    return -(-len(sessions) // max(1, len(claims.members)))


def to_hand_over(sessions: Sequence[str], claims: Claims) -> str | None:
    """The session that this daemon hands over; None if it keeps all.

    Only the member with the most sessions hands one over, and only if another has two less. So one session is moved at
    a time, and none twice.
    """
    counts = {member: len(claims.of(member, sessions)) for member in claims.members}
    mine = counts.get(claims.me, 0)
    if any(claims.holders.get(session) is None for session in sessions):
        return None  # whoever has few takes that one
    if claims.me != max(counts, key=lambda member: (counts[member], member), default=None):
        return None
    return claims.of(claims.me, sessions)[-1] if mine - min(counts.values()) > 1 else None
