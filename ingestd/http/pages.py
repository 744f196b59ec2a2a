"""The files of the page and of the login: read once, and sent to everybody, as no data is in them."""

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from http import HTTPStatus
from importlib.resources import files
from typing import Final

from aiohttp import hdrs, web

from ingestd.http.problems import Problem

_TYPES: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
"""Of the pages: scripts and styles come in files of their own only, and nothing comes from another server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """What is sent to everybody as it is, or gzipped."""

    content_type: str
    body: bytes
    compressed: bytes
    tag: str

    @classmethod
    def of(cls, content_type: str, body: bytes) -> "File":
        return cls(
            content_type=content_type,
            body=body,
            compressed=gzip.compress(body, mtime=0),
            tag=sha256(body).hexdigest()[:32],
        )


@cache
def _files() -> dict[str, File]:
    found = {}
    for file in (files("ingestd") / "web").iterdir():
        content_type = _TYPES.get(file.name.rpartition(".")[2])
        if content_type is not None:
            found[file.name] = File.of(content_type, file.read_bytes())
    return found


def is_asked_for(request: web.Request) -> bool:
    """Whether a browser asks for a page; programs ask for anything, or for JSON."""
    return "text/html" in request.headers.get(hdrs.ACCEPT, "")


def page(request: web.Request, name: str) -> web.Response:
    """A file of ingestd/web/ that a browser shows as a page."""
    return send(request, _files()[name], {"Content-Security-Policy": _POLICY})


async def get_file(request: web.Request) -> web.Response:
    file = _files().get(request.match_info["name"])
    if file is None or file.content_type == _TYPES["html"]:  # pages have routes of their own
        raise Problem(HTTPStatus.NOT_FOUND, "no such file")
    return send(request, file)


def send(request: web.Request, file: File, headers: Mapping[str, str] | None = None) -> web.Response:
    """304 if the browser has it already. It asks each time, so that a new version of ingestd shows at once."""
    is_compressed = "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, "")
    tag = f"{file.tag}-gzip" if is_compressed else file.tag
    headers = {
        **(headers or {}),
        hdrs.CACHE_CONTROL: "no-cache",
        hdrs.ETAG: f'"{tag}"',
        hdrs.VARY: f"{hdrs.ACCEPT}, {hdrs.ACCEPT_ENCODING}",
    }
    if tag in {known.value for known in request.if_none_match or ()}:
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    if is_compressed:
        headers[hdrs.CONTENT_ENCODING] = "gzip"
    body = file.compressed if is_compressed else file.body
    return web.Response(body=body, content_type=file.content_type, charset="utf-8", headers=headers)


ROUTES: Final[tuple[web.RouteDef, ...]] = (web.get("/web/{name}", get_file),)
