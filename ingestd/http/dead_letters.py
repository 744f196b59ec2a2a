"""The routes of dead letters: a list of them, and their replay."""

from base64 import b64encode
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

from aiohttp import hdrs, web
from pydantic import Field

from ingestd.http import parameters
from ingestd.http.authorization import who
from ingestd.http.heavy import heavy
from ingestd.http.operations import Operation, asking, taking
from ingestd.http.problems import Problem
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


class ReplayRequest(parameters.StrictBody):
    """Which dead letters are decoded again: a page of a filter, the newest first."""

    reason: model.Reason | None = None
    device: parameters.Identity | None = None
    start_time: parameters.TimestampField | None = None
    end_time: parameters.TimestampField | None = None
    limit: Annotated[int, Field(strict=True, ge=1, le=1000)] = 1000
    before: Annotated[int, Field(strict=True, ge=1, le=2**63 - 1)] | None = None


class Refusal(Answer):
    """A dead letter that is no reading still, and why."""

    id: int
    reason: model.Reason
    detail: str


class ReplayOfOne(Answer):
    """What became of a dead letter."""

    stored: int
    duplicates: int = Field(description="their readings were stored before")
    rejected: list[Refusal]


class Replay(ReplayOfOne):
    """What became of the dead letters of a page."""

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


@heavy
async def post_replay(request: web.Request, asked: ReplayRequest) -> Replay:
    parameters.refuse_disorder(asked.start_time, asked.end_time)
    wanted = model.DeadLetterFilter(
        reason=asked.reason, device=asked.device, since=asked.start_time, until=asked.end_time
    )
    done = await request.app[SERVICES].replay.page(wanted, limit=asked.limit, before=asked.before, who=who(request))
    return Replay(stored=done.stored, duplicates=done.duplicates, rejected=_rejected(done), next=done.next_before)


@heavy
async def post_replay_of_one(request: web.Request, _: parameters.Nothing) -> ReplayOfOne:
    letter_id = parameters.letter_id(request)
    done = await request.app[SERVICES].replay.one(letter_id, who=who(request))
    if done is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"there is no dead letter {letter_id}")
    return ReplayOfOne(stored=done.stored, duplicates=done.duplicates, rejected=_rejected(done))


def _rejected(done: model.Replayed) -> list[Refusal]:
    return [Refusal(id=one.letter_id, reason=one.reason, detail=one.detail) for one in done.refusals]


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
    taking(
        hdrs.METH_POST,
        "/v1/dead-letters/replay",
        post_replay,
        summary="Decode dead letters again, and store what is a reading now",
        tag="Dead letters",
        takes=ReplayRequest,
        answers=Replay,
    ),
    asking(
        hdrs.METH_POST,
        "/v1/dead-letters/{letterId}/replay",
        post_replay_of_one,
        summary="Decode one dead letter again, and store it if it is a reading now",
        tag="Dead letters",
        asks=parameters.Nothing,
        answers=ReplayOfOne,
        problems=[HTTPStatus.NOT_FOUND],
    ),
)
