"""Messages that cannot become a reading, kept with the reason."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Literal, TypeAlias

from ingestd.model.stream import is_identity

MAX_PAYLOAD_BYTES: Final = 8192
"""The limit for one message. A dead letter keeps this much of a larger one."""
UNKNOWN_STREAM: Final = "unknown"
MAX_TOPIC: Final = 256  # characters
MAX_DETAIL: Final = 500  # characters

Reason: TypeAlias = Literal[
    "not-json",
    "schema",
    "identity-mismatch",
    "bad-topic",
    "timestamp-out-of-range",
    "too-large",
    "unknown-device",
    "database",
]
Source: TypeAlias = Literal["mqtt", "http"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message that cannot become a reading, as its table stores it. Made by `DeadLetter.of`."""

    received_at: int  # microseconds, as in Row
    source: Source
    stream: str  # its name, or UNKNOWN_STREAM
    topic: str
    payload: bytes
    reason: Reason
    detail: str

    @classmethod
    def of(
        cls,
        *,
        received_at: int,
        source: Source,
        stream: str,
        topic: str,
        payload: bytes,
        reason: Reason,
        detail: str,
    ) -> "DeadLetter":
        """Topic, payload and detail may have any length; they are cut to their limits."""
        return cls(
            received_at=received_at,
            source=source,
            stream=stream,
            topic=_cut(topic, MAX_TOPIC),
            payload=payload[:MAX_PAYLOAD_BYTES],
            reason=reason,
            detail=_cut(detail, MAX_DETAIL),
        )

    @property
    def device(self) -> str | None:
        """The device that the topic names; None if it names none."""
        return device_of(self.stream, self.topic.partition("/")[2].partition("/")[0])

    def reduced(self, refusal: str) -> Iterator["DeadLetter"]:
        """What to store if the database refuses the letter: first the same in ASCII, then without the payload."""
        topic = _cut(_ascii(self.topic), MAX_TOPIC)
        in_ascii = f"{self.detail} (in ASCII: {refusal})"
        yield replace(self, topic=topic, detail=_cut(_ascii(in_ascii), MAX_DETAIL))
        without_payload = f"{self.detail} (without its payload: {refusal})"
        yield replace(self, topic=topic, detail=_cut(_ascii(without_payload), MAX_DETAIL), payload=b"")


def device_of(stream: str, second_part: str) -> str | None:
    """The device that a topic names by its second part. None if it is of no stream, or names no device."""
    return second_part if stream != UNKNOWN_STREAM and is_identity(second_part) else None


def _cut(text: str, most: int) -> str:
    """At most `most` characters, without NUL, which PostgreSQL's type text cannot store."""
    return text[:most].replace("\0", "\ufffd")


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode("ascii").replace("\0", "\\x00")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterFilter:
    """Which dead letters are wanted: received from `since` on and before `until`. None matches everything."""

    reason: str | None = None
    device: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A dead letter that was replayed and is still no reading."""

    letter_id: int
    reason: Reason
    detail: str


@dataclass(slots=True, kw_only=True)
class Replayed:
    """The result of a replay, by number of letters."""

    stored: int = 0
    duplicates: int = 0
    refused: int = 0
    refusals: list[Refusal] = field(default_factory=list)
    """The newest letters first; those that the database refused come last."""
    next_before: int | None = None
    """Of a page: the `before` of the page that follows; None on the last page."""
