"""The route of the audit."""

from typing import Any, Final, get_args

from aiohttp import web

from ingestd.http import parameters
from ingestd.http.heavy import heavy
from ingestd.http.services import SERVICES
from ingestd.http.shapes import page, rfc3339
from ingestd.model.audit import Action, AuditFilter


@heavy
async def get_audit(request: web.Request) -> web.Response:
    """The newest first, by pages: `next` is the `before` of the page that follows, null at the end."""
    query = parameters.Query(request, {"action", "subject", "startTime", "endTime", "limit", "before"})
    action, subject = query.choice("action", get_args(Action)), query.text("subject")
    since, until = query.since_until()
    limit, before = query.page()
    wanted = AuditFilter(action=action, subject=subject, since=since, until=until)
    entries = await request.app[SERVICES].audit(wanted, limit=limit, before=before)
    return page("audit", entries, limit=limit, shape=_shape)


def _shape(entry: Any) -> dict[str, object]:  # noqa: ANN401 - a row of the table
    return {
        "id": entry.id,
        "at": rfc3339(entry.at),
        "who": entry.who,
        "action": entry.action,
        "subject": entry.subject,
        "before": entry.before,
        "after": entry.after,
    }


ROUTES: Final[tuple[web.RouteDef, ...]] = (web.get("/v1/audit", get_audit),)
