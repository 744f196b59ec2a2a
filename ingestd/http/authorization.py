"""Who may ask what: a token for each request, where tokens are used. All refusals look the same (RFC 6750)."""

from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final, Literal

from aiohttp import hdrs, web
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from ingestd.http import problems
from ingestd.http.addresses import network_of
from ingestd.http.intake import MaySend
from ingestd.http.logins import Logins
from ingestd.http.pages import is_asked_for
from ingestd.http.problems import Handler
from ingestd.http.scopes import ACCESS, Access
from ingestd.model.token import Token, recognized
from ingestd.tokens import TokensFile

MAX_FAILURES: Final = 20
"""Failures of one address in a minute. Further ones are answered with 429; a valid token is always answered."""
_BEARER: Final[dict[str, str]] = {hdrs.WWW_AUTHENTICATE: "Bearer"}
_RETRY_AFTER: Final[dict[str, str]] = {hdrs.RETRY_AFTER: "60"}
_TOKEN: Final = web.RequestKey("token", Token)
_COOKIE: Final = "ingestd"
LOGIN: Final = "/login"


class NotAllowedError(Exception):
    """The token of the request has the scope, but is not for this device."""


class Authorization:
    """The tokens that are known now, and the addresses that failed lately."""

    def __init__(self, tokens: Mapping[str, Token] | None) -> None:
        """`tokens` is None if none are used: then everybody may do everything."""
        self._tokens = tokens
        self._limit = RateLimitItemPerMinute(MAX_FAILURES)
        self._failures = FixedWindowRateLimiter(MemoryStorage())
        self.logins = Logins()

    def read_again(self, file: TokensFile) -> str:
        """From now on the tokens of the file are known. Returns their number, in words. Raises ConfigError."""
        self._tokens = file.read()
        return f"{len(self._tokens)} tokens"

    @property
    def is_required(self) -> bool:
        return self._tokens is not None

    def token(self, request: web.Request) -> Token | None:
        """The token that a request shows, or of its login, if it is valid. A header wins over a cookie."""
        if hdrs.AUTHORIZATION not in request.headers:
            return self._of_login(request)
        kind, _, text = request.headers[hdrs.AUTHORIZATION].partition(" ")
        return self.recognize(text.strip()) if kind.lower() == "bearer" else None

    def recognize(self, text: str) -> Token | None:
        """The token of this text, if it is valid."""
        return recognized(text, self._tokens or {}, now=datetime.now(UTC))

    def _of_login(self, request: web.Request) -> Token | None:
        token_id = self.logins.token_id(request.cookies.get(cookie_name(request), ""))
        token = None if token_id is None else (self._tokens or {}).get(token_id)
        return token if token is not None and token.is_valid(datetime.now(UTC)) else None

    def has_failed_too_often(self, remote: str | None) -> bool:
        """Counts one failure of this address."""
        return not self._failures.hit(self._limit, network_of(remote))


AUTHORIZATION: Final = web.AppKey("authorization", Authorization)


@web.middleware
async def authorize(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Lets those requests through that show a token with the scope of their route."""
    authorization = request.app[AUTHORIZATION]
    access = _access(request)
    is_shown = hdrs.AUTHORIZATION in request.headers or cookie_name(request) in request.cookies
    if not authorization.is_required or access == "open" or (access == "partly-open" and not is_shown):
        return await handler(request)
    token = authorization.token(request)
    if token is None:
        if _is_page(request):
            raise web.HTTPSeeOther(LOGIN)
        return refused(request)
    if access not in {"any", "partly-open", *token.scopes}:
        return _forbidden()
    request[_TOKEN] = token
    try:
        return await handler(request)
    except NotAllowedError:
        return _forbidden()


def refused(request: web.Request) -> web.Response:
    """The answer to a request without a valid token. Counts a failure of its address."""
    too_often = request.app[AUTHORIZATION].has_failed_too_often(request.remote)
    return _too_many_failures() if too_often else _unauthorized()


def cookie_name(request: web.Request) -> str:
    """With TLS no page of a neighbouring host can set a cookie of this name (RFC 6265bis §4.1.3.2)."""
    return f"__Host-{_COOKIE}" if request.secure else _COOKIE


def _is_page(request: web.Request) -> bool:
    """Somebody opens the page in a browser, and is not logged in."""
    return request.path == "/" and is_asked_for(request) and hdrs.AUTHORIZATION not in request.headers


def may_read(request: web.Request) -> bool:
    """Whether the client of a route that is partly open may read what others must not."""
    token = request.get(_TOKEN)
    return not request.app[AUTHORIZATION].is_required or (token is not None and "read" in token.scopes)


def may_go_on(request: web.Request) -> bool:
    """Whether a request whose answer goes on would still be let through: its token may be revoked meanwhile."""
    authorization = request.app[AUTHORIZATION]
    if not authorization.is_required:
        return True
    token = authorization.token(request)
    return token is not None and _access(request) in token.scopes


def may_send(request: web.Request) -> MaySend:
    """For which devices a client may send readings."""
    token = request.get(_TOKEN)
    return _all_devices if token is None else token.may_send  # without tokens, everybody may


def who(request: web.Request) -> str:
    """Who makes this request, for the audit. Without tokens, an address is all that is known."""
    token = request.get(_TOKEN)
    return f"address {request.remote}" if token is None else f"token {token.name} ({token.id})"


def client_of(request: web.Request) -> str:
    """By what clients are told apart where each has a share: the token, or the address where there is none."""
    token = request.get(_TOKEN)
    return request.remote or "" if token is None else token.id


def _all_devices(_stream: str, _device_id: str) -> bool:
    return True


def _access(request: web.Request) -> Access | Literal["any", "nobody"]:
    """`any`: the answer is 404 or 405. `nobody`: a route that was forgotten in ACCESS."""
    resource = request.match_info.route.resource
    if resource is None:
        return "any"
    method = hdrs.METH_GET if request.method == hdrs.METH_HEAD else request.method
    return ACCESS.get((method, resource.canonical), "nobody")


def _unauthorized() -> web.Response:
    return problems.response(HTTPStatus.UNAUTHORIZED, "a valid token is needed", _BEARER)


def _forbidden() -> web.Response:
    return problems.response(HTTPStatus.FORBIDDEN, "the token does not allow this", _BEARER)


def _too_many_failures() -> web.Response:
    return problems.response(HTTPStatus.TOO_MANY_REQUESTS, "too many requests without a valid token", _RETRY_AFTER)
