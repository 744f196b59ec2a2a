"""The audit: who changed what, and when, with the state before and after."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

Action: TypeAlias = Literal[
    "mapping-set",
    "mapping-closed",
    "settings-set",
    "settings-removed",
    "device-forgotten",
    "dead-letters-replayed",
    "dead-letters-purged",
    "reload-asked",
    "reloaded",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One change. `before` and `after` are of JSON's types; None: there was, or is, nothing."""

    who: str
    """`token NAME (ID)`, `command NAME (USER@HOST)`, `address ADDRESS` where no tokens are used, or `signal`."""
    action: Action
    subject: str
    before: object = None
    after: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which entries are wanted: from `since` on and before `until`. None matches everything."""

    action: Action | None = None
    subject: str | None = None
    since: datetime | None = None
    until: datetime | None = None
