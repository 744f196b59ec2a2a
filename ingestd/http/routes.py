"""The routes of DESIGN §6: each reads its parameters, asks one port, and shapes the answer."""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final, get_args

from aiohttp import web

from ingestd import __version__
from ingestd.errors import StoreError
from ingestd.http import alerts, analytics, device_settings, devices, exports, mappings, parameters, shapes
from ingestd.http.bodies import BODIES, TELEMETRY
from ingestd.http.heavy import heavy
from ingestd.http.ports import CONDITION, DEAD_LETTERS, EXPOSITION, INTAKE, PING
from ingestd.http.problems import Problem, bad_parameter
from ingestd.model.dead_letter import DeadLetterFilter, Reason


async def post_telemetry(request: web.Request) -> web.Response:
    """One reading or an array of them; 201 after the commit."""
    request.app[INTAKE].admit()  # before the body is in memory
    async with request.app[BODIES].read(request, TELEMETRY) as body:
        receipt = await request.app[INTAKE].submit(body)
    if receipt.rejected and receipt.single:
        (rejected,) = receipt.rejected
        too_large = rejected["reason"] == "too-large"
        raise Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE if too_large else HTTPStatus.UNPROCESSABLE_ENTITY,
            rejected["detail"],
            reason=rejected["reason"],
        )
    return shapes.answer(
        {"accepted": receipt.accepted, "duplicates": receipt.duplicates, "rejected": receipt.rejected},
        HTTPStatus.CREATED,
    )


@heavy
async def get_dead_letters(request: web.Request) -> web.Response:
    """The newest first, by pages: `next` is the `before` of the page that follows, null at the end."""
    query = parameters.Query(request, {"reason", "device", "startTime", "endTime", "limit", "before"})
    wanted = DeadLetterFilter(
        reason=query.choice("reason", get_args(Reason)),
        device=query.identity("device"),
        since=query.moment("startTime"),
        until=query.moment("endTime"),
    )
    if wanted.since and wanted.until and wanted.since >= wanted.until:
        raise bad_parameter("endTime", "must be later than startTime")
    limit = query.number("limit", default=100, lowest=1, highest=1000)
    letters = await request.app[DEAD_LETTERS].page(
        wanted, limit=limit, before=query.number("before", default=None, lowest=1, highest=2**63 - 1)
    )
    return shapes.answer(
        {
            "deadLetters": [shapes.dead_letter(letter) for letter in letters],
            "next": letters[-1].id if len(letters) == limit else None,
        }
    )


async def get_health(request: web.Request) -> web.Response:
    """200 while readings can flow from the broker to the database, else 503 and what is in the way."""
    condition = request.app[CONDITION]()
    store_trouble = condition.store_trouble
    if store_trouble is None:
        try:
            await request.app[PING]()
        except StoreError as error:
            store_trouble = str(error)
    healthy = not (condition.stopping or condition.standby or store_trouble or condition.broker_trouble)
    age = condition.last_commit_age
    return shapes.answer(
        {
            "status": "standby" if condition.standby else "healthy" if healthy else "unhealthy",
            "database": store_trouble or "connected",
            "broker": condition.broker_trouble or "connected",
            "stopping": condition.stopping,
            "lastCommitAgeSeconds": round(age, 3) if age is not None else None,
            "bufferedMessages": condition.buffered_messages,
            "timestamp": shapes.moment(datetime.now(UTC)),
        },
        HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE,
    )


async def get_livez(_: web.Request) -> web.Response:
    return shapes.answer({"status": "alive"})


async def get_metrics(request: web.Request) -> web.Response:
    return web.Response(
        body=request.app[EXPOSITION](),
        headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
    )


async def get_index(_: web.Request) -> web.Response:
    """For whoever opens the address in a browser: what this is, and where to go on."""
    return shapes.answer({"service": "ingestd", "version": __version__, "routes": [str(r.path) for r in ROUTES]})


ROUTES: Final[tuple[web.RouteDef, ...]] = (
    web.get("/", get_index),
    web.post("/v1/telemetry", post_telemetry),
    *analytics.ROUTES,
    *device_settings.ROUTES,
    *mappings.ROUTES,
    *devices.ROUTES,
    *exports.ROUTES,
    web.get("/v1/dead-letters", get_dead_letters),
    *alerts.ROUTES,
    web.get("/health", get_health),
    web.get("/livez", get_livez),
    web.get("/metrics", get_metrics),
)
