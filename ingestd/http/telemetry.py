"""The routes that take readings in: one handler, by the paths of ingestd and of earlier systems."""

from functools import partial
from http import HTTPStatus
from typing import Any, Final, Literal

from aiohttp import hdrs, web

from ingestd.http import parameters
from ingestd.http.authorization import NotAllowedError, client_of, may_send
from ingestd.http.bodies import BODIES, TELEMETRY
from ingestd.http.intake import MAX_READINGS, NOT_ALLOWED, TelemetryPath
from ingestd.http.operations import Operation, raw
from ingestd.http.problems import Problem
from ingestd.http.services import SERVICES
from ingestd.http.shapes import Answer, answer
from ingestd.model.dead_letter import Reason
from ingestd.model.message_schema import message_schema
from ingestd.model.stream import STREAMS, Stream

PATHS: Final = (
    TelemetryPath(path="/v1/telemetry"),
    TelemetryPath(path="/v1/ingest"),
    *(
        path
        for stream in STREAMS
        for path in (
            TelemetryPath(path=f"/v1/ingest/{stream.name}", stream=stream),
            TelemetryPath(path=f"/v1/ingest/{stream.name}/batch", stream=stream, is_batch=True),
            TelemetryPath(path=f"/v1/ingestion/{stream.name}", stream=stream),
        )
    ),
)
"""All but the first are paths of earlier systems of this kind, so that their senders need another host only."""


class RejectedReading(Answer):
    """A reading that was refused; `index` is its place in the array."""

    index: int
    reason: Reason | Literal["not-allowed"]
    detail: str


class Receipt(Answer):
    """What became of the readings. They are stored."""

    accepted: int
    duplicates: int
    rejected: list[RejectedReading]


def _reading(stream: Stream) -> dict[str, Any]:
    """A message, which also has to name its device here."""
    schema = message_schema(stream)
    return {**schema, "required": [*schema["required"], stream.id_key]}


def _body(to: TelemetryPath) -> dict[str, Any]:
    """One reading, or an array of them."""
    streams = STREAMS if to.stream is None else (to.stream,)
    reading = {"anyOf": [_reading(stream) for stream in streams]}
    array = {"type": "array", "items": reading, "maxItems": MAX_READINGS}
    batch = {"title": "batch", "type": "object", "properties": {"readings": array}, "required": ["readings"]}
    return {"anyOf": [reading, array, *([batch] if to.is_batch else [])]}


async def post_telemetry(request: web.Request, _: parameters.Nothing, *, to: TelemetryPath) -> web.Response:
    """One reading or an array of them; 201 after the commit."""
    intake = request.app[SERVICES].intake
    intake.admit()  # before the body is in memory
    async with request.app[BODIES].read(request, TELEMETRY) as body:
        receipt = await intake.submit(body, to=to, client=client_of(request), may_send=may_send(request))
    if receipt.rejected and receipt.single:
        (refused,) = receipt.rejected
        if refused["reason"] == NOT_ALLOWED:
            raise NotAllowedError
        too_large = refused["reason"] == "too-large"
        raise Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE if too_large else HTTPStatus.UNPROCESSABLE_ENTITY,
            refused["detail"],
            reason=refused["reason"],
        )
    rejected = [RejectedReading(**rejected) for rejected in receipt.rejected]
    return answer(
        Receipt(accepted=receipt.accepted, duplicates=receipt.duplicates, rejected=rejected), HTTPStatus.CREATED
    )


OPERATIONS: Final[tuple[Operation, ...]] = tuple(
    raw(
        hdrs.METH_POST,
        to.path,
        partial(post_telemetry, to=to),
        summary=f"Store one reading{f' of a {to.stream.name}' if to.stream else ''}, or an array of them; "
        "the answer comes after the commit",
        tag="Readings",
        asks=parameters.Nothing,
        takes=_body(to),
        answers={HTTPStatus.CREATED: Receipt},
        problems=[HTTPStatus.UNPROCESSABLE_ENTITY],
    )
    for to in PATHS
)
