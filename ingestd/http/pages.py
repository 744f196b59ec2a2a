"""The files of the page and of the login: read once, and sent to everybody, as no data is in them."""

import gzip
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
class _File:
    content_type: str
    body: bytes
    compressed: bytes
    tag: str


@cache
def _files() -> dict[str, _File]:
    found = {}
    for file in (files("ingestd") / "web").iterdir():
        content_type = _TYPES.get(file.name.rpartition(".")[2])
        if content_type is not None:
            body = file.read_bytes()
            found[file.name] = _File(
                content_type=content_type,
                body=body,
                compressed=gzip.compress(body, mtime=0),
                tag=sha256(body).hexdigest()[:32],
            )
    return found


def is_asked_for(request: web.Request) -> bool:
    """Whether a browser asks for a page; programs ask for anything, or for JSON."""
    return "text/html" in request.headers.get(hdrs.ACCEPT, "")


def page(request: web.Request, name: str) -> web.Response:
    """A file of ingestd/web/ that a browser shows as a page."""
    return _answer(request, _files()[name], {"Content-Security-Policy": _POLICY})


def file(request: web.Request, name: str) -> web.Response:
    """A file that a page needs. Raises Problem."""
    found = _files().get(name)
    if found is None or found.content_type == _TYPES["html"]:  # pages have routes of their own
        raise Problem(HTTPStatus.NOT_FOUND, "no such file")
    return _answer(request, found, {})


def _answer(request: web.Request, file: _File, headers: dict[str, str]) -> web.Response:
    """304 if the browser has it already. It asks each time, so that a new version of ingestd shows at once."""
    is_compressed = "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, "")
    tag = f"{file.tag}-gzip" if is_compressed else file.tag
    headers = headers | {
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
