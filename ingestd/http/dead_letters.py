"""The route of dead letters."""

from base64 import b64encode
from typing import Any, Final, Literal

from aiohttp import hdrs, web
from pydantic import Field

from ingestd.http import parameters
from ingestd.http.heavy import heavy
from ingestd.http.operations import Operation, asking
from ingestd.http.services import SERVICES
from ingestd.http.shapes import Answer, Next, UtcTime, next_page
from ingestd.model import dead_letter as model


class DeadLettersQuestion(parameters.Page, parameters.Period):
    """Which dead letters."""

    reason: model.Reason | None = None
    device: parameters.Identity | None = None


class DeadLetter(Answer):
    """A message that could not become a reading."""

    id: int
    received_at: UtcTime
    source: model.Source
    stream: str
    topic: str
    reason: model.Reason
    detail: str
    payload: str = Field(description="as text where it is UTF-8, else as base64")
    payload_encoding: Literal["utf-8", "base64"]


class DeadLetters(Answer):
    dead_letters: list[DeadLetter]
    next: Next


@heavy
async def get_dead_letters(request: web.Request, asked: DeadLettersQuestion) -> DeadLetters:
    since, until = asked.since_until()
    wanted = model.DeadLetterFilter(reason=asked.reason, device=asked.device, since=since, until=until)
    letters = await request.app[SERVICES].dead_letters(wanted, limit=asked.limit, before=asked.before)
    return DeadLetters(
        dead_letters=[_shape(letter) for letter in letters],
        next=next_page([letter.id for letter in letters], limit=asked.limit),
    )


def _shape(letter: Any) -> DeadLetter:  # noqa: ANN401 - a row of the table
    payload, encoding = _as_text(letter.payload)
    return DeadLetter(
        id=letter.id,
        received_at=letter.received_at,
        source=letter.source,
        stream=letter.stream,
        topic=letter.topic,
        reason=letter.reason,
        detail=letter.detail,
        payload=payload,
        payload_encoding=encoding,
    )


def _as_text(payload: bytes) -> tuple[str, Literal["utf-8", "base64"]]:
    try:
        return payload.decode(), "utf-8"
    except UnicodeDecodeError:
        return b64encode(payload).decode(), "base64"


OPERATIONS: Final[tuple[Operation, ...]] = (
    asking(
        hdrs.METH_GET,
        "/v1/dead-letters",
        get_dead_letters,
        summary="Messages that could not become a reading, the newest first",
        tag="Dead letters",
        asks=DeadLettersQuestion,
        answers=DeadLetters,
    ),
)
