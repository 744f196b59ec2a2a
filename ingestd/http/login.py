"""The page where one logs in with a token. A cookie names the login of a browser."""

from http import HTTPStatus
from typing import Final

from aiohttp import web

from ingestd.http import pages, parameters
from ingestd.http.authorization import AUTHORIZATION, cookie_name, refused
from ingestd.http.logins import SECONDS
from ingestd.http.shapes import answer


class Credentials(parameters.StrictBody):
    """The body of POST /login."""

    token: str


async def get_login(request: web.Request) -> web.Response:
    return pages.page(request, "login.html")


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


ROUTES: Final[tuple[web.RouteDef, ...]] = (
    web.get("/login", get_login),
    web.post("/login", post_login),
    web.post("/logout", post_logout),
)
