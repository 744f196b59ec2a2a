"""The routes of the documents of the API: of its topics, and the page that shows that of its routes."""

from functools import cache
from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web
from pydantic_core import to_json

from ingestd.http import pages, parameters
from ingestd.http.conditional import conditional
from ingestd.http.operations import Operation, raw
from ingestd.model import asyncapi

_TAG: Final = "Documents"


@cache
def _asyncapi() -> bytes:
    return to_json(asyncapi.document())


async def get_asyncapi(request: web.Request) -> web.Response:
    parameters.question(request, parameters.Nothing)
    return web.Response(body=_asyncapi(), content_type="application/json")


async def get_docs(request: web.Request, _: parameters.Probe) -> web.Response:
    return pages.page(request, "docs.html")


OPERATIONS: Final[tuple[Operation, ...]] = (
    Operation(
        method=hdrs.METH_GET,
        path="/asyncapi.json",
        summary="The AsyncAPI document of the topics",
        tag=_TAG,
        handler=conditional(get_asyncapi),
        answers={HTTPStatus.OK: "application/json", HTTPStatus.NOT_MODIFIED: None},
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
