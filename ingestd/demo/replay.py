"""Replays recorded messages: lines of `{"topic": …, "payload": {…}}`."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from ingestd.errors import IngestdError
from ingestd.mqtt.publisher import Message


class ReplayError(IngestdError):
    """The recording cannot be used; the message names the line."""


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid")

    topic: Annotated[str, Field(min_length=1)]
    payload: dict[str, Any]


class Recording:
    """A file of messages, checked as a whole before the first is published."""

    def __init__(self, path: Path) -> None:
        """Raises ReplayError where the file cannot be read or a line is not a message."""
        self._path = path
        self.messages = 0
        newest: datetime | None = None
        for line in self._lines():
            self.messages += 1
            at = _timestamp(line.payload)
            if at is not None and (newest is None or at > newest):
                newest = at
        self._newest = newest

    def play(self, *, shift_to_now: bool = False) -> Iterator[Message]:
        """The messages in order; shifted in time so that the newest is of now, on request."""
        shift = datetime.now(UTC) - self._newest if shift_to_now and self._newest else timedelta(0)
        for line in self._lines():
            at = _timestamp(line.payload)
            if shift and at is not None:
                line.payload["timestamp"] = (at + shift).isoformat().replace("+00:00", "Z")
            yield line.topic, to_json(line.payload)

    def _lines(self) -> Iterator[_Line]:
        try:
            with self._path.open("rb") as file:
                for number, text in enumerate(file, 1):
                    if not text.strip():
                        continue
                    try:
                        yield _Line.model_validate_json(text)
                    except ValidationError as error:
                        first = error.errors(include_url=False)[0]
                        where = ".".join(map(str, first["loc"]))
                        raise ReplayError(f"{self._path}:{number}: {where and where + ': '}{first['msg']}") from error
        except OSError as error:
            raise ReplayError(f"{self._path}: {error.strerror}") from error


def _timestamp(payload: dict[str, Any]) -> datetime | None:
    """The payload's timestamp in UTC, where it has a usable one; the daemon checks all else."""
    text = payload.get("timestamp")
    if not isinstance(text, str):
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at.astimezone(UTC) if at.tzinfo else None
