"""The route of dead letters."""

from base64 import b64encode
from typing import Any, Final, get_args

from aiohttp import web

from ingestd.http import parameters
from ingestd.http.heavy import heavy
from ingestd.http.services import SERVICES
from ingestd.http.shapes import page, rfc3339
from ingestd.model.dead_letter import DeadLetterFilter, Reason


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


ROUTES: Final[tuple[web.RouteDef, ...]] = (web.get("/v1/dead-letters", get_dead_letters),)
