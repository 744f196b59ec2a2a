"""The routes of dead letters: a list of them, and their replay."""

from base64 import b64encode
from http import HTTPStatus
from typing import Any, Final, get_args

from aiohttp import web
from pydantic import Field

from ingestd.http import parameters
from ingestd.http.authorization import who
from ingestd.http.heavy import heavy
from ingestd.http.problems import Problem, bad_parameter
from ingestd.http.services import SERVICES
from ingestd.http.shapes import answer, page, rfc3339
from ingestd.model.dead_letter import DeadLetterFilter, Reason, Replayed

MOST_ID: Final = 2**63 - 1


@heavy
async def get_dead_letters(request: web.Request) -> web.Response:
    """The newest first, by pages: `next` is the `before` of the page that follows, null at the end."""
    query = parameters.Query(request, {"reason", "device", "startTime", "endTime", "limit", "before"})
    reason, device = query.choice("reason", get_args(Reason)), query.identity("device")
    since, until = query.since_until()
    limit, before = query.page()
    wanted = DeadLetterFilter(reason=reason, device=device, since=since, until=until)
    letters = await request.app[SERVICES].dead_letters(wanted, limit=limit, before=before)
    return page("deadLetters", letters, limit=limit, shape=_shape)


class ReplayRequest(parameters.StrictBody):
    """The body of POST: a filter, and the page of it that is replayed."""

    reason: Reason | None = None
    device: parameters.Identity | None = None
    start_time: parameters.TimestampField | None = None
    end_time: parameters.TimestampField | None = None
    limit: int = Field(default=1000, ge=1, le=1000)
    before: int | None = Field(default=None, ge=1, le=MOST_ID)


@heavy
async def post_replay(request: web.Request) -> web.Response:
    asked = await parameters.body(request, ReplayRequest)
    if asked.start_time and asked.end_time and asked.start_time >= asked.end_time:
        raise bad_parameter("endTime", "must be later than startTime")
    wanted = DeadLetterFilter(reason=asked.reason, device=asked.device, since=asked.start_time, until=asked.end_time)
    replay = request.app[SERVICES].replay
    done = await replay.page(wanted, limit=asked.limit, before=asked.before, who=who(request))
    return answer({**_done(done), "next": done.next_before})


@heavy
async def post_replay_of_one(request: web.Request) -> web.Response:
    letter_id = parameters.whole_number("id", request.match_info["id"], lowest=1, highest=MOST_ID)
    done = await request.app[SERVICES].replay.one(letter_id, who=who(request))
    if done is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"there is no dead letter {letter_id}")
    return answer(_done(done))


def _done(done: Replayed) -> dict[str, object]:
    return {
        "stored": done.stored,
        "duplicates": done.duplicates,
        "rejected": [{"id": one.letter_id, "reason": one.reason, "detail": one.detail} for one in done.refusals],
    }


def _shape(letter: Any) -> dict[str, object]:  # noqa: ANN401 - a row of the table
    """The payload as text where it is UTF-8, else as base64; `payloadEncoding` says which."""
    try:
        payload, encoding = letter.payload.decode(), "utf-8"
    except UnicodeDecodeError:
        payload, encoding = b64encode(letter.payload).decode(), "base64"
    return {
        "id": letter.id,
        "receivedAt": rfc3339(letter.received_at),
        "source": letter.source,
        "stream": letter.stream,
        "topic": letter.topic,
        "reason": letter.reason,
        "detail": letter.detail,
        "payload": payload,
        "payloadEncoding": encoding,
    }


ROUTES: Final[tuple[web.RouteDef, ...]] = (
    web.get("/v1/dead-letters", get_dead_letters),
    web.post("/v1/dead-letters/replay", post_replay),
    web.post("/v1/dead-letters/{id}/replay", post_replay_of_one),
)
