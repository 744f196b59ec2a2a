"""The routes of the documents of the API: of its topics, and the page that shows that of its routes."""

from functools import cache
from typing import Final

from aiohttp import web
from pydantic_core import to_json

from ingestd.http import pages
from ingestd.model import asyncapi


@cache
def _asyncapi() -> pages.File:
    return pages.File.of("application/json", to_json(asyncapi.document()))


async def get_asyncapi(request: web.Request) -> web.Response:
    return pages.send(request, _asyncapi())


async def get_docs(request: web.Request) -> web.Response:
    """A page that asks for the document of the routes, and shows it."""
    return pages.page(request, "docs.html")


ROUTES: Final[tuple[web.RouteDef, ...]] = (
    web.get("/asyncapi.json", get_asyncapi),
    web.get("/docs", get_docs),
)
