"""The page where one logs in with a token. A cookie names the login of a browser."""

from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web

from ingestd.http import pages, parameters
from ingestd.http.authorization import AUTHORIZATION, LOGIN, cookie_name, refused
from ingestd.http.logins import SECONDS
from ingestd.http.operations import Operation, raw
from ingestd.http.shapes import Answer, answer
from ingestd.model.token import Scope

_TAG: Final = "Login"


class Credentials(parameters.StrictBody):
    """The body of POST /login."""

    token: str


class Login(Answer):
    """The token that one is logged in with."""

    name: str
    scopes: list[Scope]


async def get_login(request: web.Request, _: parameters.Probe) -> web.Response:
    """The page; where no tokens are used, nobody has to log in."""
    if not request.app[AUTHORIZATION].is_required:
        raise web.HTTPSeeOther("/")
    return pages.page(request, "login.html")


async def post_login(request: web.Request, _: parameters.Nothing) -> web.Response:
    """Begin a login. A token that is not valid counts as a failure of the address."""
    credentials = await parameters.body(request, Credentials)
    authorization = request.app[AUTHORIZATION]
    token = authorization.recognize(credentials.token)
    if token is None:
        return refused(request)
    response = answer(Login(name=token.name, scopes=sorted(token.scopes)))
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


async def post_logout(request: web.Request, _: parameters.Nothing) -> web.Response:
    """End the login of the cookie, if there is one."""
    name = cookie_name(request)
    request.app[AUTHORIZATION].logins.end(request.cookies.get(name, ""))
    response = web.Response(status=HTTPStatus.NO_CONTENT)
    response.del_cookie(name, path="/", secure=request.secure, httponly=True, samesite="Strict")
    return response


OPERATIONS: Final[tuple[Operation, ...]] = (
    raw(
        hdrs.METH_GET,
        LOGIN,
        get_login,
        summary="The page where one logs in",
        tag=_TAG,
        asks=parameters.Probe,
        answers={HTTPStatus.OK: "text/html", HTTPStatus.SEE_OTHER: None},
    ),
    raw(
        hdrs.METH_POST,
        LOGIN,
        post_login,
        summary="Log in with a token: sets a cookie",
        tag=_TAG,
        asks=parameters.Nothing,
        takes=Credentials,
        answers={HTTPStatus.OK: Login},
        problems=[HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS],
    ),
    raw(
        hdrs.METH_POST,
        "/logout",
        post_logout,
        summary="Log out",
        tag=_TAG,
        asks=parameters.Nothing,
        answers={HTTPStatus.NO_CONTENT: None},
    ),
)
