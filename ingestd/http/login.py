"""The page where one logs in with a token. A cookie names the login of a browser."""

from http import HTTPStatus
from importlib.resources import files
from typing import Final

from aiohttp import hdrs, web

from ingestd.http import parameters
from ingestd.http.authorization import AUTHORIZATION, cookie_name, refused
from ingestd.http.logins import SECONDS
from ingestd.http.shapes import answer

_WEB: Final = files("ingestd") / "web"
_TYPES: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)


class Credentials(parameters.StrictBody):
    """The body of POST /login."""

    token: str


async def get_login(_: web.Request) -> web.Response:
    return _file("login.html", {"Content-Security-Policy": _POLICY})


async def get_style(_: web.Request) -> web.Response:
    return _file("login.css", {})


async def get_script(_: web.Request) -> web.Response:
    return _file("login.js", {})


async def post_login(request: web.Request) -> web.Response:
    """Begin a login. A token that is not valid counts as a failure of the address."""
    credentials = await parameters.body(request, Credentials)
    authorization = request.app[AUTHORIZATION]
    token = authorization.recognize(credentials.token)
    if token is None:
        return refused(request)
    response = answer({"name": token.name, "scopes": sorted(token.scopes)})
    response.set_cookie(
        cookie_name(request),
        authorization.logins.begin(token.id),
        max_age=int(SECONDS),
        path="/",
        secure=request.secure,
        httponly=True,
        samesite="Strict",
    )
    return response


async def post_logout(request: web.Request) -> web.Response:
    """End the login of the cookie, if there is one."""
    name = cookie_name(request)
    request.app[AUTHORIZATION].logins.end(request.cookies.get(name, ""))
    response = web.Response(status=HTTPStatus.NO_CONTENT)
    response.del_cookie(name, path="/", secure=request.secure, httponly=True, samesite="Strict")
    return response


def _file(name: str, headers: dict[str, str]) -> web.Response:
    content_type = _TYPES[name.rpartition(".")[2]]
    body = (_WEB / name).read_bytes()
    return web.Response(
        body=body, content_type=content_type, charset="utf-8", headers={hdrs.CACHE_CONTROL: "no-cache", **headers}
    )


ROUTES: Final[tuple[web.RouteDef, ...]] = (
    web.get("/login", get_login),
    web.get("/web/login.css", get_style),
    web.get("/web/login.js", get_script),
    web.post("/login", post_login),
    web.post("/logout", post_logout),
)
