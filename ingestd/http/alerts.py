"""The route of alerts."""

from typing import Final

from aiohttp import web

from ingestd.http import parameters
from ingestd.http.ports import ALERTS
from ingestd.http.shapes import answer
from ingestd.model.alert import KINDS, AlertFilter, State

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
    limit = query.number("limit", default=100, lowest=1, highest=1000)
    alerts = await request.app[ALERTS].page(
        wanted, limit=limit, before=query.number("before", default=None, lowest=1, highest=2**63 - 1)
    )
    return answer(
        {
            "alerts": [alert.described() for alert in alerts],
            "next": alerts[-1].id if len(alerts) == limit else None,
        }
    )


ROUTES: Final = (web.get("/v1/alerts", get_alerts),)
