"""The route `/`: the page for browsers; for others name, version, and a list of the routes. And the page's files."""

from http import HTTPStatus
from typing import Final, Literal

from aiohttp import hdrs, web
from pydantic import Field

from ingestd import __version__
from ingestd.http import pages, parameters
from ingestd.http.authorization import AUTHORIZATION
from ingestd.http.operations import Operation, raw
from ingestd.http.shapes import Answer, answer


class Index(Answer):
    """Name, version, and the paths of all routes."""

    service: Literal["ingestd"] = "ingestd"
    version: str = __version__
    tokens: bool = Field(description="whether requests need a token")
    routes: list[str]


async def get_index(request: web.Request, _: parameters.Probe) -> web.Response:
    if pages.is_asked_for(request):
        return pages.page(request, "index.html")
    resources = request.app.router.resources()
    paths = list(dict.fromkeys(resource.canonical for resource in resources))
    response = answer(Index(tokens=request.app[AUTHORIZATION].is_required, routes=paths))
    response.headers[hdrs.VARY] = hdrs.ACCEPT
    return response


async def get_file(request: web.Request, _: parameters.Probe) -> web.Response:
    return pages.file(request, request.match_info["name"])


OPERATIONS: Final[tuple[Operation, ...]] = (
    raw(
        hdrs.METH_GET,
        "/",
        get_index,
        summary="The page for browsers (Accept: text/html); for others an index",
        tag="Page",
        asks=parameters.Probe,
        answers={HTTPStatus.OK: Index},
    ),
    raw(
        hdrs.METH_GET,
        "/web/{name}",
        get_file,
        summary="A file of the page",
        tag="Page",
        asks=parameters.Probe,
        answers={HTTPStatus.OK: "*/*"},
        problems=[HTTPStatus.NOT_FOUND],
    ),
)
