"""What web pages may do here. A page may be of anybody, and its browser may be where only friends should be."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from typing import Final

from aiohttp import hdrs, web

from ingestd.http import request_id
from ingestd.http.problems import Handler, Problem

HEADERS: Final = {
    hdrs.X_CONTENT_TYPE_OPTIONS: "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
"""Every answer has them, unless its route has set its own."""
PREFLIGHT: Final = {
    hdrs.ACCESS_CONTROL_ALLOW_METHODS: "GET, HEAD, POST, PUT, DELETE",
    hdrs.ACCESS_CONTROL_ALLOW_HEADERS: "Authorization, Cache-Control, Content-Type, Last-Event-ID, "
    f"{request_id.HEADER}",
    hdrs.ACCESS_CONTROL_MAX_AGE: "600",
}
_READS: Final = {hdrs.METH_GET, hdrs.METH_HEAD}
_OWN_SITES: Final = {"same-origin", "none"}
"""Of `Sec-Fetch-Site`: a page of this server, or no page at all."""
_match_host: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^:\[\]]+))(?::[0-9]+)?").fullmatch


@dataclass(frozen=True, slots=True)
class Allowed:
    """Host names and origins in lower case."""

    hosts: frozenset[str]
    origins: frozenset[str]

    @classmethod
    def of(cls, *, host: str, hosts: Iterable[str], origins: Iterable[str]) -> "Allowed":
        """`host` is the one that the server listens on."""
        names = {"localhost", host, *hosts}
        return cls(frozenset(map(str.lower, names)), frozenset(map(str.lower, origins)))


ALLOWED: Final = web.AppKey("allowed", Allowed)


@web.middleware
async def refuse_foreign(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse requests for another host, and those that pages of other sites make. Raises Problem."""
    allowed = request.app[ALLOWED]
    if not _is_our_host(request, allowed):
        raise Problem(HTTPStatus.MISDIRECTED_REQUEST, "the Host is not one of this server (INGESTD_HTTP_HOSTS)")
    if _is_foreign(request, allowed) and not _is_navigation(request):
        raise Problem(HTTPStatus.FORBIDDEN, "pages of this origin may not use the API (INGESTD_HTTP_ORIGINS)")
    if _is_preflight(request) and _allowed_origin(request, allowed):
        return web.Response(status=HTTPStatus.NO_CONTENT, headers=PREFLIGHT)
    return await handler(request)


async def set_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Set the headers for browsers, also of an answer that begins inside a route, such as an export."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    allowed = request.app[ALLOWED]
    if allowed.origins:
        response.headers.add(hdrs.VARY, hdrs.ORIGIN)
    if origin := _allowed_origin(request, allowed):
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
        response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = request_id.HEADER


def _is_our_host(request: web.Request, allowed: Allowed) -> bool:
    """With DNS rebinding, the name is the attacker's; an address cannot be rebound, but may be another machine's."""
    matched = _match_host(request.headers.get(hdrs.HOST, "").lower())
    if matched is None:
        return False
    host = matched[1] or matched[2]
    if host in allowed.hosts:
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or str(address) == _own_address(request)


def _own_address(request: web.Request) -> str | None:
    """The address that the connection came in at."""
    name = request.get_extra_info("sockname")
    return str(name[0]).partition("%")[0] if name else None


def _is_foreign(request: web.Request, allowed: Allowed) -> bool:
    """Whether a page of another origin makes this request. Without these headers, it is no page of a new browser."""
    if _allowed_origin(request, allowed):
        return False
    if request.headers.get(hdrs.SEC_FETCH_SITE, "none").lower() not in _OWN_SITES:
        return True
    origin = request.headers.get(hdrs.ORIGIN)
    # By the host only: behind a proxy with TLS, the scheme is another one here.
    return origin is not None and origin.lower().partition("://")[2] != request.headers[hdrs.HOST].lower()


def _is_navigation(request: web.Request) -> bool:
    """Somebody follows a link: the page that has the link sees nothing of the answer."""
    headers = request.headers
    is_whole_page = headers.get(hdrs.SEC_FETCH_MODE) == "navigate" and headers.get(hdrs.SEC_FETCH_DEST) == "document"
    return request.method in _READS and is_whole_page


def _is_preflight(request: web.Request) -> bool:
    return request.method == hdrs.METH_OPTIONS and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers


def _allowed_origin(request: web.Request, allowed: Allowed) -> str | None:
    origin = request.headers.get(hdrs.ORIGIN)
    return origin if origin is not None and origin.lower() in allowed.origins else None
