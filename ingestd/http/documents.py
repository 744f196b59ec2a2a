"""The routes of the documents of the API: of its routes and of its topics, and the page that shows them to people."""

from functools import cache
from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web
from pydantic_core import to_json

from ingestd.http import openapi, pages, parameters
from ingestd.http.conditional import conditional
from ingestd.http.operations import Operation, raw
from ingestd.http.shapes import compressible
from ingestd.model import asyncapi

OPENAPI: Final = web.AppKey("openapi", bytes)
_TAG: Final = "Documents"


def prepare(app: web.Application, operations: tuple[Operation, ...], *, are_tokens_used: bool) -> None:
    """Make the document, before anybody asks for it."""
    app[OPENAPI] = to_json(openapi.document(operations, are_tokens_used=are_tokens_used))


@conditional
async def get_openapi(request: web.Request, _: parameters.Nothing) -> web.Response:
    return compressible(request.app[OPENAPI], "application/json")


@cache
def _asyncapi() -> bytes:
    return to_json(asyncapi.document())


@conditional
async def get_asyncapi(_: web.Request, __: parameters.Nothing) -> web.Response:
    return compressible(_asyncapi(), "application/json")


async def get_docs(request: web.Request, _: parameters.Probe) -> web.Response:
    return pages.page(request, "docs.html")


_JSON: Final = {HTTPStatus.OK: "application/json", HTTPStatus.NOT_MODIFIED: None}
OPERATIONS: Final[tuple[Operation, ...]] = (
    raw(
        hdrs.METH_GET,
        "/openapi.json",
        get_openapi,
        summary="This document",
        tag=_TAG,
        asks=parameters.Nothing,
        answers=_JSON,
    ),
    raw(
        hdrs.METH_GET,
        "/asyncapi.json",
        get_asyncapi,
        summary="The AsyncAPI document of the topics",
        tag=_TAG,
        asks=parameters.Nothing,
        answers=_JSON,
    ),
    raw(
        hdrs.METH_GET,
        "/docs",
        get_docs,
        summary="A page that shows the OpenAPI document",
        tag=_TAG,
        asks=parameters.Probe,
        answers={HTTPStatus.OK: "text/html"},
    ),
)
