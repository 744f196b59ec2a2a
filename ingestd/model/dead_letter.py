"""Messages that cannot become a reading, kept with the reason."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal, TypeAlias

MAX_PAYLOAD_BYTES: Final = 8192
"""The contract's limit for one message."""


Reason: TypeAlias = Literal[
    "not-json", "schema", "identity-mismatch", "bad-topic", "timestamp-out-of-range", "too-large", "database"
]


Source: TypeAlias = Literal["mqtt", "http"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message nobody can use, kept with the reason."""

    received_at: int  # microseconds, as in Row
    source: Source
    stream: str  # its name, or "unknown"
    topic: str
    payload: bytes  # capped at MAX_PAYLOAD_BYTES
    reason: Reason
    detail: str

    def reduced(self, refusal: str) -> Iterator["DeadLetter"]:
        """What to keep of it where the database refuses it as it is: in ASCII, and at last without the payload."""
        topic = _ascii(self.topic)
        yield replace(self, topic=topic, detail=_ascii(f"{self.detail} (in ASCII: {refusal})")[:500])
        detail = f"{self.detail} (without its payload, which is in the log: {refusal})"
        yield replace(self, topic=topic, detail=_ascii(detail)[:500], payload=b"")


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode("ascii").replace("\0", "\\x00")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterFilter:
    """Which dead letters; None lets everything through. Times are those of receipt, until exclusive."""

    reason: str | None = None
    device: str | None = None
    since: datetime | None = None
    until: datetime | None = None
