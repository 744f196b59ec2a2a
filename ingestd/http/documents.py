"""The routes of the documents that describe ingestd to programs."""

from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web
from pydantic_core import to_json

from ingestd.http import openapi, parameters
from ingestd.http.conditional import conditional
from ingestd.http.operations import Operation, raw

OPENAPI: Final = web.AppKey("openapi", bytes)


def prepare(app: web.Application, operations: tuple[Operation, ...], *, are_tokens_used: bool) -> None:
    """Make the document, before anybody asks for it."""
    app[OPENAPI] = to_json(openapi.document(operations, are_tokens_used=are_tokens_used))


@conditional
async def get_openapi(request: web.Request, _: parameters.Nothing) -> web.Response:
    return web.Response(body=request.app[OPENAPI], content_type="application/json")


OPERATIONS: Final[tuple[Operation, ...]] = (
    raw(
        hdrs.METH_GET,
        "/openapi.json",
        get_openapi,
        summary="This document",
        tag="Documents",
        asks=parameters.Nothing,
        answers={HTTPStatus.OK: "application/json", HTTPStatus.NOT_MODIFIED: None},
    ),
)
