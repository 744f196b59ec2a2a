"""The route of alerts."""

from typing import Final

from aiohttp import web

from ingestd.http import parameters
from ingestd.http.services import SERVICES
from ingestd.http.shapes import page
from ingestd.model.alert import KINDS, Alert, AlertFilter, State

_STATES: Final[dict[str, State]] = {"active": "active", "past": "cleared"}


async def get_alerts(request: web.Request) -> web.Response:
    """Active and past ones, the newest first, by pages: `next` is the `before` of the page that follows."""
    query = parameters.Query(request, {"state", "kind", "device", "limit", "before"})
    state = query.choice("state", tuple(_STATES))
    wanted = AlertFilter(
        state=_STATES[state] if state else None,
        kind=query.choice("kind", KINDS),
        subject=query.identity("device"),
    )
    limit, before = query.page()
    alerts = await request.app[SERVICES].alerts(wanted, limit=limit, before=before)
    return page("alerts", alerts, limit=limit, shape=Alert.described)


ROUTES: Final[tuple[web.RouteDef, ...]] = (web.get("/v1/alerts", get_alerts),)
