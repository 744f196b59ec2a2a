"""`/health` and `/readyz` say whether the daemon works; `/livez` only says that it answers."""

from dataclasses import asdict
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from aiohttp import web

from ingestd.errors import StoreError
from ingestd.http.authorization import may_read
from ingestd.http.services import SERVICES
from ingestd.http.shapes import answer, rfc3339


async def get_health(request: web.Request) -> web.Response:
    """200 while readings can flow from the broker to the database, else 503 with the reason.

    Without a token, where tokens are used, the status alone.
    """
    return await _health(request, is_whole=may_read(request))


async def get_readyz(request: web.Request) -> web.Response:
    """The same, always with the status alone."""
    return await _health(request, is_whole=False)


async def _health(request: web.Request, *, is_whole: bool) -> web.Response:
    services = request.app[SERVICES]
    condition = services.condition()
    database_reason = condition.database_reason
    if database_reason is None:
        try:
            await services.ping()
        except StoreError as error:
            database_reason = str(error)
    is_healthy = condition.is_ready and database_reason is None
    age = condition.last_commit_age
    status = "standby" if condition.is_standby else "healthy" if is_healthy else "unhealthy"
    code = HTTPStatus.OK if is_healthy else HTTPStatus.SERVICE_UNAVAILABLE
    if not is_whole:
        return answer({"status": status}, code)
    return answer(
        {
            "status": status,
            "database": database_reason or "connected",
            "broker": condition.broker_reason or "connected",
            "stopping": condition.is_stopping,
            "lastCommitAgeSeconds": round(age, 3) if age is not None else None,
            "bufferedMessages": condition.buffered_messages,
            "lastErrors": [asdict(one) for one in services.last_errors()],
            "timestamp": rfc3339(datetime.now(UTC)),
        },
        code,
    )


async def get_livez(_: web.Request) -> web.Response:
    return answer({"status": "alive"})


ROUTES: Final[tuple[web.RouteDef, ...]] = (
    web.get("/health", get_health),
    web.get("/readyz", get_readyz),
    web.get("/livez", get_livez),
)
